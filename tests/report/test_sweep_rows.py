"""The rows of a sweep, from made-up bundles: each compares by recording, and old ones by
accuracies.
"""

import json
from pathlib import Path

from edvit_tf.evaluation.paired import mcnemar, paired_interval
from edvit_tf.report.sweep import sweep_page, sweep_row, sweep_text
from tests.support.made_figures import figures


def row_of(folder: Path, seed: int, counts: tuple[int, int] | None) -> dict:
    """A bundle whose fleet and single model are right alone on so many of 200 recordings; None:
    results of a version that did not store it.
    """
    manifest, results = figures(0.65, 0.6)
    results["seed"] = seed
    if counts is not None:
        low, high = paired_interval(*counts, 200)
        results["comparisons"] = {
            "single": {
                "recordings": 200,
                "first_only": counts[0],
                "second_only": counts[1],
                "difference": (counts[0] - counts[1]) / 200,
                "low": low,
                "high": high,
                "p_value": mcnemar(*counts),
            }
        }

    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return sweep_row(folder)


def test_each_run_is_better_worse_or_cannot_be_told_apart(tmp_path):
    runs = [(20, 4), (4, 20), (12, 10), None]
    rows = [row_of(tmp_path / str(seed), seed, counts) for seed, counts in enumerate(runs)]
    states = [row["comparisons"]["single"]["state"] for row in rows]
    assert states == ["better", "worse", "cannot be told apart", "cannot be told apart"]
    assert rows == json.loads(json.dumps(rows))  # plain JSON

    for text in (sweep_text(rows), sweep_page("x", rows, "y")):
        assert (
            "Fleet against the single model, by recording: better in 1, worse in 1, cannot be told "
            "apart in 2 of 4 runs." in text
        )
        # +8, -8, +1 and (by accuracies) +5 points
        assert "less the single model +1.50 +- 6.95 points" in text
        assert "p = 0.0015" in text and "p = 0.83" in text
