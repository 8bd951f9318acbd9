"""What is sent to a worker, and what it does with it: a task, and the folder that the task reads.

A worker that sees the folder reads it there: a process of the same machine, or a node with the same
shared folder. A file with a word that is new for every run of an engine says that it is the same
one, and no copy of it at the same place. Any other worker is sent the files that the task reads,
and keeps them as long as it lives.
"""

import atexit
import contextlib
import importlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edvit_tf.cluster.engine import Task
from edvit_tf.cluster.heard import Address, telling
from edvit_tf.device.errors import DeviceError
from edvit_tf.device.model.file_lock import hold
from edvit_tf.errors import EdvitError

MARK = ".seen"  # in the folder: the word
LOCK = "lock"
_KEPT = "edvit-piece-"  # folders of workers


@dataclass(frozen=True)
class Piece:
    """A task on its way to a worker."""

    task: Task
    folder: str
    word: str
    ear: Address | None
    blas_threads: int = 0  # of the run's own linear algebra; 0: whatever the worker has


@dataclass(frozen=True)
class Made:
    """What a task has come to: files by name, and its function's result."""

    files: dict[str, bytes]
    result: dict
    node: str


@dataclass(frozen=True)
class Blind:
    """The worker does not see the folder, or not all that the task reads: it must be sent."""

    node: str


@dataclass(frozen=True)
class Failed:
    """An error of ours: the name of its class, and its words."""

    kind: str
    words: str
    node: str


Fetch = Callable[[], Mapping[str, bytes]]  # the files that a task reads, once they are wanted


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[str]:
    """Within it the folder has the word by which workers know it."""
    word = secrets.token_hex(16)
    mark = folder / MARK
    mark.write_text(word, encoding="utf-8")
    try:
        yield word
    finally:
        mark.unlink(missing_ok=True)


def do(piece: Piece, fetch: Fetch | None = None) -> Made | Blind | Failed:
    """Does a piece of work, in the worker. `fetch` gives what the task reads, where that was
    sent.
    """
    # as the engine started it; read when TensorFlow is loaded, with the first piece
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(piece.task.resources.cpus)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    node = socket.gethostname()
    _remove_left()

    read = Path(piece.folder)
    if not _sees(read, piece):
        if fetch is None:
            return Blind(node)
        read = _kept(piece, fetch)

    heard = contextlib.nullcontext() if piece.ear is None else telling(piece.ear, node)
    with (
        heard,
        blas_of(piece.blas_threads),
        tempfile.TemporaryDirectory(prefix="made-", dir=_own()) as made,
    ):
        try:
            result = _function(piece.task.function)(read, Path(made), **piece.task.spec)
            files = {one.name: one.read_bytes() for one in Path(made).iterdir()}
        except (EdvitError, DeviceError) as error:
            words = str(error).replace(str(read), piece.folder)
            return Failed(type(error).__name__, words, node)
        return Made(files, result, node)


def blas_threads() -> int:
    """Threads that numpy's and scipy's linear algebra takes in this process; 0: it does not say."""
    import numpy as np  # noqa: F401, what is loaded is asked
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    found = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    return max(found, default=0)


def blas_of(threads: int) -> contextlib.AbstractContextManager:
    """Within it linear algebra takes so many threads (0: as it is). They say in which order it
    sums, and so what a repair's last digits are: an engine that gives its workers one thread, as
    Ray does, would change the files.
    """
    if not threads:
        return contextlib.nullcontext()
    import numpy as np  # noqa: F401, what is not loaded has no threads to set
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads, user_api="blas")


def _function(name: str) -> Callable[..., dict]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _sees(folder: Path, piece: Piece) -> bool:
    """Whether the folder here is the one that is meant, with all that the task reads; another
    machine's may come late to a shared folder.
    """
    try:
        if (folder / MARK).read_text(encoding="utf-8") != piece.word:
            return False
    except OSError:
        return False
    return all((folder / name).is_file() for name in piece.task.reads)


@dataclass(frozen=True)
class _Place:
    """The folder of this process for what it was sent and what it makes. The lock is held until the
    process ends, however that is, and says that the folder is in use.
    """

    folder: Path
    lock: IO[str]


_place: _Place | None = None


def _own() -> Path:
    """This process's folder."""
    global _place
    if _place is None:
        folder = Path(tempfile.mkdtemp(prefix=_KEPT))
        lock = open(folder / "new", "w")  # noqa: SIM115 (held as long as the process lives)
        hold(lock, patience_seconds=0)
        # nobody else finds it before it is held
        (folder / "new").rename(folder / LOCK)
        _place = _Place(folder, lock)
    return _place.folder


@atexit.register
def _leave() -> None:
    """Removes this process's folder."""
    global _place
    if _place is not None:
        shutil.rmtree(_place.folder, ignore_errors=True)
        _place.lock.close()
        _place = None


def _kept(piece: Piece, fetch: Fetch) -> Path:
    """A folder with the files that the task reads, as far as they are not there yet; those of
    another run go.
    """
    folder = _own() / piece.word
    for other in _own().iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)

    if any(not (folder / name).is_file() for name in piece.task.reads):
        for name, content in fetch().items():
            file = folder / name
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    return folder


def _remove_left() -> None:
    """Removes the folders of processes that were killed. A number would not say that: containers
    with one folder of temporary files have numbers of their own.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_KEPT}*"):
        if _place is not None and folder == _place.folder:
            continue
        with contextlib.suppress(OSError), open(folder / LOCK) as lock:  # BlockingIOError: in use
            if hold(lock, patience_seconds=0):
                shutil.rmtree(folder, ignore_errors=True)
