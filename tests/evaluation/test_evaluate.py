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
from edvit_tf.errors import DataError
from edvit_tf.evaluation.accuracy import accuracy, confusion
from edvit_tf.evaluation.evaluate import SPLITS, materialise, unseen
from edvit_tf.pipeline.steps import _learnt
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


def of_files(folder, written: dict[str, dict[str, str]]) -> Dataset:
    """A data set of files; `written` has the content of each by its name, by split."""
    splits = {}
    for split in SPLITS:
        recordings = []
        for name, content in written.get(split, {}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            recordings.append(Recording(name, 0, name, 1, path))
        splits[split] = tuple(recordings)
    return Dataset("x", ("a",), ImageSpec(2, 2, 1), None, "x", 0, splits, read=lambda r: None)


def made_from(folder, dataset: Dataset, has_record: bool = False) -> Bundle:
    """A bundle, as far as it says what it learnt from."""
    stored = {s: dataset.split_ids(s) for s in SPLITS} | _learnt(dataset)
    folder.mkdir(exist_ok=True)
    (folder / "splits.json").write_text(json.dumps(stored))
    if has_record:
        record = {"key": "k", "description": {"files": dataset.contents()}}
        (folder / "run.json").write_text(json.dumps(record))
    splits = folder / "splits.json"
    files = {"splits.json": FileEntry(splits.stat().st_size, sha256(splits))}
    return Bundle(folder, SimpleNamespace(files=files), "")


OWN = {
    "train": {"a/0": "zero", "a/1": "one"},
    "validation": {"a/2": "two"},
    "test": {"a/3": "three", "a/4": "four"},
}


def ids(dataset: Dataset, split: str) -> list[str]:
    return [one.id for one in dataset.recordings(split)]


def test_renumbered_files_are_known_by_their_content(tmp_path):
    """One was deleted and another added: what was trained on bears a test file's name today."""
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", OWN))
    renumbered = OWN | {
        "train": {"a/0": "zero", "a/1": "three"},
        "test": {"a/3": "one", "a/4": "4"},
    }
    dataset = of_files(tmp_path / "today", renumbered)
    assert all(dataset.split_ids(s) == list(OWN[s]) for s in SPLITS)
    other, note = unseen(bundle, dataset, "test")
    assert ids(other, "test") == ["a/4"]
    assert "3 recordings" in note and "1 other" in note and "name" not in note


@pytest.mark.parametrize("split", [*SPLITS, "all"])
@pytest.mark.parametrize("has_record", [False, True])
def test_the_bundle_s_own_files_are_told_wherever_they_lie(tmp_path, split, has_record):
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", OWN), has_record)
    dataset = of_files(tmp_path / "copied", OWN)
    assert unseen(bundle, dataset, split) == (dataset, None)


def test_published_data_with_a_picture_on_two_sides_are_the_bundle_s_own(tmp_path):
    twice = OWN | {"test": {"a/3": "three", "a/4": "one"}}
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", twice), has_record=True)
    dataset = of_files(tmp_path / "copied", twice)
    assert unseen(bundle, dataset, "test") == (dataset, None)


def test_a_test_split_that_nothing_was_learnt_of_needs_no_note(tmp_path):
    """Beside it a training file was saved anew."""
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", OWN), has_record=True)
    dataset = of_files(tmp_path / "today", OWN | {"train": {"a/0": "zero", "a/1": "one, anew"}})
    assert unseen(bundle, dataset, "test") == (dataset, None)
    other, note = unseen(bundle, dataset, "all")
    assert [ids(other, s) for s in SPLITS] == [["a/1"], [], ["a/3", "a/4"]]
    assert "1 of them with the name of one that it learnt from" in note


def test_new_files_of_a_camera_that_counts_from_one_again_are_new(tmp_path):
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", OWN))
    new = {"test": {f"a/{i}": f"new {i}" for i in range(4)}}
    other, note = unseen(bundle, of_files(tmp_path / "today", new), "all")
    assert ids(other, "test") == ["a/0", "a/1", "a/2", "a/3"]
    assert "0 recordings" in note and "4 others, 3 of them with the name" in note


@pytest.mark.parametrize("split", ["test", "all"])
def test_only_what_was_learnt_is_refused_in_words(tmp_path, split):
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", OWN))
    learnt = {"test": {"b/7": "zero", "b/8": "two"}}
    with pytest.raises(DataError, match="has not learnt from: 2 recordings .* Give files"):
        unseen(bundle, of_files(tmp_path / "today", learnt), split)


def test_where_the_test_split_has_nothing_new_the_others_are_named(tmp_path):
    bundle = made_from(tmp_path / "bundle", of_files(tmp_path / "own", OWN))
    today = {"train": {"b/1": "new"}, "test": {"b/7": "zero"}}
    with pytest.raises(DataError, match=r"--split all, which has 1 other\."):
        unseen(bundle, of_files(tmp_path / "today", today), "test")


def test_a_file_that_cannot_be_read_is_known_by_its_name(tmp_path):
    """What stands for its content would be that of any other such file."""
    own = of_files(tmp_path / "own", OWN)
    own.splits["train"][0].where.unlink()
    bundle = made_from(tmp_path / "bundle", own)
    dataset = of_files(tmp_path / "today", {"test": {"a/0": "0", "b/9": "9", "a/4": "four"}})
    for one in dataset.splits["test"][:2]:
        one.where.unlink()
    other, _ = unseen(bundle, dataset, "test")
    assert ids(other, "test") == ["b/9", "a/4"]


def test_an_empty_split_is_no_matter_of_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="validation split of x is empty"):
        materialise(of_files(tmp_path, {"test": {"a/1": "1"}}), "validation", tmp_path)


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
