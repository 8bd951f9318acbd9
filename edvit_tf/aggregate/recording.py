"""What happened to one request, and when, for its trace: noted while it is answered, made spans of
afterwards (`traces.py`).
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edvit_tf.aggregate.reply import Reply
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.traceparent import Trace

CANCELLED = "cancelled"  # a call whose answer nobody waits for any more


@dataclass
class Part:
    """A span below the request's own; nanoseconds of time.monotonic_ns()."""

    name: str
    began: int
    ended: int | None = None
    said: dict[str, str | float | bool] = field(default_factory=dict)
    reply: Reply | None = None  # of a call that was answered

    def ends(self, reply: Reply | None = None, /, **said: str | float | bool) -> None:
        """Once: a call that is cancelled may end after its request, whose parts are another
        thread's then.
        """
        if self.ended is None:
            self.ended = time.monotonic_ns()
            self.reply = reply
            self.said.update(said)


class Recording:
    """The parts of one request. Belongs to one event loop until it is handed over."""

    def __init__(self, span: object, here: Trace) -> None:
        """`span` is the library's, of the whole request, and `here` its name for others."""
        self.span = span
        self.here = here
        self.began = time.monotonic_ns()
        self.wall_ns = time.time_ns() - self.began  # of monotonic 0
        self.ended = self.began
        self.parts: list[Part] = []
        self.said: dict[str, str | float | bool] = {}
        self.failed = ""  # why there is no answer

    def begins(self, name: str, **said: str | float | bool) -> Part:
        part = Part(name, time.monotonic_ns(), said=said)
        self.parts.append(part)
        return part

    @contextlib.contextmanager
    def whole(self, take: Callable[["Recording"], None]) -> Iterator[None]:
        """The request, in the block; then it is taken, whatever its end was."""
        try:
            yield
        except WireError as error:
            self.failed = f"{error.code.name}: {error}"
            raise
        except BaseException as error:
            self.failed = type(error).__name__
            raise
        finally:
            for part in self.parts:
                part.ends(outcome=CANCELLED)
            self.ended = time.monotonic_ns()
            take(self)

    def call(self, sub_model: str, device: str, attempt: int) -> Part:
        """A device is asked; a hedge is asked while another one still has the request."""
        name = f"call {sub_model}"
        running = any(part.name == name and part.ended is None for part in self.parts)
        return self.begins(name, device=device, attempt=attempt, hedge=running)


@contextlib.contextmanager
def part_of(recording: Recording | None, name: str) -> Iterator[None]:
    """A part of a request, in the block; nothing where it is not traced."""
    if recording is None:
        yield
        return

    part = recording.begins(name)
    try:
        yield
    finally:
        part.ends()
