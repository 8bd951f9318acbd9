"""The rows of a sweep, from made-up bundles: each compares by recording, and old ones by
accuracies.
"""

import base64
import csv
import io
import json
import re
from pathlib import Path

import pytest

from edvit_tf.evaluation.paired import mcnemar, paired_interval
from edvit_tf.report.sweep import sweep_page, sweep_row, sweep_text
from edvit_tf.report.sweep_csv import sweep_csv
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

    for text in (sweep_text(rows, 400), sweep_page("x", rows, "y")):
        assert (
            "Fleet against the single model, by recording: better in 1, worse in 1, cannot be told "
            "apart in 2 of 4 runs." in text
        )
        # +8, -8, +1 and (by accuracies) +5 points
        assert "less the single model +1.50 +- 6.95 points" in text
        assert "p = 0.0015" in text and "p = 0.83" in text


def test_two_training_budgets_are_a_curve_and_rows_of_their_own(tmp_path):
    rows = []
    for seed in (0, 1):
        for epochs, share in (("4e", 0.5), ("16e", 0.7 + seed / 10)):
            row = row_of(tmp_path / f"{seed}-{epochs}", seed, (20, 4))
            row["models"]["fused"]["accuracy"] = share
            rows.append(row | {"budget": epochs})

    html = sweep_page("x", rows, "y")
    assert "<h2>Against the number of devices and the training budget</h2>" in html
    # the word has its place within the figure
    assert re.search(r'<text class="dim" x="0" y="\d+">epochs</text>', html)
    assert "N = 3, random, against the training budget" in html
    # the mean of the seeds, at the epochs of the budget
    assert "fleet, fused, epochs = 4: 50</title>" in html
    assert "fleet, fused, epochs = 16: 75</title>" in html
    assert "Test accuracy, %, budget 4e" in html and "Test accuracy, %, budget 16e" in html
    text = sweep_text(rows, 400)
    assert "N = 3, 16e: 75.00 +- 7.07 % (2 seeds)" in text and "N = 3, 4e: 50.00" in text

    # a budget that changes the kind of a fleet that was left to the run is on the same curve, and
    # what the kinds take is told of each
    for row in rows:
        row["strategy"] = "copies" if row["budget"] == "4e" else "joint"
    assert "against the training budget" not in sweep_page("x", rows, "y")
    html = sweep_page("x", [row | {"asked": "auto"} for row in rows], "y")
    assert "N = 3, the fleet left to the run, against the training budget" in html
    assert "fleet, fused, epochs = 4: 50</title>" in html
    assert "fleet, fused, epochs = 16: 75</title>" in html
    memory = "Files on the fullest device, MB, groups:"
    assert f"{memory} copies" in html and f"{memory} joint" in html

    # one budget has no curve, and rows of older versions have none
    assert "against the training budget" not in sweep_page("x", rows[:1], "y")
    assert row_of(tmp_path / "old", 0, None)["budget"] is None


def test_a_column_that_no_run_fills_is_left_out(tmp_path):
    rows = [row_of(tmp_path / str(seed), seed, (20, 4)) for seed in (0, 1)]
    text = sweep_page("x", rows, "y").replace("\n", " ")
    assert "fleet, or groups" in text and "single bytes" in text and "exact McNemar" in text
    for title in ("training budget", "copies, views", "not distilled", "of all files' size"):
        assert title not in text
        assert title.split()[-1] not in sweep_text(rows, 400).splitlines()[1]
    # one run that has it is enough
    html = sweep_page("x", [rows[0] | {"budget": "4e"}, rows[1]], "y")
    assert "training\nbudget" in html
    head = sweep_text([rows[0] | {"budget": "4e"}, rows[1]], 400).splitlines()
    assert "training" in head[0] and "budget" in head[1]


@pytest.mark.parametrize("width", [60, 80, 118, 400])
def test_the_table_of_a_terminal_fits_and_names_what_it_leaves_out(tmp_path, width):
    rows = [row_of(tmp_path / str(seed), seed, (20, 4)) for seed in (0, 1)]
    text = sweep_text(rows, width)
    assert max(map(len, text.splitlines())) <= width
    first, second = text.splitlines()[:2]
    assert first.split()[:3] == ["N", "fleet,", "or"] and second.split()[0] == "groups"
    assert "fused" in first
    whole = " ".join(text.split())
    said = "No room here, but in --json, sweep.csv and the page: "
    assert (said in whole) == (width < 200)
    if width < 200:
        # nothing is lost unnamed: a column is shown or told of
        told = whole[whole.index(said) + len(said) :]
        assert "worst" in first or "worst" in told
        assert "exact McNemar" in told or "McNemar" in second
    assert sweep_text(rows) == sweep_text(rows, 118)


def test_the_page_links_each_run_and_carries_its_figures_as_csv(tmp_path):
    rows = [row_of(tmp_path / f"seed <{seed}>", seed, (20, 4)) for seed in (0, 1)]
    html = sweep_page("x", rows, "edvit sweep 'a b.py' --seeds 0,1")
    assert html.count('<a href="seed%20%3C') == 2 and "%3C1%3E/report.html" in html
    assert ">edvit sweep &#x27;a b.py&#x27; --seeds 0,1</pre>" in html
    encoded = re.search(r'download="sweep.csv" href="data:text/csv;base64,([^"]*)"', html)[1]
    text = base64.b64decode(encoded).decode()
    assert text == sweep_csv(rows)

    read = list(csv.DictReader(io.StringIO(text)))
    assert [line["bundle"] for line in read] == ["seed <0>", "seed <1>"]
    assert float(read[1]["fused_accuracy"]) == 0.65 and read[1]["single_device_bytes"] == "41000"
    assert float(read[0]["fused_less_single_difference"]) == 0.08
    assert read[0]["fused_less_single_state"] == "better" and read[0]["budget"] == ""
    # a run without one of the models has nothing in its columns
    del rows[0]["models"]["single"], rows[0]["comparisons"]["single"]
    first, second = csv.DictReader(io.StringIO(sweep_csv(rows)))
    assert first["single_accuracy"] == "" != second["single_accuracy"]
