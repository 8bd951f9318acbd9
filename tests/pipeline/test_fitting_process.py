"""Members fitted by two processes at once: killed, gone on with, and the files of a run that fits
one by one.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edvit_tf.device.model.bundle import sha256
from edvit_tf.errors import HostExit, OutputError, TrainingError
from edvit_tf.pipeline import fitting_process
from edvit_tf.pipeline.fitting_process import fit_in_processes
from edvit_tf.pipeline.work_folder import open_stages
from edvit_tf.progress import listening
from edvit_tf.progress.screens import LogFile, Quiet
from tests.support.commands import SMOKE, run_host
from tests.support.forked import HOST, ROOT, Forked

HALF = str(max(1, (os.cpu_count() or 1) // 2))


def _fitting(work: Path) -> list[str]:
    """Processes that fit members of a work folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it ended
            continue
        if b"edvit_tf.pipeline.fitting_process" in words and str(work).encode() in words:
            found.append(entry.parent.name)
    return found


def _wait(what, seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def _sub_models(bundle: Path) -> dict[str, str]:
    return {p.name: sha256(p) for p in sorted(bundle.glob("submodel-*.tflite"))}


def test_two_processes_make_the_files_of_one_and_end_with_a_killed_run(smoke_bundle, tmp_path):
    start = smoke_bundle.with_name("mnist.work")
    out, work = tmp_path / "two", tmp_path / "two.work"
    command = (*SMOKE, "--reuse", start, "--jobs", "2", "--out", out)
    killed = Forked(
        [sys.executable, *map(str, command)],
        modules=HOST,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait(lambda: any(work.glob("*.residual/stage.json")) or killed.poll() is not None)
    assert len(_fitting(work)) == 2
    killed.kill()
    killed.wait()
    _wait(lambda: not _fitting(work), 30)  # nobody trains on for a run that is gone
    assert not out.exists()

    done = run_host(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"3 members are fitted by 2 processes of {HALF} thread(s) each" in done.stdout
    one = run_host(
        *SMOKE,
        "--reuse",
        start,
        "--out",
        tmp_path / "one",
        TF_NUM_INTRAOP_THREADS=HALF,
        TF_NUM_INTEROP_THREADS="1",
    )
    assert one.returncode == 0, one.stderr
    assert _sub_models(out) == _sub_models(tmp_path / "one") and len(_sub_models(out)) == 2
    again = run_host(
        *SMOKE, "--reuse", start, "--out", out
    )  # how the members are fitted belongs to a run
    assert again.returncode == 6 and "jobs" in again.stderr


def test_a_process_that_fails_ends_the_run_with_its_words(tmp_path, capfd):
    stages = open_stages(tmp_path / "work", "a" * 64, {"config": {}}, overwrite=False)
    with pytest.raises(
        OutputError, match="ended with 3 .*what it said stands above.*finished stages are kept"
    ):
        fit_in_processes(stages, 2, ["submodel-00.head"])
    assert "error: RunConfig needs a value for 'name'" in capfd.readouterr().err
    (tmp_path / "work" / "submodel-00.head").mkdir()
    (tmp_path / "work" / "submodel-00.head" / "stage.json").write_text(json.dumps({}))
    fit_in_processes(stages, 2, ["submodel-00.head"])  # nothing left: none is started


def test_what_a_process_says_is_in_the_log_too(tmp_path, monkeypatch, capfd):
    stages = open_stages(tmp_path / "work", "a" * 64, {"config": {}}, overwrite=False)
    said = "import sys; print('told'); print('WARNING: odd', file=sys.stderr); sys.exit(3)"
    monkeypatch.setattr(fitting_process, "_command", lambda work: [sys.executable, "-c", said])
    log = LogFile(tmp_path / "log")
    with listening(log, Quiet()), pytest.raises(OutputError, match="ended with 3"):
        fit_in_processes(stages, 1, ["submodel-00.head"])
    words = log.path.read_text()
    assert "WARNING: odd" in words and "told" in words
    assert capfd.readouterr().err == "WARNING: odd\n"  # on the screen once


def test_a_fit_that_went_astray_in_a_process_ends_the_run_as_one_of_its_own(tmp_path, monkeypatch):
    stages = open_stages(tmp_path / "work", "a" * 64, {"config": {}}, overwrite=False)
    astray = [sys.executable, "-c", f"raise SystemExit({int(HostExit.TRAINING)})"]
    monkeypatch.setattr(fitting_process, "_command", lambda work: astray)
    with pytest.raises(TrainingError, match="went astray; what it said stands above"):
        fit_in_processes(stages, 2, ["submodel-00.head"])


@pytest.mark.parametrize("jobs", ["0", "two", "-1"])
def test_a_number_of_processes_that_is_none_is_refused(jobs):
    done = run_host(*SMOKE, "--jobs", jobs)
    assert (
        done.returncode == 2
        and f"--jobs: {jobs!r} is not a whole number of 1 or more" in done.stderr
    )


def test_a_process_whose_words_nobody_takes_ends(monkeypatch):
    def nobody(text, kind):
        raise BrokenPipeError

    monkeypatch.setattr(fitting_process, "tell", nobody)
    code = "while True: print('a step', flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    try:
        fitting_process._pass_on(process.stdout, "note")
        assert process.wait(120) != 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("said", "cores"), [("3", 3), ("auto", 6), ("", 6), ("0", 6), ("2.5", 6), ("²", 6)]
)
def test_a_number_of_threads_that_is_none_leaves_all_cores(tmp_path, monkeypatch, said, cores):
    stages = open_stages(tmp_path / "work", "a" * 64, {"config": {}}, overwrite=False)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", said)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    shown = "import os, sys; sys.exit(int(os.environ['TF_NUM_INTRAOP_THREADS']))"
    monkeypatch.setattr(fitting_process, "_command", lambda work: [sys.executable, "-c", shown])
    with pytest.raises(OutputError, match=f"ended with {cores} "):
        fit_in_processes(stages, 1, ["submodel-00.head"])
