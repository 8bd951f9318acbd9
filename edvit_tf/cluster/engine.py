"""The protocol of an engine: tasks with declared inputs and resources go in, their files come out.

An engine writes nothing into the folder that tasks read: what a task has made comes back as bytes,
and whoever asked for it keeps it, once. So a worker that dies takes nothing with it but the task
that it had, which is begun again.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from edvit_tf import errors
from edvit_tf.device import errors as device_errors
from edvit_tf.errors import OutputError

MOST_LOSSES = 3  # workers that one task may lose: more is the task's own doing, as for memory


@dataclass(frozen=True)
class Resources:
    """What a task takes of the machine where it runs."""

    cpus: int = 1  # threads of its graphs, too
    memory_bytes: int = 0
    gpus: float = 0.0


@dataclass(frozen=True)
class Task:
    """One piece of work: `function`, as "module:name", is called where the task runs with the
    folder that it reads, an empty folder that it writes into, and `spec`; it returns plain JSON.

    Of the folder it may read `reads` alone (file names relative to it): a worker that does not see
    the folder is sent those.
    """

    name: str
    function: str
    spec: Mapping[str, Any]
    reads: tuple[str, ...] = ()
    resources: Resources = Resources()


@dataclass(frozen=True)
class Done:
    """A task that has ended: its files by name, and what its function returned."""

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    result: dict
    node: str  # where it ran


class Engine(AbstractContextManager, Protocol):
    """Runs tasks, several at once; used as a context, at whose end all workers are gone."""

    words: str  # who works, for whoever reads a log: "2 processes of 1 thread each"
    cpus: int  # threads that a task may take

    def start(self, task: Task) -> None:
        """Begins a task, now or when there is room."""

    def ended(self) -> Done:
        """Waits for the next task that ends. Raises the error that it ended with, of ours with its
        own class; OutputError for one that has lost MOST_LOSSES workers.
        """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the workers, at work or not."""


Opened = Callable[[Path], Engine]  # an engine for tasks that read this folder


class Losses:
    """How often each task has lost its worker."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def another(self, name: str, why: str) -> str:
        """What is told of one more; OutputError where it was one too many."""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        if count >= MOST_LOSSES:
            raise OutputError(
                f"{name} has lost its worker {count} times ({why}): most often for want of memory. "
                "Give it more, or fewer --jobs; start the same command again: finished stages are "
                "kept."
            )
        return f"{name} has lost its worker ({why}) and is begun again; finished stages are kept"


def raised(kind: str, words: str) -> Exception:
    """The error of ours of this class name that a worker met."""
    found = getattr(errors, kind, None) or getattr(device_errors, kind, None)
    if found is None:  # of a room of its own
        return OutputError(words)
    try:
        return found(words)
    except TypeError:  # one that is made of more than its words
        return OutputError(words)


def fitting_memory(weights_bytes: int, activation_bytes: int) -> int:
    """Bytes of a process that trains a model: TensorFlow itself, the weights with their gradients
    and two moments of an optimizer, and the activations of a batch there and back.
    """
    return math.ceil(PROCESS_BYTES + 4 * weights_bytes + 2 * activation_bytes)


PROCESS_BYTES = 900 << 20  # of TensorFlow, Keras and the graphs of a few small fits
