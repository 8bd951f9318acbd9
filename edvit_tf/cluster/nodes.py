"""Ray nodes on this machine, for what measures and tests: processes of `ray start --block`, each a
node of its own, which can be killed as a machine dies.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from edvit_tf.cluster.start_node import PATIENCE_SECONDS
from edvit_tf.errors import ClusterError

STARTED = "Ray runtime started"
STORE_BYTES = 100 << 20  # of the objects of a node; Ray has 75 MiB at the least
START_SECONDS = 2 * PATIENCE_SECONDS  # Ray ends by itself before
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",  # colours would split the words that are waited for
    # A process that is slow to start, or does not answer, has other work beside it; one that was
    # killed refuses the connection, which is noticed with the next look.
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_period_ms": "500",
    # Ray's own 15 leaves a fit next to nothing of a machine where others work, too
    "RAY_worker_niceness": "0",
}


class Node:
    """One node: the first of a cluster, or one that joins the cluster at `head`."""

    def __init__(
        self,
        host: str,
        *,
        folder: Path,
        port: int | None = None,
        head: str | None = None,
        cpus: int = 1,
        within: Sequence[str] = (),
    ) -> None:
        place = [f"--address={head}"]
        if head is None:
            place = ["--head", f"--port={port}", f"--temp-dir={folder}"]
            place += ["--include-dashboard=false", "--no-monitor"]
        command = [
            *within,
            *(sys.executable, "-m", "edvit_tf.cluster.start_node", "--block", *place),
            *(f"--node-ip-address={host}", f"--num-cpus={cpus}"),
            f"--object-store-memory={STORE_BYTES}",
            # any that are free: nodes of one machine have the same range otherwise
            *("--min-worker-port=0", "--max-worker-port=0"),
        ]
        self.address = f"{host}:{port}" if head is None else head
        self._changed = threading.Condition()
        self._said: list[str] = []
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Until the node is up. Raises ClusterError with its last words where it does not come."""
        end = time.monotonic() + START_SECONDS
        with self._changed:
            # its children hold the pipe, so that its own end is not told by it
            while not (self._is_up or self._has_ended) and time.monotonic() < end:
                self._changed.wait(0.5)
            if self._is_up:
                return
            last = "".join(self._said[-5:]).strip() or "it said nothing"
        raise ClusterError(f"a Ray node does not start: {last}")

    def processes(self) -> set[int]:
        """All processes of the node, its workers among them."""
        # the number of one that has ended may be another's by now; that of a session is not
        own = _below(self.process.pid) if self.process.poll() is None else set()
        return own | _of_session(self.process.pid)

    def kill(self) -> None:
        """Ends all of it at once, as a machine dies."""
        left = self.processes()
        while left:
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            # what it had started since
            left = {one for one in self.processes() - left if _is_there(one)}
        self.process.wait()
        self._reader.join(5)

    @property
    def _is_up(self) -> bool:
        return any(STARTED in line for line in self._said)

    @property
    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def _read(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                with self._changed:
                    self._said.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


class Nodes:
    """A cluster of `count` nodes on this machine, as long as its context lasts."""

    def __init__(self, count: int, port: int, cpus: int = 1) -> None:
        self.count, self.port, self.cpus = count, port, cpus
        self.nodes: list[Node] = []
        self._folder = tempfile.TemporaryDirectory(
            # a socket's path has 107 characters at most
            prefix="edvit-ray-",
            dir="/tmp",
            ignore_cleanup_errors=True,
        )

    @property
    def address(self) -> str:
        """For --ray."""
        return self.nodes[0].address

    def __enter__(self) -> "Nodes":
        folder = Path(self._folder.name)
        try:
            head = Node("127.0.0.1", folder=folder, port=self.port, cpus=self.cpus)
            self.nodes.append(head)
            head.wait()
            # one after the other: two of one machine that start at once take the same ports
            for _ in range(1, self.count):
                one = Node("127.0.0.1", folder=folder, head=head.address, cpus=self.cpus)
                self.nodes.append(one)
                one.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in reversed(self.nodes):
            node.kill()
        self._folder.cleanup()


def _below(number: int) -> set[int]:
    """A process and all that it has started, and these."""
    children: dict[int, list[int]] = {}
    for one, parent in _parents():
        children.setdefault(parent, []).append(one)
    found, left = set(), [number]
    while left:
        one = left.pop()
        found.add(one)
        left += children.get(one, [])
    return found


def _of_session(number: int) -> set[int]:
    """The processes of a session: those that a node has left behind when it gave up."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == number:
                found.add(int(entry.name))
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Each process of the machine, with the one that has started it."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # its name stands in brackets and may hold anything
            words = entry.read_text(errors="replace").rpartition(")")[2].split()
            yield int(entry.parent.name), int(words[1])


def _is_there(number: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False
