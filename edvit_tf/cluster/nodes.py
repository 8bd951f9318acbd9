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
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from edvit_tf.errors import ClusterError

STARTED = "Ray runtime started"
GIVEN_UP = "timed out during startup"
ATTEMPTS = 4
STORE_BYTES = 100 << 20  # of the objects of a node; Ray has 75 MiB at the least
START_SECONDS = 180.0
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}


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
        environment: Mapping[str, str] | None = None,
    ) -> None:
        place = ["--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
        command = [
            *within,
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            *(place if head is None else [f"--address={head}"]),
            *(f"--node-ip-address={host}", f"--num-cpus={cpus}"),
            f"--object-store-memory={STORE_BYTES}",
        ]
        self.address = f"{host}:{port}" if head is None else head
        # colours would split the words that are waited for
        own = {**os.environ, **_ENVIRONMENT, **(environment or {}), "NO_COLOR": "1"}
        self._changed = threading.Condition()
        self._begin = partial(
            subprocess.Popen,
            command,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._start()

    def wait(self) -> None:
        """Until the node is up. One that Ray gave up is begun again: it waits for 30 seconds, in
        which a machine may stand still. Raises ClusterError with its last words where it does not
        come.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                self.kill()
                self._start()
            with self._changed:
                end = time.monotonic() + START_SECONDS
                # its children hold the pipe, so that its own end is not told by it
                while not (self._is_up or self._has_ended) and time.monotonic() < end:
                    self._changed.wait(0.5)
                if self._is_up:
                    return
            if not any(GIVEN_UP in line for line in self._said):
                break
        last = "".join(self._said[-5:]).strip() or "it said nothing"
        raise ClusterError(f"a Ray node does not start: {last}")

    def _start(self) -> None:
        self._said: list[str] = []
        self.process = self._begin()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

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
