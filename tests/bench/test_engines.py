"""`edvit bench engines`: each way of starting is a row, and both interfaces answer alike."""

import json

from edvit_tf.bench import engines
from tests.support.commands import run_host


def test_starts_and_inferences_of_a_bundles_own_file(tiny_bundle):
    words = ("-m", "edvit_tf.cli", "bench", "engines", tiny_bundle)
    done = run_host(*words, "--threads", "1", "--turns", "2", "--runs", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["file"], result["turns"], result["runs"]) == ("submodel-00.tflite", 2, 3)

    starts = {row["way"]: row for row in result["starts"]}
    assert list(starts)[-3:] == [engines.INTERPRETER, engines.COMPILED, engines.CACHED]
    assert starts[engines.CACHED]["cache_bytes"] > 0
    assert starts[engines.COMPILED]["cache_bytes"] is None
    for row in starts.values():
        assert 0 < row["load_ms"]["min"] <= row["load_ms"]["median"] <= row["load_ms"]["max"]
        assert row["start_ms"]["min"] > row["load_ms"]["min"] and row["peak_rss_mib"]["min"] > 10

    [row] = result["inferences"]
    assert row["equal"] and row["threads"] == 1
    assert 0 < row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]


def test_the_table_says_where_answers_differ():
    spread = {"median": 2.0, "min": 1.0, "max": 3.0}
    start = {"way": engines.CACHED, "cache_bytes": 4096, **dict.fromkeys(engines.STARTED, spread)}
    times = {"median_ms": 1.5, "p95_ms": 2.5, "least_ms": 1.0}
    row = {"threads": 2, "equal": False, "ratio": spread}
    row |= {engines.INTERPRETER: times, engines.COMPILED: times}
    text = engines.engines_text(
        {
            "file": "a.tflite",
            "file_bytes": 10,
            "turns": 1,
            "runs": 1,
            "load_average": [0.5],
            "starts": [start],
            "inferences": [row],
        }
    )
    assert "2.0 (1.0-3.0)" in text and "4,096 bytes" in text
    assert "2.000 (1.000-3.000)" in text and "DIFFER" in text and "load average" in text
