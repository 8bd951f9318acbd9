"""Split-CNN and Split-SNN on a fleet: `edvit up`, `edvit predict`, a device that is lost, `edvit
audit`, `edvit report`, the golden check, `edvit push`.
"""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.aggregator_process import fused, infer, outputs
from tests.support.commands import run_command, run_device
from tests.support.damaged import swapped
from tests.support.ssh_stand_in import device_home, needs_rsync, push
from tests.support.up_process import Up
from tests.support.worker_process import wait_for, worker

PIXELS = np.random.default_rng(4).integers(0, 256, (28, 28), np.uint8)


@pytest.fixture(params=["cnn", "snn"])
def bundle(request) -> Path:
    return request.getfixturevalue(f"split_{request.param}_bundle")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_its_workers_answer_what_its_files_do_with_all_devices_and_without_one(
    bundle, tmp_path, monkeypatch
):
    from PIL import Image

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    x = PIXELS.reshape(1, 28, 28, 1)

    def predicted(missing: str) -> dict | None:
        """An answer that lacks just this, if this one does."""
        code, out, err = run_command(["predict", "--json", tmp_path / "a.png"])
        assert code in (0, 19), err  # 19: a machine that stands still has none in time
        told = json.loads(out) if code == 0 else None
        return told if told and told["parameters"]["missing"] == missing else None

    def check(told: dict, missing: tuple[int, ...]) -> None:
        expected = fused(bundle, x, missing)[0]
        np.testing.assert_allclose(told["probabilities"], expected, atol=1e-5)

    up = Up(bundle, tmp_path / "up")
    try:
        pids = up.pids()
        check(wait_for(lambda: predicted(""), 60), ())

        os.kill(pids[1], signal.SIGKILL)
        check(wait_for(lambda: predicted("submodel-00"), 60), (0,))
        wait_for(lambda: predicted(""), 120)
    finally:
        up.process.kill()
        up.process.wait()


def test_it_is_audited_reported_and_checked(bundle, tmp_path):
    code, out, err = run_command(["audit", bundle])
    assert code == 0 and "submodel-01.tflite" in out, out + err
    own = shutil.copytree(bundle, tmp_path / "own")
    code, _, err = run_command(["report", own])
    assert code == 0 and (own / "report.html").stat().st_size > 10_000, err

    done = run_device("-m", "edvit_tf.device", bundle, "--check")
    assert done.returncode == 0 and done.stdout.count("  ok") == 3, done.stdout + done.stderr


def test_a_file_of_another_sub_model_is_wrong(bundle, tmp_path):
    """Whatever spikes may do."""
    own = shutil.copytree(bundle, tmp_path / "own")
    swapped(own)
    done = run_device("-m", "edvit_tf.device", own, "--check")
    assert done.returncode == 1 and done.stdout.count("  WRONG") == 1, done.stdout


@needs_rsync
def test_what_is_pushed_to_a_device_answers_there(bundle, tmp_path, monkeypatch):
    device_home(tmp_path, monkeypatch)
    store = tmp_path / "a store"
    done = push(bundle, f"pi:{store}", "--submodel", "1")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (store / "current").iterdir()}
    assert {"manifest.json", "submodel-01.tflite"} <= names and "submodel-00.tflite" not in names

    x = PIXELS.reshape(1, 28, 28, 1)
    expected = outputs(bundle / "submodel-01.tflite", {"image": x})["features"]
    with (
        worker(store / "current", tmp_path, "--insecure", "--submodel", "1") as one,
        one.channel() as channel,
    ):
        answer, _, _ = infer(channel, x, model="submodel-01")
        np.testing.assert_allclose(answer["features"], expected, atol=1e-5)

    # what answers otherwise than it should is refused there, and the old version goes on
    current = (store / "current").resolve()
    other = shutil.copytree(bundle, tmp_path / "other")
    swapped(other)
    done = push(other, f"pi:{store}", "--submodel", "0")
    assert done.returncode == 16 and "golden input" in done.stderr, done.stderr
    assert (store / "current").resolve() == current
