"""A source, a fleet and what is done with the answers, from the start to a summary."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from edvit_tf.errors import RequestFailed
from edvit_tf.watch.actions import Actions
from edvit_tf.watch.asking import Asking
from edvit_tf.watch.item import Fleet, Item, Source
from edvit_tf.watch.newest import Newest

_LOOK_SECONDS = 0.05  # between looks for a signal
_LAST_SECONDS = 1.0  # for the requests in flight at the end


@dataclass(frozen=True)
class WatchOptions:
    """How a stream is asked, and when it ends by itself."""

    in_flight: int = 2  # requests at a time
    rate: float | None = None  # requests a second at most
    seconds: float | None = None
    count: int | None = None  # answers


class Told(Protocol):
    """What is told of a stream; threads call it, `answer` one at a time and in order."""

    def say(self, words: str) -> None:
        """A line for people."""

    def watching(self, unit: str) -> None:
        """The source is looked at from now on."""

    def answer(self, item: Item, answer: dict[str, Any]) -> None:
        """One answer."""

    def summary(self, summary: dict[str, Any]) -> None:
        """The counts of it all, at the end."""


class _End:
    """Why a stream ends: what comes first counts."""

    def __init__(self) -> None:
        self.happened = threading.Event()
        self.signalled = False  # set by a signal's handler, which must take no lock
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self, error: Exception | None = None) -> None:
        with self._lock:
            if not self.happened.is_set():
                self.error = error
                self.happened.set()

    def wait(self, seconds: float | None) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        while not (self.signalled or self.happened.wait(_LOOK_SECONDS)):
            if until is not None and time.monotonic() >= until:
                return


def watch(
    hub: Fleet, source: Source, options: WatchOptions, told: Told, actions: Actions | None = None
) -> None:
    """Asks until the source or its time is over, or SIGINT or SIGTERM comes; ends with a summary.

    Raises what ended the source, the asking or the actions, and RequestFailed where the fleet was
    away when the stream ended by itself. `hub` is closed then.
    """
    end = _End()
    newest = Newest()

    def answered(item: Item, answer: dict[str, Any]) -> None:
        # first: whoever reads what is printed may take as long as he likes
        if actions is not None:
            actions.answered(item, answer)
        told.answer(item, answer)

    asking = Asking(
        hub,
        newest,
        answered,
        end,
        told.say,
        in_flight=options.in_flight,
        rate=options.rate,
        keeps=source.keeps,
        count=options.count,
    )
    stop = threading.Event()
    give = newest.put_when_free if source.keeps else newest.put

    def run_source() -> None:
        try:
            source.run(give, stop, told.say)
            newest.end()
        except Exception as error:  # noqa: BLE001 (a thread's: it goes to the one that waits)
            end(error)

    started = time.monotonic()
    reading = threading.Thread(target=run_source, name="source", daemon=True)
    with _signals(end):
        told.watching(source.unit)
        if actions is not None:
            actions.begin(end)
        reading.start()
        asking.start()
        end.wait(options.seconds)
        seconds = time.monotonic() - started
        stop.set()
        asking.stop(_LAST_SECONDS)
        reading.join(_LAST_SECONDS)

    summary = _summary(asking, newest, source, seconds)
    if actions is not None:
        summary["actions"] = actions.finish()
    told.summary(summary)
    if end.error is not None:
        raise end.error
    if asking.outage.error is not None and not end.signalled:
        error = asking.outage.error
        raise RequestFailed(f"the end of the stream had no answer: {error}", error.status)


def _summary(asking: Asking, newest: Newest, source: Source, seconds: float) -> dict[str, Any]:
    counts = asking.counts
    return {
        "unit": source.unit,
        "asked": counts.asked,
        "answered": counts.answered,
        "degraded": counts.degraded,
        "dropped": newest.dropped + source.lost,
        "failed": counts.failed,
        "seconds": round(seconds, 3),
        "answers_per_second": round(counts.answered / seconds, 3) if seconds else 0.0,
    }


@contextlib.contextmanager
def _signals(end: _End) -> Iterator[None]:
    """SIGINT and SIGTERM end the stream; a second one ends the process as if we had not asked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        end.signalled = True
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
