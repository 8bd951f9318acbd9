"""Tasks on the nodes of a Ray cluster (the extra `ray`): those of a machine that dies are begun
again on another, and cost nothing else.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from edvit_tf.cluster.engine import Done, Losses, Resources, Task, raised
from edvit_tf.cluster.heard import Ear, prints_told
from edvit_tf.cluster.local import threads_asked
from edvit_tf.cluster.piece import Blind, Failed, Piece, blas_threads, do, marked
from edvit_tf.device.terminal import counted
from edvit_tf.errors import ClusterError
from edvit_tf.progress import tell, warn

AUTO = "auto"
CLIENT = "ray://"  # of a machine that is no node itself
CLIENT_PORT = 10001
LOOK_SECONDS = 30.0  # between two looks at the nodes, while nothing ends
ANSWER_SECONDS = 5.0  # in which a cluster answers, or is not there
_INSTALL = "pip install 'edvit-tf[ray]'"


class OnRay:
    """A cluster: whatever nodes it has, and gets while tasks run."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.cpus = threads_asked() or 1
        self.words = ""
        self._stack = contextlib.ExitStack()
        self._losses = Losses()
        self._running: dict[Any, Task] = {}
        self._sent: dict[str, Any] = {}  # file of the folder -> where it lies in the cluster
        self._is_blind = False  # whether some node was found that does not see the folder
        self._told_limits = False
        self._told_of_wait = False

    def __enter__(self) -> "OnRay":
        found, own = reached(self.address)
        try:
            # nodes that come and go are printed by a thread of Ray
            self._stack.enter_context(prints_told("ray"))
            self._ray = _connected(found)
            self._stack.callback(self._ray.shutdown)
            if not found.startswith(CLIENT):
                # as other machines see it: the address may have been this machine's inner one
                own = self._ray.util.get_node_ip_address()
            self._word = self._stack.enter_context(marked(self.folder))
            self._ear = self._stack.enter_context(Ear(own))
            nodes = self._nodes()
            _check_cpus(nodes, self.cpus)
            cpus = sum(int(node.get("CPU", 0)) for node in nodes)
            self.words = (
                f"{counted(len(nodes), 'Ray node')} with {counted(cpus, 'CPU')}, "
                f"{self.cpus} of them a fit"
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in self._running:
            self._ray.cancel(one, force=True)
        # the cluster ends all processes of a run that has left it
        self._stack.close()

    def start(self, task: Task) -> None:
        sent = {name: self._file(name) for name in task.reads} if self._is_blind else None
        piece = Piece(task, str(self.folder), self._word, self._ear.address, blas_threads())
        options = self._options(task.resources)
        self._running[self._ray.remote(**options)(_do).remote(piece, sent)] = task

    def ended(self) -> Done:
        while True:
            ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=LOOK_SECONDS)
            if not ended:
                self._look()
                continue
            one = ended[0]
            task = self._running.pop(one)
            try:
                found = self._ray.get(one)
            except self._lost as error:
                why = type(error).__name__
                if isinstance(error, self._ray.exceptions.ObjectLostError):
                    self._sent.clear()  # what the cluster has lost is put there once more
                tell(self._losses.another(task.name, f"a node or its process: {why}"), "warning")
                self.start(task)
                continue
            except self._ray.exceptions.RayError as error:
                raise _of_a_node(error) from error

            if isinstance(found, Blind):
                if not self._is_blind:
                    tell(f"node {found.node} does not see {self.folder}: files are sent to it")
                self._is_blind = True
                self.start(task)
                continue
            if isinstance(found, Failed):
                raise raised(found.kind, f"on node {found.node}: {found.words}")
            return Done(task.name, found.files, found.result, found.node)

    def _look(self) -> None:
        """Warns, once, where no node that is left has the CPUs of a task: it would be waited for
        without a word.
        """
        asked = max(task.resources.cpus for task in self._running.values())
        most = int(max((node.get("CPU", 0) for node in self._nodes()), default=0))
        if asked > most and not self._told_of_wait:
            self._told_of_wait = True
            warn(
                f"a fit takes {asked} CPUs, and no node of the cluster has more than {most} any "
                "more: it is waited for one. Add a node, or end the run: finished stages are kept"
            )

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        """What Ray raises where a worker, its node or what it had made is gone."""
        found = self._ray.exceptions
        return (
            found.WorkerCrashedError,
            found.NodeDiedError,
            found.ObjectLostError,
            found.OutOfMemoryError,
            found.LocalRayletDiedError,
        )

    def _nodes(self) -> list[dict]:
        """The resources of each node."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _file(self, name: str) -> Any:
        """Where a file lies in the cluster: put there once, for all nodes."""
        if name not in self._sent:
            self._sent[name] = self._ray.put((self.folder / name).read_bytes())
        return self._sent[name]

    def _options(self, asked: Resources) -> dict:
        """What a task reserves. More memory than any node has would be waited for without end."""
        nodes = self._nodes()
        most = int(max((node.get("memory", 0) for node in nodes), default=0))
        memory = asked.memory_bytes
        if memory > most:
            if not self._told_limits:
                warn(
                    f"a fit takes about {memory >> 20} MiB, and the largest node has {most >> 20}: "
                    "it may end for want of memory"
                )
            self._told_limits = True
            memory = most
        # lost tasks are begun again here, where it is told; Ray would do so without a word
        found: dict[str, Any] = {"num_cpus": asked.cpus, "memory": memory, "max_retries": 0}
        if asked.gpus and any(node.get("GPU", 0) for node in nodes):
            found["num_gpus"] = asked.gpus
        return found


def _do(piece: Piece, sent: Mapping[str, Any] | None):
    """A piece on a node: what was sent is fetched only where the node needs it."""
    import ray

    fetch = None
    if sent is not None:

        def fetch() -> dict[str, bytes]:
            return dict(zip(sent, ray.get(list(sent.values())), strict=True))

    return do(piece, fetch)


def check_address(address: str) -> None:
    """Raises ClusterError where Ray is not installed, or nobody is at the address: before hours of
    training, and within seconds.
    """
    reached(address)


def reached(address: str) -> tuple[str, str]:
    """The address of a cluster that answers, and this machine's own as the cluster sees it. Raises
    ClusterError. Ray's own attempt would go on for a minute and more.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(
            f"--ray {address}: Ray is not installed. {_INSTALL}, here and on every node."
        )

    found = _found() if address == AUTO else address
    host, port = _split(found)
    try:
        with socket.create_connection((host, port), ANSWER_SECONDS) as connection:
            own = connection.getsockname()[0]
    except OSError as error:
        raise ClusterError(
            f"--ray {address}: no Ray cluster answers at {host}:{port} ({error}). Start one with "
            "`ray start --head`, and see that its port is open here; or give another address."
        ) from error
    return found, own


