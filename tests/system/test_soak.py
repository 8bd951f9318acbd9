"""The soak and the steady run as commands, short; .ci/run calls the soak for two minutes."""

import json

from tests.support.commands import run_device


def test_a_short_soak(five_bundle, tmp_path):
    done = run_device(
        "-m",
        "tests.soak",
        "--minutes",
        "0.2",
        "--seed",
        "7",
        "--bundle",
        five_bundle,
        "--out",
        tmp_path / "soak.json",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["wrong"] == result["hangs"] == 0 and result["answered"] > 100
    assert 0 < result["degraded"] < result["answered"]
    assert sum(row["count"] for row in result["faults"].values()) >= 3


def test_a_soak_fails_when_answers_are_not_what_they_should_be():
    from tests.soak import _figures
    from tests.support.traffic import Row

    def failed(*rows):
        return _figures([good] * 2000 + list(rows), [], [good])["failed"]

    good = Row(0.0, 0.01, 0, "OK", frozenset(), True, {}, "")
    assert failed() == []
    assert failed(Row(0.0, 0.01, 0, "OK", frozenset({1}), False, {}, "")) == ["1 wrong answers"]
    assert failed(Row(0.0, 1.7, 0, "OK", frozenset(), True, {}, "")) == ["1 requests too late"]
    refused = Row(0.0, 0.01, 0, "UNAVAILABLE", None, True, {}, "why")
    assert failed(refused) == [] and failed(*[refused] * 3) == ["availability"]


def test_a_short_steady_run(tiny_bundle, tmp_path):
    done = run_device(
        "-m",
        "tests.steady",
        "--requests",
        "1000",
        "--bundle",
        tiny_bundle,
        "--out",
        tmp_path / "steady.json",
    )
    result = json.loads((tmp_path / "steady.json").read_text())
    assert result["wrong"] == result["not_whole"] == 0 and result["requests"] >= 1000, (
        done.stdout + done.stderr
    )
    assert [len(samples) for samples in result["processes"].values()] == [10, 10, 10]
