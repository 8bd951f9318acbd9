"""Tasks by processes of this machine: loky, which joblib and scikit-learn run on as well.

Each process is a pool of its own, as a pool of loky ends with any of its processes: one that is
killed takes its task alone, which is begun again in another.
"""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from edvit_tf.cluster.engine import Done, Losses, Task, raised
from edvit_tf.cluster.heard import Ear
from edvit_tf.cluster.piece import Failed, Piece, blas_threads, do, marked
from edvit_tf.device.terminal import counted
from edvit_tf.progress import tell

LOOK_SECONDS = 0.5  # between a worker's looks for the run that it works for


class Local:
    """`jobs` processes, which share out the cores."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder = folder
        self.jobs = jobs
        self.cpus = max(1, cores() // jobs)
        processes = counted(jobs, "process", "processes")
        self.words = f"{processes} of {self.cpus} thread(s) each"
        self._stack = contextlib.ExitStack()
        self._losses = Losses()
        self._waiting: deque[Task] = deque()
        self._running: dict[Future, tuple[Task, Any]] = {}
        self._idle: list[Any] = []

    def __enter__(self) -> "Local":
        with contextlib.ExitStack() as stack:  # where one fails, the one before is undone
            self._word = stack.enter_context(marked(self.folder))
            self._ear = stack.enter_context(Ear("127.0.0.1"))
            self._stack = stack.pop_all()
        self._idle = [self._pool() for _ in range(self.jobs)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # a process that nobody waits for would go on training
        for pool in (*self._idle, *(pool for _, pool in self._running.values())):
            pool.shutdown(wait=True, kill_workers=True)
        self._stack.close()

    def start(self, task: Task) -> None:
        self._waiting.append(task)
        self._go_on()

    def ended(self) -> Done:
        from loky import BrokenProcessPool

        while True:
            ready, _ = wait(self._running, return_when=FIRST_COMPLETED)
            one = ready.pop()
            task, pool = self._running.pop(one)
            try:
                found = one.result()
            except BrokenProcessPool:
                pool.shutdown(wait=True, kill_workers=True)
                self._idle.append(self._pool())
                tell(self._losses.another(task.name, "its process was killed"), "warning")
                self._waiting.appendleft(task)
                self._go_on()
                continue
            except BaseException:
                self._idle.append(pool)
                raise

            self._idle.append(pool)
            self._go_on()
            if isinstance(found, Failed):
                raise raised(found.kind, found.words)
            return Done(task.name, found.files, found.result, found.node)

    def _go_on(self) -> None:
        """Gives tasks that wait to processes that have none."""
        from loky import BrokenProcessPool

        while self._waiting and self._idle:
            task, pool = self._waiting.popleft(), self._idle.pop()
            piece = Piece(task, str(self.folder), self._word, self._ear.address, blas_threads())
            try:
                one = pool.submit(do, piece)
            except BrokenProcessPool:  # killed while it had nothing to do: that costs nothing
                pool.shutdown(wait=True, kill_workers=True)
                pool = self._pool()
                one = pool.submit(do, piece)
            self._running[one] = task, pool

    def _pool(self) -> Any:
        """One process; it is started with its first task."""
        from loky.process_executor import ProcessPoolExecutor

        # read when a library is loaded, which may be with the first piece
        environment = {"TF_NUM_INTRAOP_THREADS": str(self.cpus), "TF_NUM_INTEROP_THREADS": "1"}
        return ProcessPoolExecutor(1, initializer=_begin, initargs=(os.getpid(),), env=environment)


def cores() -> int:
    """Those that TensorFlow would take, which passes over what is no number; 0 is all of them."""
    return threads_asked() or os.cpu_count() or 1


def threads_asked() -> int | None:
    """Threads of a fit that the environment asks for; None: nothing that TensorFlow would heed."""
    said = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if said.isascii() and said.isdecimal() and int(said) > 0:
        return int(said)
    return None


def _begin(parent: int) -> None:
    """What a process does first: Ctrl-C is for the run, which ends it, and it ends with the run,
    however that ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
