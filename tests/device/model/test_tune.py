"""Autotuning, memory and crashes: what a device measures, remembers and survives."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.device.errors import BundleError, MemoryShort, ModelFailed, TuneError
from edvit_tf.device.model import memory, tune
from edvit_tf.device.model.bundle import open_bundle, sha256
from edvit_tf.device.model.golden import expected_answers
from edvit_tf.device.model.memory import check_memory
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import Choice, candidates, choice, fastest
from tests.support.commands import run_device


def test_what_is_measured_is_remembered_for_this_bundle_and_machine(
    smoke_bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path / "cache"))
    done = run_device("-m", "edvit_tf.device", smoke_bundle, "--tune", "--submodel", "1", "--json")
    assert done.returncode == 0, done.stderr
    [result] = json.loads(done.stdout)
    assert (
        result["name"] == "submodel-01"
        and result["chosen"] in result["measured"]
        and result["failed"] == []
    )
    assert {row["threads"] for row in result["measured"]} == set(tune._threads())
    bundle = open_bundle(smoke_bundle)
    assert choice(bundle, 1) == choice(bundle, 1, "float32") == Choice(**result["chosen"])
    assert choice(bundle, 0) == Choice("float32", "submodel-00.tflite", 1)  # not measured
    [record] = (p for p in (tmp_path / "cache").iterdir() if p.suffix == ".json")
    row = {"flavour": "float32", "file": "../other.tflite", "threads": 1, "median_ms": 0.1}
    for text in (
        json.dumps({"measured": [row]}),
        "half",
        "[]",
        json.dumps({"measured": [{**row, "threads": "2"}]}),
        json.dumps({"measured": [{**row, "flavour": ["float32"]}]}),
    ):
        record.write_text(text)
        assert choice(bundle, 1) == Choice("float32", "submodel-01.tflite", 1)


def test_what_is_measured_of_one_copy_counts_for_all(copies_bundle, tmp_path, monkeypatch):
    """Each has its own view, and all have the same files."""
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path))
    done = run_device("-m", "edvit_tf.device", copies_bundle, "--tune", "--json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert (first["name"], second["name"]) == ("submodel-00", "submodel-01")
    assert first["at"] == second["at"]
    assert {row["file"] for row in second["measured"]} == {"submodel-01.tflite"}
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".json"]) == 1

    bundle = open_bundle(copies_bundle)
    for index, result in enumerate((first, second)):
        assert choice(bundle, index) == Choice(**result["chosen"])

    # a device that has the second alone
    done = run_device("-m", "edvit_tf.device", copies_bundle, "--tune", "--submodel", "1", "--json")
    [alone] = json.loads(done.stdout)
    assert {row["file"] for row in alone["measured"]} == {"submodel-01.tflite"}
    assert choice(bundle, 1) == Choice(**alone["chosen"])
    assert choice(bundle, 0).median_ms == choice(bundle, 1).median_ms


def test_another_processor_is_another_record(smoke_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path))
    bundle, name = open_bundle(smoke_bundle), tune.runtime_name()
    row = {
        "flavour": "float32",
        "file": "submodel-00.tflite",
        "threads": max(tune._threads()),
        "median_ms": 0.1,
    }
    monkeypatch.setattr(tune, "processor", lambda: "Raspberry Pi 3")
    (tmp_path / tune._record_name(bundle, 0, name)).write_text(json.dumps({"measured": [row]}))
    assert choice(bundle, 0) == Choice(**row)
    monkeypatch.setattr(tune, "processor", lambda: "Raspberry Pi 5")
    assert choice(bundle, 0).median_ms is None


def test_without_a_home_nothing_is_remembered_and_all_works(smoke_bundle, tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EDVIT_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    bundle = open_bundle(smoke_bundle)
    assert choice(bundle, 0).threads == 1
    with pytest.raises(TuneError, match="cannot be written.*EDVIT_CACHE"):
        tune.tune(bundle, 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path / "file"))
    assert choice(bundle, 0).threads == 1
    done = run_device(
        "-m", "edvit_tf.device", smoke_bundle, "--tune", EDVIT_CACHE=str(tmp_path / "file")
    )
    assert done.returncode == 14 and "EDVIT_CACHE" in done.stderr and "Traceback" not in done.stderr


def test_two_processes_do_not_tune_at_once(smoke_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path))
    with tune._locked(), pytest.raises(TuneError, match="another process is tuning"):
        tune.tune(open_bundle(smoke_bundle), 0)


def test_a_fast_file_that_answers_wrong_is_not_chosen(smoke_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path))
    bundle = open_bundle(smoke_bundle)
    _, expected = expected_answers(bundle, 0)
    answers = {name: value.copy() for name, value in expected.items()}
    answers["logits"][0, 0] += 1

    def wrong(*_, threads, **__):
        return (answers if threads > 1 else expected), {"times_ms": [1.0 / threads] * 40}

    monkeypatch.setattr(tune, "run_model", wrong)
    monkeypatch.setattr(tune, "_threads", lambda: [1, 2])
    result = tune.tune(bundle, 0)
    assert result["chosen"]["threads"] == 1 and result["failed"][0]["failure"].startswith(
        "golden error"
    )
    assert "FAILED: golden error" in tune.table([result])
    monkeypatch.setattr(tune, "_threads", lambda: [2])
    with pytest.raises(ModelFailed, match="no file of submodel-00 runs"):
        tune.tune(bundle, 0)


def test_more_threads_must_pay():
    slow, fast, faster = (
        Choice("float32", "f", n, ms) for n, ms in ((1, 10.0), (2, 9.7), (4, 9.0))
    )
    assert fastest([slow, fast]) == slow and fastest([fast, slow]) == slow
    assert fastest([slow, fast, faster]) == faster
    assert fastest([slow, Choice("int8", "g", 1, 9.9)]).flavour == "int8"


@pytest.mark.parametrize(
    "cores, tried", [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (12, [1, 2, 3, 4, 8, 12])]
)
def test_one_to_four_threads_are_tried_then_powers_of_two_and_all_cores(monkeypatch, cores, tried):
    monkeypatch.setattr(tune.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert tune._threads() == tried


@pytest.mark.parametrize(
    "ms, threads",
    [
        ({1: 10.0, 2: 6.0, 3: 5.8, 4: 7.0}, 2),  # 3 gain less than 5 %
        ({1: 10.0, 2: 6.0, 3: 4.5, 4: 4.4}, 3),
        ({1: 10.0, 2: 6.0, 3: 4.5, 4: 3.6}, 4),
        ({1: 8.0, 2: 11.0, 3: 12.0, 4: 13.0}, 1),  # as tflite-runtime 2.14 on a small model
    ],
)
def test_a_board_of_four_cores_keeps_what_it_measured_fastest(
    smoke_bundle, tmp_path, monkeypatch, ms, threads
):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path))
    monkeypatch.setattr(tune.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    bundle = open_bundle(smoke_bundle)
    _, expected = expected_answers(bundle, 0)

    def measured(*_, threads, **__):
        return expected, {"times_ms": [ms[threads]] * 40}

    monkeypatch.setattr(tune, "run_model", measured)
    result = tune.tune(bundle, 0)
    assert {row["threads"]: row["median_ms"] for row in result["measured"]} == ms
    assert result["chosen"]["threads"] == threads == choice(bundle, 0).threads


def test_a_flavour_that_no_runtime_here_loads_is_named(smoke_bundle):
    bundle = open_bundle(smoke_bundle)
    with pytest.raises(BundleError, match=r"no flavour int8 for tflite-runtime; it has: float32"):
        candidates(bundle, 0, "tflite-runtime 2.14.0", "int8")
    done = run_device(
        "-m", "edvit_tf.device", smoke_bundle, "--predict", "x.png", "--flavour", "int8"
    )
    assert done.returncode == 7 and "no flavour int8" in done.stderr


def test_a_model_without_room_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    file = tmp_path / "m.tflite"
    file.write_bytes(b"x" * (2 << 20))
    monkeypatch.setattr(memory, "available_memory", lambda: 30 << 20)
    check_memory(file)
    monkeypatch.setattr(memory, "available_memory", lambda: 27 << 20)
    with pytest.raises(MemoryShort, match="needs about 28 MiB .* 27 MiB are available"):
        check_memory(file)


def test_memory_is_what_the_control_group_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    whole = memory.available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.available_memory() == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.available_memory() == 4000
    file = tmp_path / "m.tflite"
    file.write_bytes(b"x")
    with pytest.raises(MemoryShort, match="EDVIT_MEMORY_CHECK"):
        check_memory(file)
    monkeypatch.setenv("EDVIT_MEMORY_CHECK", "0")
    check_memory(file)


def test_a_process_that_hangs_is_killed_or_fails_is_said(smoke_bundle, tmp_path, monkeypatch):
    inputs, file = (
        {"image": np.zeros((1, 28, 28, 1), np.uint8)},
        smoke_bundle / "submodel-00.tflite",
    )
    with pytest.raises(ModelFailed, match="was not done after 0.01 s"):
        run_model(file, inputs, timeout_seconds=0.01)
    with pytest.raises(ModelFailed, match="ended with 1: error: .*No such file"):
        run_model(tmp_path / "nothing.tflite", inputs)
    with pytest.raises(ModelFailed, match="ended with 1: error: input image of .* it must be"):
        run_model(file, {"image": np.zeros((1, 5, 28, 1), np.uint8)})
    with pytest.raises(ModelFailed, match="ended with 2: .*--repeat 0"):
        run_model(file, inputs, repeat=0)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        ModelFailed, match=r"ended by SIGKILL \(out of memory\?\): \(it said nothing\)"
    ):
        run_model(file, inputs)


def _spoilt(smoke_bundle, folder, content: bytes):
    """A copy whose first sub-model has other bytes, with a manifest that agrees."""
    copy = shutil.copytree(smoke_bundle, folder)
    file = copy / "submodel-00.tflite"
    file.write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][file.name] = {"bytes": len(content), "sha256": sha256(file)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


@pytest.mark.parametrize("how", ["weights", "graph", "cut"])
def test_a_spoilt_file_with_a_fitting_digest_does_not_take_the_check_down(
    smoke_bundle, tmp_path, how
):
    """The child may crash, refuse or answer wrong; the check says which, and goes on with the other
    models.
    """
    content = bytearray((smoke_bundle / "submodel-00.tflite").read_bytes())
    if how == "weights":  # the largest values float32 has, in the middle of the weights
        start = len(content) // 2 // 4 * 4
        content[start : start + 4000] = np.full(1000, 3e38, np.float32).tobytes()
    elif how == "graph":
        content[-3000:] = bytes(255 - b for b in content[-3000:])
    else:
        del content[len(content) // 2 :]
    copy = _spoilt(smoke_bundle, tmp_path / "copy", bytes(content))
    done = run_device("-m", "edvit_tf.device", copy, "--check")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    first, *others = [
        line for line in done.stdout.splitlines() if line.startswith(("submodel", "fusion"))
    ]
    assert ("FAILED" in first or "WRONG" in first) and [line.split()[-1] for line in others] == [
        "ok",
        "ok",
    ]
