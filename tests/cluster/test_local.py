"""Tasks by processes of this machine: their files, words and errors, and what a death costs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edvit_tf.cluster.engine import MOST_LOSSES, Resources, Task
from edvit_tf.cluster.local import Local
from edvit_tf.cluster.piece import MARK, blas_of, blas_threads
from edvit_tf.errors import OutputError, TrainingError
from edvit_tf.progress import Event, listening
from tests.support import pieces
from tests.support.forked import ROOT


class Kept:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)


def task(name: str, function, reads: tuple[str, ...] = (), **spec) -> Task:
    return Task(name, f"{pieces.HERE}:{function.__name__}", spec, reads, Resources())


def wait(what, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_files_and_results_come_back_and_nothing_is_left_in_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    names = ["a/one", "two"]
    with Local(tmp_path, 2) as engine:
        for number in range(3):
            engine.start(task(f"t{number}", pieces.join, tuple(names), names=names))
        done = {made.name: made for made in (engine.ended() for _ in range(3))}

    assert set(done) == {"t0", "t1", "t2"}
    for made in done.values():
        assert made.files == {"joined": b"12"}
        assert made.result == {"read": str(tmp_path), "threads": "1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "two"]  # not the mark


def test_all_words_of_a_worker_are_told_here(tmp_path):
    kept = Kept()
    with listening(kept), Local(tmp_path, 1) as engine:
        engine.start(task("t", pieces.speak))
        engine.ended()

    told = [(event.kind, event.text) for event in kept.events]
    assert told == [
        ("epoch", "told"),
        ("warning", "WARNING: odd"),
        ("note", "printed"),
        ("warning", "muttered"),
    ]
    facts = kept.events[0].facts
    assert facts["title"] == "a" and facts["loss"] is None and facts["node"] and facts["process"]


@pytest.mark.parametrize("threads", [1, 2])
def test_linear_algebra_takes_as_many_threads_as_the_runs_own(tmp_path, threads):
    """They decide in which order it sums; a worker may have been given others."""
    with blas_of(threads):
        given = blas_threads()
        with Local(tmp_path, 1) as engine:
            engine.start(task("t", pieces.count_threads))
            assert engine.ended().result["blas"] == given == threads


def test_a_run_that_does_not_say_leaves_them_as_they_are():
    before = blas_threads()
    with blas_of(0):
        assert blas_threads() == before >= 1


def test_an_error_of_ours_keeps_its_class_and_its_words(tmp_path):
    with Local(tmp_path, 1) as engine:
        engine.start(task("t", pieces.go_astray))
        with pytest.raises(TrainingError, match="the loss is no number"):
            engine.ended()
        engine.start(task("t", pieces.lose_a_flavour))
        with pytest.raises(OutputError, match="It does not run"):  # it is made of more than words
            engine.ended()


def test_a_fault_of_ours_is_raised_as_it_is(tmp_path):
    with Local(tmp_path, 1) as engine:
        engine.start(task("t", pieces.have_a_fault))
        with pytest.raises(ZeroDivisionError, match="a fault of ours"):
            engine.ended()


def test_a_killed_process_costs_its_own_task_alone(tmp_path):
    kept = Kept()
    with listening(kept), Local(tmp_path, 2) as engine:
        engine.start(task("other", pieces.wait_for, until="go"))
        wait((tmp_path / "waiting-go").exists)
        other = (tmp_path / "waiting-go").read_text()
        engine.start(task("dies", pieces.die_once))
        assert engine.ended().name == "dies"
        (tmp_path / "go").touch()
        assert str(engine.ended().result["process"]) == other  # it was not begun again

    words = [event.text for event in kept.events if event.kind == "warning"]
    assert len(words) == 1 and "dies has lost its worker (its process was killed)" in words[0]


def test_a_process_that_is_killed_while_it_has_nothing_to_do_is_replaced(tmp_path):
    """Where loky has seen it by then nothing is told; else the task is begun once more."""
    kept = Kept()
    with listening(kept), Local(tmp_path, 1) as engine:
        (tmp_path / "go").touch()
        engine.start(task("first", pieces.wait_for, until="go"))
        process = engine.ended().result["process"]
        os.kill(process, signal.SIGKILL)
        wait(lambda: not is_at_work(process))
        engine.start(task("second", pieces.wait_for, until="go"))
        assert engine.ended().result["process"] != process
    lost = "second has lost its worker (its process was killed) and is begun again"
    assert all(event.text.startswith(lost) for event in kept.events) and len(kept.events) <= 1


def interrupt_when(path: Path) -> None:
    """Ctrl-C for this process, as soon as a file is there."""

    def look() -> None:
        wait(lambda: _number(path) is not None)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=look, daemon=True).start()


def test_an_interrupt_ends_the_wait_and_the_workers(tmp_path):
    at_work = tmp_path / "waiting-never"
    with pytest.raises(KeyboardInterrupt), Local(tmp_path, 1) as engine:
        engine.start(task("t", pieces.wait_for, until="never"))
        interrupt_when(at_work)
        engine.ended()
    assert not is_at_work(_number(at_work))


def test_a_task_that_always_dies_is_an_error_that_says_so(tmp_path, capfd):
    with Local(tmp_path, 1) as engine:
        engine.start(task("single.ffn", pieces.die))
        with pytest.raises(
            OutputError, match=rf"single.ffn has lost its worker {MOST_LOSSES} times.*want of mem"
        ):
            engine.ended()


def test_no_process_outlives_its_run(tmp_path):
    code = (
        "import pathlib; from tests.cluster.test_local import *; "
        f"folder = pathlib.{tmp_path!r}; engine = Local(folder, 1); engine.__enter__(); "
        "engine.start(task('t', pieces.wait_for, until='never')); engine.ended()"
    )
    run = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        wait(lambda: _number(tmp_path / "waiting-never") is not None or run.poll() is not None)
        worker = _number(tmp_path / "waiting-never")
        assert worker is not None
    finally:
        run.kill()
        run.wait()
    wait(lambda: not is_at_work(worker))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def is_at_work(number: int) -> bool:
    """Whether a process is there, and no zombie that nobody has asked for."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 1), ("auto", 3), ("", 3), ("0", 3), ("2.5", 3), ("²", 3), ("8", 4)]
)
def test_a_number_of_threads_that_is_none_leaves_all_cores(tmp_path, monkeypatch, said, threads):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", said)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert Local(tmp_path, 2).cpus == threads
    assert f"2 processes of {threads} thread(s) each" == Local(tmp_path, 2).words


def test_the_mark_of_the_folder_goes_with_the_engine(tmp_path):
    with Local(tmp_path, 1):
        assert (tmp_path / MARK).is_file()
    assert not (tmp_path / MARK).exists()
