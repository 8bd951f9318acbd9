"""What the engine on Ray does while it waits, and words of strangers, without a cluster: Ray
itself is played by a few lines.
"""

import socket
import threading
from types import SimpleNamespace

import pytest

from edvit_tf.cluster import heard
from edvit_tf.cluster.engine import Resources, Task, raised
from edvit_tf.cluster.heard import Ear
from edvit_tf.cluster.on_ray import OnRay
from edvit_tf.cluster.piece import Made
from edvit_tf.errors import OutputError, PlanError
from edvit_tf.progress.events import listening, tell


class _Kept:
    def __init__(self):
        self.events = []

    def hear(self, event):
        self.events.append(event)


_NAMES = (
    *("RayError", "WorkerCrashedError", "NodeDiedError"),
    *("ObjectLostError", "OutOfMemoryError", "LocalRayletDiedError"),
)


class _Ray:
    """A cluster of one node, whose tasks end as `ends` says, one after the other; None: nothing
    ends within the wait.
    """

    exceptions = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in _NAMES})

    def __init__(self, ends: list, cpus: int = 2) -> None:
        self.ends, self.cpus = ends, cpus
        self.kept: list[bytes] = []
        self._count = 0

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": self.cpus, "memory": 1 << 40}}]

    def put(self, content):
        self.kept.append(content)
        return len(self.kept)

    def remote(self, **options):
        return lambda function: SimpleNamespace(remote=self._begin)

    def _begin(self, piece, sent):
        self._count += 1
        return self._count

    def wait(self, running, num_returns, timeout):
        if self.ends[0] is None:
            self.ends.pop(0)
            return [], running
        return running[:1], running[1:]

    def get(self, one):
        found = self.ends.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, one, force):
        pass


@pytest.fixture
def begun(tmp_path):
    """An engine with a task of one file that was sent, on a cluster that is played."""

    def begin(*ends, cpus: int = 2) -> OnRay:
        (tmp_path / "read").write_bytes(b"content")
        engine = OnRay(tmp_path, address="192.0.2.1:6379")
        engine._ray = _Ray([*ends], cpus)
        engine._word, engine._ear = "word", SimpleNamespace(address=None)
        engine._is_blind = True
        engine.start(Task("fit", "module:function", {}, ("read",), Resources(cpus=2)))
        return engine

    return begin


DONE = Made({}, {}, "node-1")


def test_a_file_that_the_cluster_has_lost_is_sent_once_more(begun):
    engine = begun(_Ray.exceptions.ObjectLostError(), DONE)
    with listening(kept := _Kept()):
        assert engine.ended().name == "fit"
    assert engine._ray.kept == [b"content", b"content"]
    assert "ObjectLostError" in kept.events[0].text and "begun again" in kept.events[0].text


def test_a_task_that_loses_its_worker_again_and_again_is_an_error(begun):
    engine = begun(*(_Ray.exceptions.WorkerCrashedError() for _ in range(3)))
    with listening(_Kept()), pytest.raises(OutputError, match="fit has lost its worker 3 times"):
        engine.ended()


def test_a_cluster_that_has_grown_too_small_is_waited_for_with_a_word(begun):
    engine = begun(None, None, DONE, cpus=1)
    with listening(kept := _Kept()):
        assert engine.ended().name == "fit"
    (warning,) = kept.events  # once
    assert "a fit takes 2 CPUs, and no node of the cluster has more than 1" in warning.text

    with listening(kept := _Kept()):
        assert begun(None, DONE).ended().name == "fit"
    assert kept.events == []


def test_a_stranger_who_says_nothing_is_not_listened_to_for_ever(monkeypatch):
    monkeypatch.setattr(heard, "PATIENCE_SECONDS", 0.2)
    with Ear("127.0.0.1") as ear:
        stranger = socket.create_connection((ear.address.host, ear.address.port))
        assert stranger.recv(1) == b""  # it was hung up on
        stranger.close()


def test_events_of_two_threads_are_heard_one_after_the_other():
    inside, both = [0], threading.Barrier(2)

    class Slow:
        most = 0

        def hear(self, event):
            inside[0] += 1
            Slow.most = max(Slow.most, inside[0])
            threading.Event().wait(0.001)
            inside[0] -= 1

    def say():
        both.wait()
        for _ in range(50):
            tell("x")

    with listening(Slow()):
        threads = [threading.Thread(target=say) for _ in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert Slow.most == 1


def test_an_error_of_no_room_of_errors_is_told_all_the_same():
    assert isinstance(raised("PlanError", "x"), PlanError)
    found = raised("NoSuchError", "what it said")
    assert isinstance(found, OutputError) and str(found) == "what it said"
