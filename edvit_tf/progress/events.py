"""Events of a run, and the listeners that show or keep them.

Kinds of an event, and what a program finds in its facts:

| kind | when | facts |
|---|---|---|
| note | something was found or decided | - |
| warning | something is not as it should be, and the run goes on | - |
| stage | a stage begins | name, title, number, total (None while that is not known) |
| stage-end | it has ended | the same, seconds, how ("made", "earlier", "taken"), figures |
| fit | a fit begins | title, epochs, steps (an epoch), batch_size |
| step | a step of it was made | title, done, total |
| epoch | an epoch of it has ended | title, epoch, epochs, loss, accuracy, seconds |
| trial | a search tries settings (--tune) | number, title, total (None), settings |
| trial-end | they were tried | number, settings, state, accuracy, nll, seconds, best (or None) |
| result | the run has ended well | what it came to |
| error | it has not | exit_code (None of a fault that nobody expected) |

What a fit elsewhere tells (`edvit_tf.cluster`) has two facts more: node, the machine's name, and
process, its number there.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """One thing that happened: its kind, what a person reads ("" for nothing), and its facts."""

    kind: str
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)  # seconds since 1970


class Listener(Protocol):
    """Who shows or keeps events."""

    def hear(self, event: Event) -> None:
        """Takes one event. It must not raise for what the event holds."""


class Lines:
    """Events as lines of text: warnings on standard error, all else on standard output. What used
    as a library is told, and what is not a terminal gets.
    """

    def hear(self, event: Event) -> None:
        if event.text:
            to = sys.stderr if event.kind == "warning" else sys.stdout
            print(event.text, file=to, flush=True)


_listeners: list[Listener] = [Lines()]
_one_at_a_time = threading.RLock()  # a listener may tell something itself


@contextlib.contextmanager
def listening(*listeners: Listener) -> Iterator[None]:
    """These listen, in the place of those before, as long as the context lasts."""
    before = _listeners[:]
    _listeners[:] = listeners
    try:
        yield
    finally:
        _listeners[:] = before


def tell(text: str = "", kind: str = "note", **facts: Any) -> None:
    """Tells every listener of an event."""
    event = Event(kind, text, facts)
    # workers are heard in threads of their own: two events on one line are none
    with _one_at_a_time:
        for listener in _listeners:
            listener.hear(event)


def warn(text: str, **facts: Any) -> None:
    """Tells of something that is not as it should be."""
    tell(f"WARNING: {text}", "warning", **facts)
