"""Accuracy by window and by recording; `edvit evaluate` against what the run stored; the command
line's refusals.
"""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.data import Dataset, Recording
from edvit_tf.device.errors import InputError
from edvit_tf.device.model.bundle import Bundle, sha256
from edvit_tf.device.model.image import ImageSpec
from edvit_tf.device.model.manifest import FileEntry
from edvit_tf.evaluation.accuracy import accuracy, confusion
from edvit_tf.evaluation.evaluate import SPLITS, materialise, unseen
from tests.support.commands import run_host


def test_accuracy_by_window_and_by_recording():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    figures = accuracy(p, np.array([0, 0, 1, 1, 1]), np.array([0, 0, 3, 3, 7]))
    assert figures == {
        "window": pytest.approx(0.6),
        "windows": 5,
        "recording": 1.0,
        "recordings": 3,
    }


def test_confusion_rows_are_true_classes():
    assert confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 2) == [[1, 1], [0, 1]]


def test_evaluate_repeats_the_stored_figures(smoke_bundle):
    stored = json.loads((smoke_bundle / "results.json").read_text())
    done = run_host("-m", "edvit_tf.cli", "evaluate", smoke_bundle, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (
        result["accuracy"] == stored["fusion"]["tflite"]
        and result["average"] == stored["fusion"]["average"]
    )
    assert result["confusion"] == stored["confusion"]
    assert all(p["tensorflow_loaded"] is False for p in result["processes"])
    lost = json.loads(
        run_host("-m", "edvit_tf.cli", "evaluate", smoke_bundle, "--missing", "1", "--json").stdout
    )
    assert lost["missing"] == [1] and lost["accuracy"] == stored["missing_one"][1]["tflite"]


def test_other_data_lose_what_the_bundle_learnt_from(tmp_path):
    """A folder with one recording more is split anew; no recording of the bundle's train or
    validation is scored.
    """
    recordings = {
        s: tuple(Recording(f"{s}{i}", 0, f"{s}{i}", 1, None) for i in range(4)) for s in SPLITS
    }
    moved = {
        **recordings,
        "test": (*recordings["test"], recordings["train"][0], Recording("new", 0, "new", 1, None)),
    }
    dataset = Dataset(
        "x", ("a",), ImageSpec(2, 2, 1), None, "x", 0, recordings, read=lambda r: None
    )
    stored = {s: dataset.split_ids(s) for s in SPLITS}
    (tmp_path / "splits.json").write_text(json.dumps(stored))
    splits = tmp_path / "splits.json"
    files = {"splits.json": FileEntry(splits.stat().st_size, sha256(splits))}
    bundle = Bundle(tmp_path, SimpleNamespace(files=files), "")
    assert unseen(bundle, dataset, "test") == (dataset, None)
    other, note = unseen(bundle, dataclasses.replace(dataset, splits=moved), "test")
    assert [r.id for r in other.recordings("test")] == ["test0", "test1", "test2", "test3", "new"]
    assert other.recordings("train") == () and "9 recordings" in note


def test_what_the_bundle_learnt_from_is_known_however_its_accents_are_stored(tmp_path):
    """The bundle was made on macOS, the data lie on Linux today."""

    def named(*names: str) -> tuple[Recording, ...]:
        return tuple(Recording(name, 0, name, 1, None) for name in names)

    (tmp_path / "splits.json").write_text(
        json.dumps({"train": ["cafe\u0301/1"], "validation": [], "test": ["cafe\u0301/2"]})
    )
    today = {"train": (), "validation": (), "test": named("caf\u00e9/1", "caf\u00e9/2")}
    dataset = Dataset("x", ("a",), ImageSpec(2, 2, 1), None, "x", 0, today, read=lambda r: None)
    splits = tmp_path / "splits.json"
    files = {"splits.json": FileEntry(splits.stat().st_size, sha256(splits))}
    other, _ = unseen(Bundle(tmp_path, SimpleNamespace(files=files), ""), dataset, "test")
    assert [r.id for r in other.recordings("test")] == ["caf\u00e9/2"]


def test_evaluate_all_splits_counts_every_recording(smoke_bundle):
    result = json.loads(
        run_host("-m", "edvit_tf.cli", "evaluate", smoke_bundle, "--split", "all", "--json").stdout
    )
    sizes = result["data"]["splits"]
    assert result["accuracy"]["recordings"] == sum(
        sizes[s]["recordings"] for s in ("train", "validation", "test")
    )


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["evaluate", "BUNDLE", "--missing", "0,1"], 7, "no sub-model is left"),
        (["evaluate", "BUNDLE", "--missing", "7"], 7, "has 0 to 1"),
        (["evaluate", "nowhere"], 7, "no manifest.json"),
        (["evaluate", "BUNDLE", "--data-dir", "nowhere"], 4, "nowhere"),
        (["plan", "--model", "vit_huge"], 3, "vit_huge"),
        (["plan", "--model", "vit_base", "--devices", "2", "--budget", "1MiB"], 5, "MiB"),
        (["plan", "--devices", "11"], 5, "11"),
        (["plan", "--seed", "-1"], 2, "whole number"),
        (["evaluate", "BUNDLE", "--missing", "abc"], 2, "abc"),
    ],
)
def test_the_command_line_says_what_to_do(smoke_bundle, arguments, code, message):
    done = run_host(
        "-m", "edvit_tf.cli", *[str(smoke_bundle) if a == "BUNDLE" else a for a in arguments]
    )
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr


