"""`edvit study retraining`: three runs of a recipe, which share what comes out the same, and the
table over them.
"""

import json
import shutil
import subprocess
import threading

import numpy as np
import pytest

from edvit_tf.cli.main import main
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.pipeline.description import READ_BY_MEMBERS, differing
from edvit_tf.pipeline.work_folder import stored_record
from edvit_tf.study import recipe_run
from edvit_tf.study import retraining as making
from edvit_tf.study.retraining import (
    WAYS,
    retraining,
    retraining_html,
    retraining_text,
    rows_of,
)
from tests.support.commands import SMOKE, run_host


@pytest.fixture(scope="module")
def joint(smoke_bundle, tmp_path_factory):
    """The smoke run, trained on as a whole, from the stages of the one that was not; its output."""
    out = tmp_path_factory.mktemp("joint") / "mnist"
    work = smoke_bundle.with_name("mnist.work")
    done = run_host(*SMOKE, "--fusion", "joint", "--reuse", work, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_a_run_that_is_fused_otherwise_takes_all_fits(smoke_bundle, joint):
    out, said = joint
    work, theirs = out.with_name("mnist.work"), smoke_bundle.with_name("mnist.work")
    for stage in ("base", "submodel-00.ffn", "submodel-01.ffn", "single.ffn"):
        assert f"[{stage}] taken from" in said
        assert (work / stage / "weights.npz").samefile(theirs / stage / "weights.npz")
    # what comes after them is made anew
    assert "[fusion] taken" not in said and "[joint] " in said
    before, after = (
        np.load(work / name)["block_00.mlp.expand.kernel"]
        for name in ("submodel-00.ffn/weights.npz", "joint/submodel-00.npz")
    )
    assert (before != after).any()


def test_fits_are_those_of_all_but_the_fusion(smoke_bundle):
    work = smoke_bundle.with_name("mnist.work")
    made_from = stored_record(work)["description"]

    def changed(**fields):
        config = {**made_from["config"], **fields}
        return differing(work, {**made_from, "config": config}, READ_BY_MEMBERS)

    fit = made_from["config"]["stage_training"]
    assert changed() == []
    assert changed(fusion="joint", joint_training=fit, missing_rate=0.5, name="x") == []
    assert changed(calibration_samples=7) == ["config.calibration_samples: 16 -> 7"]
    assert changed(strategy="similar") and changed(stage_training={**fit, "epochs": 9})


def test_the_table_is_what_the_bundles_store(smoke_bundle, joint):
    rows = rows_of({"frozen": smoke_bundle, "joint": joint[0], "own": smoke_bundle})
    assert [row["way"] for row in rows] == list(WAYS)
    average, frozen, trained, own = rows
    stored = json.loads((smoke_bundle / "results.json").read_text())["fusion"]
    assert frozen["accuracy"] == stored["tflite"]["recording"] == own["accuracy"]
    assert average["accuracy"] == stored["average"]["recording"]
    assert trained["fusion"] == "joint" and frozen["fusion"] == "tower"
    assert frozen["difference"] is None and own["difference"] == 0 and own["p_value"] == 1
    for row in (average, trained):
        assert row["difference"] == pytest.approx(row["accuracy"] - frozen["accuracy"])
        assert row["low"] <= row["difference"] <= row["high"]
    assert trained["training_macs"] > frozen["training_macs"]

    text = retraining_text(rows)
    assert "SYNTHETIC stand-in" in text and "classes, joint" in text
    assert max(map(len, text.splitlines())) <= 118
    several = [*rows, *({**row, "seed": 1, "accuracy": row["accuracy"] + 0.02} for row in rows)]
    assert "Over 2 seeds: softmax average" in " ".join(retraining_text(several).split())
    html = retraining_html([{**row, "data": "<d>"} for row in rows])
    assert "&lt;d&gt;" in html and "<d>" not in html and html.count("<svg") == 1
    rows[0]["accuracy"] = float("nan")
    assert "nan" in retraining_html(rows)


def test_a_way_that_was_not_run_has_no_row(smoke_bundle):
    assert [row["way"] for row in rows_of({"own": smoke_bundle})] == ["own"]
    assert [row["way"] for row in rows_of({"frozen": smoke_bundle})] == ["average", "frozen"]


def test_bundles_of_other_test_data_are_refused(smoke_bundle, tmp_path):
    other = shutil.copytree(smoke_bundle, tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["data"]["splits"]["test"]["recordings"] += 1
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OutputError, match="have other test data; give bundles of one recipe"):
        rows_of({"frozen": smoke_bundle, "joint": other})


def test_three_runs_a_seed_each_from_the_first(tmp_path, monkeypatch, smoke_bundle):
    started = []

    def start(command, **settings):
        started.append([str(word) for word in command[2:]])
        out = command[command.index("--out") + 1]
        shutil.copytree(smoke_bundle, out)
        (tmp_path / "out" / f"{out.rpartition('/')[2]}.work").mkdir()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(recipe_run.subprocess, "run", start)
    recipe = tmp_path / "r.py"
    recipe.touch()
    out = tmp_path / "out"
    rows = retraining(recipe, out, devices=2, seeds=(0, 3), options=("--smoke",))
    assert len(rows) == 8 and len(started) == 6
    shared = ["--fleet", "classes", "--views", "none"]
    first = ["--out", str(out / "seed-0-frozen"), "--seed", "0", *shared, "--fusion", "tower"]
    assert started[0] == [*first, "--devices", "2", "--smoke"]
    assert started[1][2:] == [
        *("--seed", "0", *shared, "--fusion", "joint", "--devices", "2", "--smoke"),
        *("--reuse", str(out / "seed-0-frozen.work")),
    ]
    assert started[2][2:6] == ["--seed", "0", "--devices", "2"] and "--fleet" not in started[2]
    assert started[3][1].endswith("seed-3-frozen") and "--reuse" not in started[3]


def test_two_runs_go_on_at_once_and_hand_their_members_to_one_cluster(
    tmp_path, monkeypatch, smoke_bundle
):
    started, looked = [], []
    both = threading.Barrier(2)

    def start(command, env, **settings):
        started.append((command, env.get("TF_NUM_INTRAOP_THREADS")))
        out = command[command.index("--out") + 1]
        if not out.endswith("frozen"):
            both.wait(60)  # neither would end without the other
        shutil.copytree(smoke_bundle, out)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    monkeypatch.setattr(recipe_run.subprocess, "run", start)
    monkeypatch.setattr(making, "check_engine", lambda jobs, ray: looked.append((jobs, ray)))
    recipe = tmp_path / "r.py"
    recipe.touch()
    assert len(retraining(recipe, tmp_path / "out", jobs=2, ray="192.0.2.1:6379")) == 4
    assert looked == [(1, "192.0.2.1:6379")] and len(started) == 3
    for command, threads in started:
        assert command[command.index("--ray") + 1] == "192.0.2.1:6379" and threads == "7"


def test_what_the_runs_differ_in_is_not_for_the_recipe(tmp_path, capsys):
    recipe = tmp_path / "r.py"
    recipe.touch()
    for word in ("--fusion", "--fleet=copies", "--out"):
        with pytest.raises(ConfigError, match=f"{word} is not for the recipe here"):
            retraining(recipe, tmp_path / "out", options=(word,))
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="not a file"):
        retraining(tmp_path / "none.py", tmp_path / "out")

    # what follows -- is not ours
    words = ["study", "retraining", str(recipe), "--out", str(tmp_path / "out")]
    assert main([*words, "--", "--fusion", "joint"]) == 3
    assert "--fusion is not for the recipe here" in capsys.readouterr().err
    recipe.write_text("import sys\nprint('a broken recipe')\nsys.exit(5)\n")
    assert main(words) == 6
    said = capsys.readouterr().err
    assert "seed-0-frozen ended with 5: a broken recipe" in said
