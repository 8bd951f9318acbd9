"""A few requests in flight, each for the newest item; answers go out in the order of the items."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.errors import RequestFailed
from edvit_tf.watch.hub import Hub
from edvit_tf.watch.item import Item
from edvit_tf.watch.newest import Newest
from edvit_tf.watch.outage import Outage

# What a hub says of one file: the next may do well.
_OF_THE_FILE = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
# What may be the file's fault: one that no model survives must not hold up those behind it.
_PERHAPS_OF_THE_FILE = ("INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")
_MOST_TRIES = 5


@dataclass
class Counts:
    """What became of the items."""

    asked: int = 0
    answered: int = 0
    degraded: int = 0  # of the answered: without some sub-models
    failed: int = 0  # no answer, or unusable


class Asking:
    """The threads that ask. `answered(item, answer)` is called for one at a time, in order; what it
    or anything else raises ends the asking, and goes to `ended(error)`; None when no item is left.
    """

    def __init__(
        self,
        hub: Hub,
        newest: Newest,
        answered: Callable[[Item, dict[str, Any]], None],
        ended: Callable[[Exception | None], None],
        say: Callable[[str], None],
        *,
        in_flight: int,
        rate: float | None,
        keeps: bool,
        count: int | None,
    ) -> None:
        self.counts = Counts()
        self.outage = Outage(say)
        self._hub, self._newest = hub, newest
        self._answered, self._ended, self._say = answered, ended, say
        self._pause = 0.0 if rate is None else 1 / rate  # seconds from one request to the next
        self._keeps, self._count = keeps, count

        self._stop = threading.Event()
        self._pacing = threading.Lock()
        self._next_at = 0.0  # time.monotonic()
        self._ordering = threading.Lock()
        self._finished: dict[int, tuple[Item, dict[str, Any] | None]] = {}
        self._next = 0  # number of the item whose answer goes out next
        self._threads = [
            threading.Thread(target=self._run, name=f"asking-{place}", daemon=True)
            for place in range(in_flight)
        ]
        self._running = in_flight

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """No further requests; waits so long for those in flight, which are given up then."""
        self._stop.set()
        self._newest.close()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._hub.close()
        for thread in self._threads:
            thread.join(seconds)

    def _run(self) -> None:
        error = None
        try:
            while (taken := self._take()) is not None:
                self._finish(*taken, self._asked(taken[1]))
        except Exception as raised:  # noqa: BLE001 (a thread's: it goes to the one that waits)
            error = raised

        with self._ordering:
            self._running -= 1
            is_last = self._running == 0
        if not self._stop.is_set() and (error is not None or is_last):
            self._ended(error)

    def _take(self) -> tuple[int, Item] | None:
        """The newest item once its time has come."""
        with self._pacing:
            if self._stop.wait(max(0.0, self._next_at - time.monotonic())):
                return None
            taken = self._newest.take()
            self._next_at = time.monotonic() + self._pause
            return None if self._stop.is_set() else taken

    def _asked(self, item: Item) -> dict[str, Any] | None:
        """Its answer; None where it has none, which has been said then."""
        with self._ordering:
            self.counts.asked += 1
        tries = 0  # that may have failed for its own sake
        while True:
            asked_at = time.monotonic()
            try:
                answer = self._hub.ask(item.values(), self._say)
            except (InputError, DecoderMissing) as error:
                self._say(f"{item.name} cannot be used, going on: {error}")
                return None
            except RequestFailed as error:
                if self._stop.is_set():  # it was given up
                    return None
                if self._keeps and error.status in _OF_THE_FILE:
                    self._say(f"{item.name} is refused, going on: {error}")
                    return None
                tries += error.status in _PERHAPS_OF_THE_FILE
                if tries == _MOST_TRIES:
                    self._say(f"{item.name} had no answer {tries} times, going on: {error}")
                    return None
                # what is kept at its source is asked for again; elsewhere something newer is there
                if self._stop.wait(self.outage.missed(item.name, error)) or not self._keeps:
                    return None
            else:
                self.outage.answered(item.name, asked_at)
                return answer

    def _finish(self, number: int, item: Item, answer: dict[str, Any] | None) -> None:
        """Hands out what is finished, as far as nothing before it is still in flight."""
        with self._ordering:
            self._finished[number] = item, answer
            while self._next in self._finished:
                item, answer = self._finished.pop(self._next)
                self._next += 1
                self._count_one(item, answer)

    def _count_one(self, item: Item, answer: dict[str, Any] | None) -> None:
        counts = self.counts
        if self._count is not None and counts.answered >= self._count:
            return
        if answer is None:
            counts.failed += not self._stop.is_set()
            return
        counts.answered += 1
        counts.degraded += bool(answer["parameters"]["degraded"])
        self._answered(item, answer)
        if counts.answered == self._count:
            self._ended(None)
