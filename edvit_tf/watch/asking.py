"""A few requests in flight, each for the newest item; answers go out in the order of the items.

One that hangs holds back a few behind it, and no more than these are asked meanwhile. One that the
fleet does not answer, while it answers others, comes when it comes.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.errors import RequestFailed
from edvit_tf.watch.item import Fleet, Item
from edvit_tf.watch.newest import Newest
from edvit_tf.watch.outage import Outage

# What a hub says of one file: the next may do well.
_OF_THE_FILE = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
# What may be the file's fault: one that no model survives must not hold up those behind it.
_PERHAPS_OF_THE_FILE = ("INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")
_LOOK_SECONDS = 0.2  # between looks for the end
_MOST_TRIES = 5
# The same for what is a fleet's fault, as long as the fleet answers others between the tries, or
# would: an item that is too heavy for its deadline is told as devices that are away.
_MOST_TRIES_BESIDE_OTHERS = 20
_AS_IF_AWAY = "UNAVAILABLE"
# After so many, while others were answered, an item gives up its place in the order.
_TRIES_IN_ORDER = 3
_AHEAD = 2  # times `in_flight`: so far the asking goes ahead of the item whose answer is next


@dataclass
class Counts:
    """What became of the items."""

    asked: int = 0
    answered: int = 0
    degraded: int = 0  # of the answered: without some sub-models
    failed: int = 0  # no answer, or unusable


class _Tries:
    """How often one item failed, and whether the fleet answered others meanwhile, or was ready."""

    def __init__(self, answers: int) -> None:
        self._last = answers  # of the fleet, to all items
        self.count = 0
        self._of_the_file = 0
        self._beside_others = 0
        self._is_alone = False

    def failed(self, status: str | None, answers: int) -> None:
        self.count += 1
        self._of_the_file += status in _PERHAPS_OF_THE_FILE
        self._is_alone = answers == self._last
        self._beside_others += not self._is_alone
        self._last = answers

    @property
    def may_hold_up(self) -> bool:
        """Whether nobody else was answered, maybe because all that are asked fail as this one."""
        return self._is_alone and self.count >= _TRIES_IN_ORDER

    def others_would_be_answered(self) -> None:
        self._beside_others += 1

    @property
    def are_enough(self) -> bool:
        return self._of_the_file >= _MOST_TRIES or self._beside_others >= _MOST_TRIES_BESIDE_OTHERS

    @property
    def leaves_order(self) -> bool:
        return self.count >= _TRIES_IN_ORDER and self._beside_others > 0


class _InTurn(Sequence[Any]):
    """Windows of one recording, each of which is given once it has its turn; the first has it."""

    def __init__(self, values: Sequence[Any], has_turn: Callable[[], bool]) -> None:
        self._values, self._has_turn = values, has_turn

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: Any) -> Any:
        return self._values[place]

    def __iter__(self) -> Iterator[Any]:
        """Raises RequestFailed where the stream ends meanwhile."""
        for place, value in enumerate(self._values):
            if place and not self._has_turn():
                raise RequestFailed("the stream ended before all windows were asked.")
            yield value


class Asking:
    """The threads that ask. `answered(item, answer)` is called for one at a time, in order; what it
    or anything else raises ends the asking, and goes to `ended(error)`; None when no item is left.
    """

    def __init__(
        self,
        hub: Fleet,
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
        # seconds from one request to the next
        self._pause = 0.0 if rate is None else min(1 / rate, threading.TIMEOUT_MAX / 1e3)
        self._keeps, self._count = keeps, count

        self._stop = threading.Event()
        self._taking = threading.Lock()
        self._taken = 0
        self._most_ahead = _AHEAD * in_flight
        self._pacing = threading.Lock()
        self._next_at = 0.0  # time.monotonic()
        self._ordering = threading.Condition()
        # None: nothing goes out at this place
        self._finished: dict[int, tuple[Item, dict[str, Any] | None] | None] = {}
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
        until = time.monotonic() + seconds  # of all together: one may print what nobody reads
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        error = None
        try:
            while (taken := self._take()) is not None:
                number, item = taken
                answer = self._asked(number, item)
                self._finish(number, replace(item, values=list), answer)  # a frame may be large
        except Exception as raised:  # noqa: BLE001 (a thread's: it goes to the one that waits)
            error = raised

        with self._ordering:
            self._running -= 1
            is_last = self._running == 0
        if not self._stop.is_set() and (error is not None or is_last):
            self._ended(error)

    def _take(self) -> tuple[int, Item] | None:
        """The newest item once its time has come, and those before it are not far behind."""
        with self._taking:
            while not self._has_room():
                if self._stop.is_set():
                    return None
            while (left := self._next_at - time.monotonic()) > 0:
                if self._stop.wait(left):
                    return None
            taken = self._newest.take()
            if taken is None or not self._has_turn():
                return None
            self._taken += 1
            return taken

    def _has_room(self) -> bool:
        """Whether one more may be asked; waits a little for that."""
        with self._ordering:
            return self._ordering.wait_for(
                lambda: self._taken - self._next < self._most_ahead, _LOOK_SECONDS
            )

    def _has_turn(self) -> bool:
        """Waits for a request's turn by --rate; False when all ends."""
        with self._pacing:
            at = max(time.monotonic(), self._next_at)
            self._next_at = at + self._pause
        return not self._stop.wait(max(0.0, at - time.monotonic()))

    def _asked(self, number: int, item: Item) -> dict[str, Any] | None:
        """Its answer; None where it has none, which has been said then."""
        with self._ordering:
            self.counts.asked += 1
        tries = _Tries(self.outage.answers)
        try:
            values = _InTurn(item.values(), self._has_turn)
            while True:
                asked_at = time.monotonic()
                try:
                    answer = self._hub.ask(values, self._say)
                except RequestFailed as error:
                    if not self._goes_on(item, error, tries):
                        return None
                    if tries.leaves_order:
                        self._leave_order(number)
                else:
                    self.outage.answered(item.name, asked_at)
                    return answer
        except (InputError, DecoderMissing) as error:
            self._say(f"{item.name} cannot be used, going on: {error}")
            return None

    def _goes_on(self, item: Item, error: RequestFailed, tries: "_Tries") -> bool:
        """Whether an item without an answer is asked for again, once it is time for that.

        Raises the error where it would meet every item.
        """
        if self._stop.is_set():  # it was given up
            return False
        if self._keeps and error.status in _OF_THE_FILE:
            self._say(f"{item.name} is refused, going on: {error}")
            return False
        tries.failed(error.status, self.outage.answers)
        if error.status == _AS_IF_AWAY and tries.may_hold_up and self._hub.is_ready():
            tries.others_would_be_answered()
        if tries.are_enough:
            self._say(f"{item.name} had no answer {tries.count} times, going on: {error}")
            return False
        pause = self.outage.missed(item.name, error, tries.count)
        # what is kept at its source is asked for again; elsewhere something newer is there
        return not self._stop.wait(pause) and self._keeps and self._has_turn()

    def _leave_order(self, number: int) -> None:
        """Those behind an item go out before it, and it goes out when it is there."""
        with self._ordering:
            if number >= self._next and number not in self._finished:
                self._finished[number] = None
                self._hand_out()

    def _finish(self, number: int, item: Item, answer: dict[str, Any] | None) -> None:
        """Hands out what is finished, as far as nothing before it is still in flight."""
        with self._ordering:
            if number < self._next or number in self._finished:  # it left the order
                self._count_one(item, answer)
                return
            self._finished[number] = item, answer
            self._hand_out()

    def _hand_out(self) -> None:
        while self._next in self._finished:
            finished = self._finished.pop(self._next)
            self._next += 1
            self._ordering.notify_all()
            if finished is not None:
                self._count_one(*finished)

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