def _found() -> str:
    """The address of the cluster that this machine is a node of, as `ray start` noted it."""
    said = os.environ.get("RAY_ADDRESS", "").strip()
    if said and said != AUTO:
        return said
    note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    with contextlib.suppress(OSError):
        said = (note / "ray_current_cluster").read_text(encoding="utf-8").strip()
        if said:
            return said
    raise ClusterError(
        f"--ray {AUTO}: this machine is a node of no Ray cluster (no ray_current_cluster in "
        f"{note}, and RAY_ADDRESS is not set). Start one with `ray start --head`, or give its "
        "address, as in --ray 192.0.2.1:6379."
    )


def _split(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or ray://HOST[:PORT]."""
    is_client = address.startswith(CLIENT)
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if is_client and not colon:
        host, port = port, str(CLIENT_PORT)
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ClusterError(
            f"--ray {address}: this is no address of a cluster. Give {AUTO}, HOST:PORT as "
            f"`ray start --head` prints it, or {CLIENT}HOST:{CLIENT_PORT}."
        )
    return host.strip("[]"), int(port)


def _connected(address: str) -> Any:
    """Ray, connected."""
    import ray

    if ray.is_initialized():
        raise ClusterError(
            "this process is connected to a Ray cluster already; a run has a connection of its "
            "own. Call ray.shutdown() before, or leave out ray=."
        )
    # it would put a function of its own in the place of print, for bars that nobody makes here
    os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level="warning")
    except Exception as error:
        # Ray raises what it pleases
        raise ClusterError(
            f"--ray {address}: the cluster refuses ({' '.join(str(error).split())[:500]}). Every "
            "node needs the same Python and the same Ray as this machine."
        ) from error
    finally:
        # Ray would end the process with code 15, which is another's
        if threading.current_thread() is threading.main_thread() and ended_by is not None:
            signal.signal(signal.SIGTERM, ended_by)
    return ray


def _check_cpus(nodes: list[dict], asked: int) -> None:
    most = int(max((node.get("CPU", 0) for node in nodes), default=0))
    if asked > most:
        raise ClusterError(
            f"a fit was to take {asked} CPUs, and no node has more than {most}: it would wait "
            "without end. Set TF_NUM_INTRAOP_THREADS to what a node has, or add a larger one."
        )


def _of_a_node(error: Exception) -> Exception:
    """A fault on a node; one without our package is told as what it is."""
    words = str(error)
    if "ModuleNotFoundError" in words or "failed to import" in words:
        last = next((line for line in words.splitlines() if "ModuleNotFoundError" in line), "")
        return ClusterError(
            f"a node of the cluster cannot do the work ({last.strip() or 'an import failed'}). "
            f"Install this version on every node: {_INSTALL} with [host]."
        )
    return error
