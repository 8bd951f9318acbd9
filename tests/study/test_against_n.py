"""`edvit study against-n`: planned sizes, measured files, and accuracies of runs that are given."""

import json

import pytest

from edvit_tf.cli.main import main
from edvit_tf.errors import ConfigError, PlanError
from edvit_tf.models import preset
from edvit_tf.study.against_n import (
    accuracies,
    against_n,
    against_n_html,
    against_n_text,
    speedups,
)
from edvit_tf.study.flops import bases
from edvit_tf.study.page import page
from edvit_tf.study.timed import timed

SMOKE = {"vit_smoke": preset("vit_smoke", (32, 32, 3), 4)}


def test_plans_are_those_of_the_papers_budgets():
    rows = against_n(bases(["vit_small", "vit_base", "vit_large"]))
    kept = {(row["model"], row["devices"]): row["kept"] for row in rows}
    for name, heads in {
        "vit_small": [6, 4, 3, 2, 2, 1],
        "vit_base": [12, 8, 6, 4, 3, 2],
        "vit_large": [16, 11, 8, 6, 4, 2],
    }.items():
        assert [kept[name, n] for n in (None, 1, 2, 3, 5, 10)] == heads
    for row in rows:
        assert row["budget_bytes"] is None or row["total_bytes"] <= row["budget_bytes"]

    # of ViT-Base on ten devices
    last = rows[11]
    assert (last["file_bytes"], last["macs"]) == (10_058_204, 484_049_152)
    assert last["total_bytes"] == 10 * last["file_bytes"]


def test_a_budget_that_nothing_fits_is_refused():
    with pytest.raises(PlanError, match="budget"):
        against_n(SMOKE, (2,), {"vit_smoke": 1000})


@pytest.fixture(scope="module")
def measured():
    return speedups(timed(against_n(SMOKE, (1, 2)), runs=2, turns=2))


def test_every_runtime_is_timed_on_an_exported_file(measured):
    from edvit_tf.device.model.runtime import installed_runtimes

    assert [row["devices"] for row in measured] == [None, 1, 2]
    for row in measured:
        # the plan's bytes are those of the file, at most
        assert row["file_bytes"] - 8192 < row["exported_bytes"] <= row["file_bytes"]
        assert [name.split()[0] for name in row["measured"]] == list(installed_runtimes())
        for figures in row["measured"].values():
            assert 0 < figures["median_ms"] <= figures["p95_ms"] and len(figures["turns_ms"]) == 2
            assert figures["peak_rss_bytes"] > 10 << 20 and figures["threads"] == 1
    # without a budget the one device holds the unsplit model: one file, measured once
    assert measured[0]["measured"] == measured[1]["measured"]
    assert all(one["speedup"] == 1 for one in measured[0]["measured"].values())
    json.dumps(measured)


def test_tables_and_page_of_what_was_measured(measured):
    text = against_n_text(measured)
    assert "2 alternating turns of 2 runs" in text and "unsplit" in text
    assert max(map(len, text.splitlines())) <= 118
    html = page("a <title>", against_n_html(measured), ["edvit", "x y"])
    runtimes = len(measured[0]["measured"])
    assert html.count("<svg") == 3 + 2 * runtimes and "edvit &#x27;x y&#x27;" in html
    assert "<h1>a &lt;title&gt;</h1>" in html


def test_of_a_single_n_there_is_the_table_and_no_picture_of_a_dot():
    html = page("x", against_n_html(against_n(SMOKE, (2,))))
    assert "<svg" not in html and html.count("vit_smoke") == 2


def test_failed_and_endless_figures_are_told_and_not_drawn(measured):
    first, *others = measured
    wrong = {
        "a": {"failure": "it <died>", "threads": 1, "runs": 2, "turns": 2},
        "b": {**next(iter(first["measured"].values())), "median_ms": float("inf")},
    }
    rows = speedups([{**row, "measured": wrong} for row in (first, *others)])
    html = page("x", against_n_html(rows))
    assert "FAILED: it &lt;died&gt;" in html and "nothing to draw: vit_smoke at 1: inf" in html
    assert "FAILED: it <died>" in against_n_text(rows)
    json.dumps(rows)


def test_a_runtime_that_is_not_installed_is_named():
    with pytest.raises(ConfigError, match="onnx cannot be measured here; installed: "):
        timed(against_n(SMOKE, (1,)), runtimes=("onnx",))


def _sweep(folder, shares):
    folder.mkdir()
    rows = []
    for count, seed, share in shares:
        models = {"fused": {"accuracy": share}, "base": {"accuracy": 0.9}}
        rows.append(
            {
                **dict(devices=count, seed=seed, models=models, data="x<y"),
                **dict(synthetic=True, recordings=40),
            }
        )
    (folder / "sweep.json").write_text(json.dumps(rows))
    return folder


def test_accuracies_of_a_sweep_stand_beside_the_plan(tmp_path, capsys):
    folder = _sweep(tmp_path / "run&1", [(1, 0, 0.8), (2, 0, 0.6), (2, 1, 0.7)])
    assert accuracies([folder]) == accuracies([folder / "sweep.json"])
    runs = accuracies([folder])
    assert [row["accuracy"] for row in runs] == [0.8, 0.6, 0.7] and runs[0]["run"] == "run&1"
    html = page("x", against_n_html(against_n(SMOKE, (1, 2)), runs))
    assert "run&amp;1, N = 2: 65</title>" in html and "SYNTHETIC DATA" in html
    assert "x&lt;y (SYNTHETIC)" in html and "x<y" not in html

    words = ["study", "against-n", "--models", "vit_smoke", "--image-size", "32", "--devices", "1"]
    assert main([*words, "--accuracy", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == runs and len(found["models"]) == 2
    assert main([*words, "--accuracy", str(tmp_path)]) == 3
    assert "give the folder of `edvit sweep`" in capsys.readouterr().err


def test_accuracy_of_a_bundle(smoke_bundle):
    (row,) = accuracies([smoke_bundle])
    results = json.loads((smoke_bundle / "results.json").read_text())
    assert row["accuracy"] == results["fusion"]["tflite"]["recording"]
    assert row["devices"] == 2 and row["run"] == smoke_bundle.name


def test_budgets_are_read_and_belong_to_models(capsys):
    words = ["study", "against-n", "--models", "vit_base", "--devices", "10", "--json"]
    assert main([*words, "--budgets", "vit_base=60MiB"]) == 0
    row = json.loads(capsys.readouterr().out)["models"][1]
    assert row["budget_bytes"] == 60 * 2**20 and row["total_bytes"] <= 60 * 2**20
    assert main([*words, "--budgets", "vit_small=60MiB"]) == 3
    assert "--budgets names vit_small" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--budgets", "vit_base=60"])
