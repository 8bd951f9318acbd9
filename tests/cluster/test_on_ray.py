"""Tasks and whole runs on Ray clusters of several nodes of this machine: the files of a run without
one, with a node killed in the middle of a fit, and with nodes that do not see the work folder.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edvit_tf.cluster.engine import MOST_LOSSES, Resources, Task
from edvit_tf.cluster.nodes import Node, Nodes
from edvit_tf.device.model.bundle import sha256
from edvit_tf.errors import ClusterError, OutputError, TrainingError
from edvit_tf.progress import listening
from tests.cluster.test_local import Kept, interrupt_when, is_at_work, wait
from tests.support import pieces
from tests.support.commands import SMOKE, run_host
from tests.support.forked import ROOT
from tests.support.netlab import DEVICE, HUB, NETLAB, inside, network
from tests.support.ports import free_port

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [
    pytest.mark.ray,
    # of Ray itself, about a default that will change
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def task(name: str, function, reads: tuple[str, ...] = (), resources=None, **spec) -> Task:
    function = f"{pieces.HERE}:{function.__name__}"
    return Task(name, function, spec, reads, resources or Resources())


@pytest.fixture(scope="module")
def three_nodes():
    """For all tests of this machine; the last one kills a node."""
    with Nodes(3, free_port()) as nodes:
        yield nodes


@pytest.fixture
def engine(three_nodes, tmp_path, monkeypatch):
    from edvit_tf.cluster.on_ray import OnRay

    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    kept = Kept()
    with listening(kept), OnRay(tmp_path, three_nodes.address) as engine:
        engine.kept = kept
        yield engine


def test_tasks_run_on_all_nodes_and_their_files_and_words_come_back(engine, three_nodes, tmp_path):
    assert engine.words == "3 Ray nodes with 3 CPUs, 1 of them a fit"
    for name in "abc":
        engine.start(task(name, pieces.wait_for, until=name))
    files = [tmp_path / f"waiting-{name}" for name in "abc"]
    wait(lambda: all(one.is_file() and one.read_text() for one in files))
    numbers = {int(one.read_text()) for one in files}
    assert [len(node.processes() & numbers) for node in three_nodes.nodes] == [1, 1, 1]

    for name in "cab":  # in the order in which they end
        (tmp_path / name).touch()
        assert engine.ended().name == name
    (tmp_path / "one").write_bytes(b"1")
    engine.start(task("join", pieces.join, ("one",), names=["one"]))
    made = engine.ended()
    assert made.files == {"joined": b"1"}
    assert made.result == {"read": str(tmp_path), "threads": "1"}

    engine.start(task("speak", pieces.speak))
    engine.ended()
    told = [(event.kind, event.text) for event in engine.kept.events]
    assert told == [
        ("epoch", "told"),
        ("warning", "WARNING: odd"),
        ("note", "printed"),
        ("warning", "muttered"),
    ]


def test_errors_and_faults_of_a_node_are_raised_here(engine):
    engine.start(task("t", pieces.go_astray))
    with pytest.raises(TrainingError, match="on node .*: the loss is no number"):
        engine.ended()
    engine.start(task("t", pieces.have_a_fault))
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        engine.ended()


def test_a_killed_process_is_begun_again_and_not_without_end(engine):
    engine.start(task("once", pieces.die_once))
    assert engine.ended().name == "once"
    engine.start(task("always", pieces.die))
    with pytest.raises(OutputError, match=f"always has lost its worker {MOST_LOSSES} times"):
        engine.ended()
    words = [event.text for event in engine.kept.events if event.kind == "warning"]
    assert [text.partition(" ")[0] for text in words] == ["once", "always", "always"]


def test_more_memory_than_any_node_has_is_said_and_not_waited_for(engine, tmp_path):
    resources = Resources(memory_bytes=1 << 50)
    for _ in range(2):
        engine.start(task("t", pieces.join, (), resources, names=[]))
        engine.ended()
    words = [event.text for event in engine.kept.events]
    assert len(words) == 1 and "a fit takes about 1073741824 MiB" in words[0]


def test_an_interrupt_ends_the_wait_and_the_workers(three_nodes, tmp_path):
    from edvit_tf.cluster.on_ray import OnRay

    at_work = tmp_path / "waiting-never"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), OnRay(tmp_path, three_nodes.address) as engine:
        assert signal.getsignal(signal.SIGTERM) == before
        engine.start(task("t", pieces.wait_for, until="never"))
        interrupt_when(at_work)
        engine.ended()
    wait(lambda: not is_at_work(int(at_work.read_text())))


def test_more_threads_than_any_node_has_are_refused(three_nodes, tmp_path, monkeypatch):
    from edvit_tf.cluster.on_ray import OnRay

    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    with (
        pytest.raises(ClusterError, match="take 2 CPUs, and no node has more than 1"),
        OnRay(tmp_path, three_nodes.address),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


# Whole runs


def _shas(bundle: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(bundle.glob("*.tflite"))}


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> Path:
    """The bundle of the run without Ray, fitted by one thread as on a node of one CPU."""
    out = tmp_path_factory.mktemp("without") / "out"
    one = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = run_host(*SMOKE, "--out", out, **one)
    assert done.returncode == 0, done.stderr
    return out


def _with_a_node_killed(command: Sequence[str], nodes: Sequence[Node]) -> list[dict]:
    """Events of a run in which the first of `nodes` that has a fit is killed just then."""
    environment = {name: value for name, value in os.environ.items() if name != "EDVIT_DATA"}
    environment.pop("TF_NUM_INTRAOP_THREADS", None)
    events, killed = [], None
    with subprocess.Popen(
        [*map(str, command)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    ) as run:
        try:
            for line in run.stdout:
                assert line.startswith("{"), f"this is no event: {line!r}"
                event = json.loads(line)
                events.append(event)
                if event["event"] != "fit" or killed is not None or "process" not in event:
                    continue
                found = [node for node in nodes if event["process"] in node.processes()]
                if found:
                    found[0].kill()
                    killed = event["title"]
        finally:
            if sys.exc_info()[0] is not None:
                run.kill()
    assert run.returncode == 0, events[-1]
    assert killed is not None
    warned = [event["text"] for event in events if event["event"] == "warning"]
    lost = [text for text in warned if "has lost its worker" in text]
    assert len(lost) == 1 and lost[0].startswith(f"{killed} has lost its worker (a node")
    return events


def test_a_node_that_is_killed_in_the_middle_of_a_fit_changes_no_file(
    three_nodes, without, tmp_path
):
    out = tmp_path / "out"
    options = ("--reuse", f"{without}.work", "--out", out)
    asked = ("--ray", three_nodes.address, "--json")
    command = [sys.executable, *SMOKE, *options, *asked]
    events = _with_a_node_killed(command, three_nodes.nodes[1:])

    assert _shas(out) == _shas(without) and len(_shas(out)) == 3
    said = [event["text"] for event in events]
    assert "3 members are fitted by 3 Ray nodes with 3 CPUs, 1 of them a fit" in said
    ended = [event["name"] for event in events if event["event"] == "stage-end"]
    assert len(ended) == len(set(ended))  # none was written twice
    log = out.with_name("out.log").read_text()
    assert "has lost its worker" in log and "submodel-01.ffn: epoch 1 of 1, loss" in log


HIDDEN = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


@pytest.mark.network
def test_machines_that_do_not_see_the_work_folder_are_sent_what_they_read(without, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()

    def node(name: str, host: str, **options) -> Node:
        within = (str(NETLAB), "exec", name, *HIDDEN, str(runs))
        return Node(host, folder=folder, within=within, **options)

    with contextlib.ExitStack() as stack:
        stack.enter_context(network(2, "none", 0))
        # a socket's path has 107 characters at most
        folder = Path(f"/tmp/edvit-ray-{os.getpid()}-{time.monotonic_ns()}")
        head = node("agg", HUB, port=6379)
        stack.callback(head.kill)
        head.wait()
        others = []
        for number in (1, 2):
            other = node(f"dev{number}", DEVICE.format(number), head=head.address)
            others.append(other)
            stack.callback(other.kill)
            other.wait()

        options = (*SMOKE[1:], "--reuse", f"{without}.work", "--out", runs / "out")
        asked = ("--ray", head.address, "--json")
        command = inside("agg", "tests.support.small_recipe", *options, *asked)
        events = _with_a_node_killed(command, others)

    assert _shas(runs / "out") == _shas(without)
    said = [event["text"] for event in events]
    assert any("does not see" in text and "files are sent to it" in text for text in said)
