"""When a fleet is away, and when it is back: each said once, and asked less often meanwhile."""

import threading
import time
from collections.abc import Callable

from edvit_tf.aggregate.live import PASSING
from edvit_tf.errors import RequestFailed

_FIRST_SECONDS = 0.1  # before the next request
_MOST_SECONDS = 2.0
# In a row, until a fleet that failed again right after its return counts as back: one that answers
# a part of its requests would fill a log with its comings and goings.
_ENOUGH_ANSWERS = 10


class Outage:
    """The state of a fleet as its answers show it. Threads may call it at the same time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._since: float | None = None  # time.monotonic() of the first without an answer
        self._missed = 0
        self._missed_in_row = 0
        self._answered_in_row = 0
        self._is_steady = True  # it has answered enough in a row since it was away
        self.answers = 0
        self.error: RequestFailed | None = None  # while it is away

    def missed(self, name: str, error: RequestFailed, times: int) -> float:
        """An item had no answer, for so many times now; returns the seconds to wait before the
        next request.

        Raises the error where it would meet every item.
        """
        if error.status not in PASSING:
            raise error
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                again = "" if self._is_steady else " again"
                self._say(f"no answer{again} from {name} on, going on: {error}")
            self._missed += 1
            self._missed_in_row += 1
            self._answered_in_row = 0
            self.error = error
            doublings = min(max(times, self._missed_in_row) - 1, 10)
            return min(_MOST_SECONDS, _FIRST_SECONDS * 2.0**doublings)

    def answered(self, name: str, asked_at: float) -> None:
        """An item has an answer that was asked for at that time.monotonic()."""
        with self._lock:
            self.answers += 1
            # asked before: two are in flight, and the earlier may come in last
            if self._since is not None and asked_at < self._since:
                return
            self._missed_in_row = 0
            self._answered_in_row += 1
            self.error = None
            is_enough = self._answered_in_row >= _ENOUGH_ANSWERS
            if self._since is None:
                self._is_steady = self._is_steady or is_enough
            elif self._is_steady or is_enough:
                self._tell_of_return(name, time.monotonic() - self._since)
                self._since, self._missed, self._is_steady = None, 0, is_enough

    def _tell_of_return(self, name: str, seconds: float) -> None:
        self._say(
            f"answers again at {name}, after {seconds:.1f} s; {self._missed} requests failed."
        )