def test_audit_and_report_from_the_command_line(smoke_bundle, tmp_path):
    done = run_host("-m", "edvit_tf.cli", "audit", smoke_bundle)
    assert done.returncode == 0, done.stderr
    assert (
        "block_00.mlp.expand" in done.stdout
        and "reconciled" in done.stdout
        and "fusion" in done.stdout
    )
    copy = shutil.copytree(smoke_bundle, tmp_path / "copy")
    (copy / "report.html").unlink()
    done = run_host("-m", "edvit_tf.cli", "report", copy)
    assert (
        done.returncode == 0
        and (copy / "report.html").read_text() == (smoke_bundle / "report.html").read_text()
    )
    (copy / "results.json").write_text("{}")
    done = run_host("-m", "edvit_tf.cli", "report", copy)
    assert done.returncode == 7 and "results.json" in done.stderr and "Traceback" not in done.stderr


def test_plan_prints_the_papers_sizes():
    done = run_host(
        "-m",
        "edvit_tf.cli",
        "plan",
        "--model",
        "vit_base",
        "--devices",
        "10",
        "--budget",
        "180MiB",
        "--json",
    )
    plan = json.loads(done.stdout)
    assert {s["kept"] for s in plan["sub_models"]} == {2} and len(plan["sub_models"]) == 10
    assert plan["sub_models"][0]["size_bytes"] / 2**20 == pytest.approx(9.6, rel=0.025)


def test_inputs_that_cannot_be_read_leave_a_whole_array_without_them(tmp_path):
    """The file says how many rows it has, whatever was expected of it."""
    shown = tuple(Recording(f"r{i}", i % 2, f"r{i}", 1, None) for i in range(100))

    def read(recordings):
        (recording,) = recordings
        if recording.id in ("r3", "r7"):
            raise InputError("it cannot be read")
        return np.full((1, 2, 2, 1), int(recording.id[1:]), np.uint8)

    dataset = Dataset("x", ("a", "b"), ImageSpec(2, 2, 1), None, "x", 0, {"test": shown}, read=read)
    path, labels, recordings = materialise(dataset, "test", tmp_path)
    x = np.load(path, mmap_mode="r")
    kept = [i for i in range(100) if i not in (3, 7)]
    assert x.shape == (98, 2, 2, 1) and x.dtype == np.uint8 and x[:, 0, 0, 0].tolist() == kept
    assert labels.tolist() == [i % 2 for i in kept] and recordings.tolist() == kept
    assert path.stat().st_size == 128 + x.nbytes
