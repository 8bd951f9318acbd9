"""`edvit up`: the real processes, who finds them, and that nobody is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.operate.running import runtime_folder
from tests.support import tiny_bert
from tests.support.aggregator_process import fused
from tests.support.commands import ROOT, run_command
from tests.support.up_process import Up
from tests.support.worker_process import wait_for

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def gone(pids: list[int]) -> bool:
    """Whether none of these runs; a zombie has ended."""
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            return False
    return True


def picture(path: Path) -> Path:
    from PIL import Image

    pixels = np.random.default_rng(4).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def missing(file: Path) -> str:
    """What `edvit predict` says is missing of its answer; it is given no address. Where there is no
    answer, why: a fleet of `edvit up` has a deadline of a second.
    """
    code, out, err = run_command(["predict", "--json", file])
    if code == 19:
        return err
    assert code == 0, err
    return json.loads(out)["parameters"]["missing"]


def answered(*given: str | Path) -> str:
    """What `edvit predict --json` prints where all have an answer, else ""."""
    code, out, _ = run_command(["predict", "--json", *given])
    return out if code == 0 else ""


@needs_proc
def test_fleets_side_by_side_are_found_mended_and_leave_nobody(
    bundles, tiny_mel_bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    file = picture(tmp_path / "a.png")
    own = shutil.copytree(bundles[0], tmp_path / "own copy")
    made = {
        "kept": Up(bundles[0], tmp_path / "kept"),
        "damaged": Up(own, tmp_path / "damaged"),
        "killed": Up(tiny_mel_bundle, tmp_path / "killed"),
    }
    try:
        pids = {name: one.pids() for name, one in made.items()}
        kept = made["kept"].told()

        # which of them was meant is asked, unless a bundle says it
        code, _, err = run_command(["predict", file])
        assert code == 3 and "3 fleets run here" in err
        assert f"--server {kept['server']} --insecure   {bundles[0]}" in err
        samples = np.random.default_rng(0).normal(0, 1000, 20_000).astype("<i2").tobytes()
        predict = (sys.executable, "-m", "edvit_tf.cli", "predict")
        words = [*predict, "--stream", "pcm", "--json", "--bundle", str(tiny_mel_bundle)]

        def heard() -> bool:
            options = dict(input=samples, capture_output=True, cwd=ROOT, timeout=180)
            done = subprocess.run(words, **options)
            return done.returncode == 0 and done.stdout.count(b"\n") == 5

        # a machine that stands still costs an answer
        wait_for(heard, 180)

        # whoever is killed takes the others along, and his file does not mislead
        os.kill(made["killed"].process.pid, signal.SIGKILL)
        wait_for(lambda: gone(pids["killed"]))

        # a worker that meets the same again ends all, with its own code and its own words
        model = own / "submodel-01.tflite"
        model.write_bytes(model.read_bytes()[:-1])
        os.kill(pids["damaged"][2], signal.SIGKILL)
        assert made["damaged"].process.wait(120) == 7
        told = made["damaged"].err.read_text()
        assert "worker-1 ended with SIGKILL; it is started again in 1 s (1 of 5)" in told
        assert "error: worker-1 ended with 7: its log ends with" in told
        assert "submodel-01.tflite" in told.partition("error: ")[2]
        assert gone(pids["damaged"])

        # the one that is left needs no address, and outlives a worker
        wait_for(lambda: missing(file) == "", 60)
        os.kill(pids["kept"][1], signal.SIGKILL)
        wait_for(lambda: missing(file) == "submodel-00", 60)
        wait_for(lambda: missing(file) == "", 120)
        log = (tmp_path / "kept" / "logs" / "worker-0.log").read_text()
        assert log.count('"event": "serving"') == 2

        # Ctrl-C
        os.kill(made["kept"].process.pid, signal.SIGINT)
        assert made["kept"].process.wait(120) == 0
        assert gone(pids["kept"])
        assert list(runtime_folder().glob("up-*")) == []
        code, _, err = run_command(["predict", file])
        assert code == 19 and "no `edvit up` runs here. Start one in another terminal" in err
    finally:
        for one in made.values():
            one.process.kill()
            one.process.wait()


@needs_proc
def test_a_fleet_for_texts_is_asked_by_a_text(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    bundle = tiny_bert.write_bundle(tmp_path / "texts")
    up = Up(bundle, tmp_path / "up")
    try:
        pids = up.pids()
        (tmp_path / "x.txt").write_text("w1 and w2", encoding="utf-16")
        out = wait_for(lambda: answered("w1 and w2", tmp_path / "x.txt"), 60)
        expected = fused(bundle, bundle_input(open_bundle(bundle)).from_file(b"w1 and w2"))[0]
        for line in out.splitlines():
            np.testing.assert_allclose(json.loads(line)["probabilities"], expected, rtol=1e-5)
        assert out.count("\n") == 2

        # of several what is no text is named, and the others are answered
        given = ["", "w3", "\u16a0", tmp_path / "gone.txt"]

        def one_answer() -> tuple[int, str, str] | None:
            done = run_command(["predict", "--json", *given])
            return done if done[1] else None

        code, out, err = wait_for(one_answer, 60)
        assert code == 19, err
        assert [json.loads(line)["file"] for line in out.splitlines()] == ["w3"]
        assert "knows no piece" in err and "gone.txt" in err
        assert "3 of 4 files have no answer" in err

        os.kill(up.process.pid, signal.SIGINT)
        assert up.process.wait(120) == 0 and gone(pids)
    finally:
        up.process.kill()
        up.process.wait()


def test_what_cannot_be_started_is_refused_at_once(tiny_bundle, tmp_path):
    code, _, err = run_command(["up", tmp_path])
    assert code == 7 and "manifest.json" in err
    code, _, err = run_command(["up", tiny_bundle, "--listen", "0.0.0.0:8000"])
    assert code == 3 and "give an address on loopback" in err


@pytest.mark.parametrize("name", ["worker-0.log", "devices.toml"])
def test_no_file_of_the_logs_folder_is_overwritten(name, tiny_bundle, tmp_path):
    (tmp_path / name).write_text("of yesterday")
    code, _, err = run_command(["up", tiny_bundle, "--logs", tmp_path])
    assert code == 6 and f"has files already that would be changed ({name})" in err
    assert (tmp_path / name).read_text() == "of yesterday"


def test_addresses_and_identities_go_together(tmp_path):
    code, _, err = run_command(["predict", "--insecure", tmp_path])
    assert code == 3 and "go with --server HOST:PORT" in err
    code, _, err = run_command(["predict", "--server", "127.0.0.1:1", tmp_path])
    assert code == 2 and "--server takes one of --identity FOLDER and --insecure" in err
