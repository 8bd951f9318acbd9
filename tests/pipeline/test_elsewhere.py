"""Members fitted by two processes at once: killed, gone on with, and the files of a run that fits
one by one; and in which order stages are begun elsewhere.
"""

import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest

from edvit_tf.cluster.engine import Done, Task
from edvit_tf.device.model.bundle import sha256
from edvit_tf.errors import ClusterError, ConfigError, OutputError, TrainingError
from edvit_tf.pipeline import elsewhere
from edvit_tf.pipeline import fit_members as fitting
from edvit_tf.pipeline.elsewhere import check_engine, engine_facts, make_elsewhere
from edvit_tf.pipeline.stage import Run
from tests.support.begun_run import begun_run
from tests.support.commands import SMOKE, run_host
from tests.support.forked import HOST, ROOT, Forked

HALF = str(max(1, (os.cpu_count() or 1) // 2))


def _workers(run: int) -> list[str]:
    """Processes of loky that a run has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = entry.read_text(errors="replace").rpartition(")")[2].split()[1]
            words = (entry.parent / "cmdline").read_bytes()
        except OSError:  # it ended
            continue
        if int(parent) == run and b"loky.backend.popen" in words:
            found.append(entry.parent.name)
    return found


def _is_there(number: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


def _wait(what) -> None:
    """Until a state is there, however long the machine takes."""
    while not what():
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
    workers = _workers(killed.pid)
    assert len(workers) == 2
    killed.kill()
    killed.wait()
    _wait(lambda: not any(map(_is_there, workers)))  # nobody trains on for a run that is gone
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
    log = out.with_name("two.log").read_text()
    assert "submodel-01.ffn: epoch 1 of 1, loss" in log  # what other processes say is in it
    again = run_host(
        *SMOKE, "--reuse", start, "--out", out
    )  # how the members are fitted belongs to a run
    assert again.returncode == 6 and "jobs" in again.stderr


@pytest.mark.parametrize("jobs", ["0", "two", "-1"])
def test_a_number_of_processes_that_is_none_is_refused(jobs):
    done = run_host(*SMOKE, "--jobs", jobs)
    assert (
        done.returncode == 2
        and f"--jobs: {jobs!r} is not a whole number of 1 or more" in done.stderr
    )


def test_processes_and_a_cluster_are_not_both_asked_for():
    done = run_host(*SMOKE, "--jobs", "2", "--ray", "auto")
    assert done.returncode == 2 and "--ray: not allowed with argument --jobs" in done.stderr
    with pytest.raises(ConfigError, match="jobs=2 and ray='auto' were given"):
        check_engine(2, "auto")


def test_what_fits_depend_on_is_told_and_not_where_they_are_made(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert engine_facts(1, None) == {}
    assert engine_facts(4, None) == {"jobs": 4}
    assert engine_facts(1, "auto") == engine_facts(1, "h:1") == {"ray": {"cpus": 1}}
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert engine_facts(1, "auto") == {"ray": {"cpus": 3}}


def test_there_are_no_more_processes_than_members(monkeypatch):
    asked = []
    monkeypatch.setattr(fitting, "engine_of", lambda jobs, ray: asked.append((jobs, ray)))
    monkeypatch.setattr(fitting, "make_elsewhere", lambda run, members, opened: None)
    run = SimpleNamespace(make=lambda *stages: None, shared=(), members=(1, 2, 3))
    for jobs, ray in ((8, None), (2, None), (1, "auto")):
        fitting.fit_members(run, jobs, ray)
    assert asked == [(3, None), (2, None), (1, "auto")]


# An engine that does nothing by itself


class _Slow(AbstractContextManager):
    """Keeps what it was given; the test says what ends, and how."""

    words = "nobody"
    cpus = 2

    def __init__(self, ends) -> None:
        self.begun: list[Task] = []
        self.left = False
        self._ends = ends

    def start(self, task: Task) -> None:
        self.begun.append(task)

    def ended(self) -> Done:
        return self._ends(self)

    def __exit__(self, kind, error, trace) -> None:
        self.left = True


@pytest.fixture(scope="module")
def planned(smoke_bundle):
    """The run of the smoke bundle, to be fitted once more."""
    return smoke_bundle.with_name("mnist.work")


@pytest.fixture
def begun(planned, tmp_path) -> Run:
    return begun_run(planned, tmp_path)


def _made(task: Task) -> Done:
    return Done(task.name, {"weights.npz": task.name.encode()}, {"seconds": 1.0}, "a node")


def test_a_stage_begins_when_those_that_it_reads_are_there_and_is_written_once(begun):
    ended = []

    def newest_first(engine: _Slow) -> Done:
        waiting = [task for task in engine.begun if task.name not in ended]
        for task in waiting:
            assert all((begun.stages.folder / file).is_file() for file in task.reads)
        ended.append(waiting[-1].name)
        return _made(waiting[-1])

    engine = _Slow(newest_first)
    make_elsewhere(begun, begun.members, lambda folder: engine)

    names = [member.stage(step) for member in begun.members for step in member.steps]
    assert sorted(ended) == sorted(names) and len(ended) == 12
    assert engine.begun[0].name == "single.head"  # the longest first
    assert [task.name for task in engine.begun[:3]] == [
        "single.head",
        "submodel-00.head",
        "submodel-01.head",
    ]
    for name in names:
        assert begun.stages.path(name, "weights.npz").read_bytes() == name.encode()
    assert engine.left

    # all is there: no engine is asked for
    make_elsewhere(begun, begun.members, lambda folder: pytest.fail("opened"))


def test_what_was_made_earlier_is_not_made_again(begun):
    first = begun.members[0]
    begun.stages.put(first.stage("head"), {}, {"seconds": 1.0})
    engine = _Slow(lambda engine: _made(engine.begun[len(begun.stages.names()) - 5]))
    make_elsewhere(begun, (first,), lambda folder: engine)
    assert [task.name for task in engine.begun] == [first.stage(step) for step in first.steps[1:]]


def test_a_stage_that_fails_ends_the_engine_and_keeps_what_is_finished(begun):
    ended = []

    def ends(engine: _Slow) -> Done:
        if ended == ["single.head", "submodel-00.head"]:
            raise TrainingError("its loss is no number")
        ended.append(engine.begun[len(ended)].name)
        return _made(engine.begun[len(ended) - 1])

    engine = _Slow(ends)
    with pytest.raises(TrainingError, match="its loss is no number"):
        make_elsewhere(begun, begun.members, lambda folder: engine)
    assert engine.left and all(map(begun.stages.has, ended))
    assert not begun.stages.has("submodel-01.head")


def test_a_stage_is_never_written_twice(begun):
    begun.stages.put("single.head", {}, {"seconds": 1.0})
    with pytest.raises(OutputError, match="single.head .* a second time"):
        begun.stages.put("single.head", {}, {"seconds": 1.0})


def test_a_task_reads_no_test_data_and_asks_for_what_its_model_takes(begun):
    engine = _Slow(lambda engine: pytest.fail("nothing was to end"))
    with pytest.raises(pytest.fail.Exception):
        make_elsewhere(begun, begun.members, lambda folder: engine)
    task = engine.begun[0]
    assert "data/train.npy" in task.reads and "base/weights.npz" in task.reads
    assert not {"data/test.npy", "base/base.keras"} & set(task.reads)
    assert task.resources.cpus == 2 and task.resources.gpus == 0
    assert 500 << 20 < task.resources.memory_bytes < 2 << 30


def test_a_node_with_another_version_of_the_package_is_refused(begun, monkeypatch, tmp_path):
    engine = _Slow(lambda engine: pytest.fail("nothing was to end"))
    with pytest.raises(pytest.fail.Exception):
        make_elsewhere(begun, begun.members, lambda folder: engine)
    monkeypatch.setattr(elsewhere, "code_digest", lambda: "another")
    with pytest.raises(ClusterError, match="another version of edvit_tf .another. than the run"):
        elsewhere.make(begun.stages.folder, tmp_path, **engine.begun[0].spec)


def test_a_stage_that_cannot_be_written_where_it_is_made_says_where(begun, monkeypatch, tmp_path):
    engine = _Slow(lambda engine: pytest.fail("nothing was to end"))
    with pytest.raises(pytest.fail.Exception):
        make_elsewhere(begun, begun.members, lambda folder: engine)

    def full(run, folder):
        raise OSError(28, "No space left on device")

    stage = SimpleNamespace(name="single.head", build=full)
    monkeypatch.setattr(elsewhere, "stages_of", lambda member: [stage])
    with pytest.raises(OutputError, match="single.head failed on node .*No space left"):
        elsewhere.make(begun.stages.folder, tmp_path, **engine.begun[0].spec)
