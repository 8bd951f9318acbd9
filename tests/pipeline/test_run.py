"""The whole run: its results, resuming after kills, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest

from edvit_tf.checked import digest
from edvit_tf.device.model.bundle import open_bundle, sha256
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.checks import preflight
from edvit_tf.pipeline.work_folder import lock, open_stages
from tests.support.commands import SMOKE, run_host
from tests.support.forked import HOST, ROOT, Forked


def _tflite(bundle):
    return {p.name: sha256(p) for p in sorted(bundle.glob("*.tflite"))}


def test_results_hold_every_figure(smoke_bundle):
    results = json.loads((smoke_bundle / "results.json").read_text())
    fused = results["fusion"]
    assert 0 <= fused["tflite"]["recording"] <= 1 and fused["tflite"]["recordings"] == 80
    assert all(entry["ok"] for entry in results["parity"].values())
    assert set(results["parity"]) == {"submodel-00", "submodel-01", "fused"}
    assert [s["stage"] for s in results["sub_models"][0]["stages"]] == [
        "head",
        "residual",
        "attention",
        "ffn",
    ]
    last, kept = (
        results["sub_models"][0]["stages"][-1]["config"],
        results["sub_models"][0]["kept_heads"],
    )
    assert (last["hidden_dim"], last["num_heads"], last["head_dim"]) == (
        12 * kept,
        kept,
        12,
    )  # mnist.py merges heads
    assert len(results["missing_one"]) == 2 and results["single"]["tflite"]["recordings"] == 80
    assert sum(map(sum, results["confusion"])) == 80
    for process in (results["base"]["process"], *(s["process"] for s in results["sub_models"])):
        assert process["tensorflow_loaded"] is False and process["invoke_ms"]["median"] > 0
    assert (
        results["single"]["config"]["hidden_dim"]
        == results["sub_models"][0]["stages"][-1]["config"]["hidden_dim"]
    )
    assert "SYNTHETIC" in (smoke_bundle / "report.html").read_text().upper()


def test_the_manifest_has_the_ranges_of_answers_to_real_inputs(smoke_bundle):
    bundle = open_bundle(smoke_bundle)
    validation = np.load(smoke_bundle.with_name("mnist.work") / "data" / "validation.npy")
    for entry in bundle.sub_models:
        answers = run_model(bundle.path / entry.file, {bundle.input.name: validation})[0]
        for features, logits in zip(answers["features"], answers["logits"], strict=True):
            assert entry.ranges.why_not(features[None], logits[None]) is None
        # what no input gives
        assert entry.ranges.why_not(0 * features[None], None) is not None
        assert entry.ranges.why_not(0 * features[None] + np.float32(3e38), None) is not None


def test_the_single_model_has_the_fleets_training(smoke_bundle):
    results = json.loads((smoke_bundle / "results.json").read_text())
    spent, batch = (
        results["training_macs"],
        3 * 16 * results["base"]["macs"],
    )  # the last of three fits is filled up
    assert results["fusion"]["history"]["macs"] > 0
    assert (
        spent["single"] == pytest.approx(spent["fleet"], rel=1e-6, abs=3 * batch)
        and spent["fleet"] > 6 * batch
    )


def test_what_a_run_was_made_from_lies_in_its_bundle(smoke_bundle):
    """The key of the results is the digest of run.json, which says it in words."""
    results = json.loads((smoke_bundle / "results.json").read_text())
    record = json.loads((smoke_bundle / "run.json").read_text())
    manifest = json.loads((smoke_bundle / "manifest.json").read_text())
    assert digest(record["description"]) == record["key"] == results["key"]
    assert record["description"]["config"] == manifest["run"]
    assert record["description"]["data"] == manifest["data"]
    assert set(record["description"]) >= {"splits", "files", "version", "base", "threads"}


def test_a_run_may_not_reuse_what_it_overwrites(smoke_bundle):
    work = smoke_bundle.with_name(f"{smoke_bundle.name}.work")
    done = run_host(*SMOKE, "--out", smoke_bundle, "--overwrite", "--reuse", work)
    assert done.returncode == 6 and "own work folder, which --overwrite empties" in done.stderr
    assert (work / "base" / "stage.json").is_file() and (smoke_bundle / "results.json").is_file()


def test_a_finished_run_is_left_alone(smoke_bundle):
    before = {p: p.stat().st_mtime_ns for p in smoke_bundle.iterdir()}
    done = run_host(*SMOKE, "--out", smoke_bundle)
    assert done.returncode == 0 and "finished already" in done.stdout
    other = run_host(*SMOKE, "--out", smoke_bundle, "--seed", "5")
    assert (
        other.returncode == 6 and "seed: 0 -> 5" in other.stderr and "--overwrite" in other.stderr
    )
    assert before == {p: p.stat().st_mtime_ns for p in smoke_bundle.iterdir()}


def test_killed_and_interrupted_runs_end_with_the_same_files(smoke_bundle, tmp_path):
    """Ctrl-C in one stage, kill -9 in a later one, then to the end: the files of the unbroken run,
    bit for bit.
    """
    out = tmp_path / "mnist"
    command = [sys.executable, *SMOKE, "--out", str(out)]
    for finished, how in (("base", signal.SIGINT), ("submodel-01.attention", signal.SIGKILL)):
        process = Forked(
            command,
            modules=HOST,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 200
        while not (tmp_path / "mnist.work" / finished / "stage.json").is_file():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), errors
        assert not out.exists()  # a bundle appears whole or not at all
    done = run_host(*SMOKE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (
        "[base] done earlier" in done.stdout
        and "[submodel-01.attention] done earlier" in done.stdout
    )
    assert _tflite(out) == _tflite(smoke_bundle) and len(_tflite(out)) == 3
    one, two = (json.loads((folder / "results.json").read_text()) for folder in (out, smoke_bundle))
    for key in ("confusion", "parity", "key"):
        assert one[key] == two[key]
    assert (
        one["fusion"]["tflite"] == two["fusion"]["tflite"]
        and one["fusion"]["history"] == two["fusion"]["history"]
    )


def test_stages_of_another_configuration_are_refused_and_named(tmp_path):
    stages = open_stages(
        tmp_path / "work", "a" * 64, {"config": {"seed": 0, "model": "x"}}, overwrite=False
    )
    stages.run("one", lambda folder: {"value": 1})
    with pytest.raises(OutputError, match=r"config.seed: 0 -> 1.*--overwrite"):
        open_stages(
            tmp_path / "work", "b" * 64, {"config": {"seed": 1, "model": "x"}}, overwrite=False
        )
    again = open_stages(tmp_path / "work", "a" * 64, {}, overwrite=False)
    assert again.run("one", lambda folder: pytest.fail("run twice"))["value"] == 1
    anew = open_stages(tmp_path / "work", "a" * 64, {"config": {"seed": 0}}, overwrite=True)
    assert anew.run("one", lambda folder: {"value": 3})["value"] == 3
    fresh = open_stages(tmp_path / "work", "b" * 64, {"config": {"seed": 1}}, overwrite=True)
    assert fresh.run("one", lambda folder: {"value": 2})["value"] == 2


def test_only_bundles_and_work_folders_of_ours_are_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    done = run_host(*SMOKE, "--out", tmp_path / "out", "--overwrite")
    assert (
        done.returncode == 6
        and "is no bundle" in done.stderr
        and (tmp_path / "out" / "thesis.txt").is_file()
    )
    (tmp_path / "b.work").mkdir()
    (tmp_path / "b.work" / "notes.txt").write_text("x")
    done = run_host(*SMOKE, "--out", tmp_path / "b", "--overwrite")
    assert (
        done.returncode == 6
        and "no run.json" in done.stderr
        and (tmp_path / "b.work" / "notes.txt").is_file()
    )


def test_results_of_another_run_are_not_taken_for_this_ones(smoke_bundle, tmp_path):
    """--overwrite with a new seed, killed early: the old bundle still stands, and is not called
    finished.
    """
    out = shutil.copytree(smoke_bundle, tmp_path / "mnist")
    shutil.copytree(smoke_bundle.with_name("mnist.work"), tmp_path / "mnist.work")
    assert "finished already" in run_host(*SMOKE, "--out", out).stdout
    record = tmp_path / "mnist.work" / "run.json"
    record.write_text(record.read_text().replace(json.loads(record.read_text())["key"], "0" * 64))
    done = run_host(*SMOKE, "--out", out, "--seed", "1")
    assert (
        done.returncode == 6
        and "finished already" not in done.stdout
        and _tflite(out) == _tflite(smoke_bundle)
    )


def test_two_processes_do_not_share_a_work_folder(tmp_path):
    held = lock(tmp_path / "work")
    with pytest.raises(OutputError, match="another process works in"):
        lock(tmp_path / "work")
    held.close()
    lock(tmp_path / "work").close()


def test_a_base_that_saw_other_splits_is_refused(smoke_bundle, tmp_path):
    base = smoke_bundle.with_name("mnist.work") / "base" / "base.keras"
    done = run_host(*SMOKE, "--base", base, "--seed", "1", "--out", tmp_path / "out")
    assert done.returncode == 3 and "another split (seed 0)" in done.stderr
    done = run_host(*SMOKE, "--base", base, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (
        "trained on the same split" in results["base"]["given"]
        and results["base"]["training"] == {}
    )
    assert (
        results["base"]["tflite"]
        == json.loads((smoke_bundle / "results.json").read_text())["base"]["tflite"]
    )


def test_a_stage_that_fails_leaves_nothing_that_looks_finished(tmp_path):
    stages = open_stages(tmp_path / "work", "a" * 64, {}, overwrite=False)

    def fails(folder):
        (folder / "half.bin").write_bytes(b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("one", fails)
    assert not (tmp_path / "work" / "one").exists()
    stages.run("one", lambda folder: {"files": len(list(folder.iterdir()))})
    assert (
        json.loads((tmp_path / "work" / "one" / "stage.json").read_text())["result"]["files"] == 0
    )


def test_disk_full_and_unwritable_folders_are_found_before_training(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1 << 20))
    with pytest.raises(OutputError, match="1 MiB free; this run needs about 2 MiB"):
        preflight(tmp_path / "out", tmp_path / "out.work", 2 << 20)
    preflight(tmp_path / "out", tmp_path / "out.work", 1 << 19)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    done = run_host(*SMOKE, "--out", tmp_path / "file" / "out")
    assert (
        done.returncode == 6 and "cannot be written" in done.stderr and "epochs" not in done.stdout
    )


def test_a_full_disk_during_a_stage_keeps_the_finished_ones(tmp_path):
    stages = open_stages(tmp_path / "work", "a" * 64, {}, overwrite=False)
    stages.run("one", lambda folder: {})

    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left.*Finished stages are kept"):
        stages.run("two", full)
    assert (tmp_path / "work" / "one" / "stage.json").is_file()


def test_required_accuracy_fails_with_the_figures_on_one_device(tmp_path):
    """One device: one sub-model of all classes, no "other", no baseline beside it; then the check
    stops the run.
    """
    out = tmp_path / "mnist"
    done = run_host(*SMOKE, "--out", out, "--devices", "1", "--min-accuracy", "0.999")
    assert done.returncode == 8 and "0.9990 was required" in done.stderr and not out.exists()
    assert "[submodel-00.ffn]" in done.stdout and "single" not in done.stdout
    again = run_host(
        *SMOKE, "--out", out, "--devices", "1", "--min-accuracy", "0.001"
    )  # nothing is trained again
    assert again.returncode == 0 and "[fusion] done earlier" in again.stdout and out.is_dir()
