"""When a fleet is away, and when it is back: each said once, and asked less often meanwhile."""

import threading
import time
from collections.abc import Callable

from edvit_tf.aggregate.live import PASSING
from edvit_tf.errors import RequestFailed

_FIRST_SECONDS = 0.1  # before the next request
_MOST_SECONDS = 2.0


class Outage:
    """The state of a fleet as its answers show it. Threads may call it at the same time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._since: float | None = None  # time.monotonic() of the first without an answer
        self._missed = 0
        self.error: RequestFailed | None = None  # while it is away

    def missed(self, name: str, error: RequestFailed) -> float:
        """An item had no answer; returns the seconds to wait before the next.

        Raises the error where it would meet every item.
        """
        if error.status not in PASSING:
            raise error
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                self._say(f"no answer from {name} on, going on: {error}")
            self._missed += 1
            self.error = error
            return min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(self._missed - 1, 10))

    def answered(self, name: str, asked_at: float) -> None:
        """An item has an answer that was asked for at that time.monotonic()."""
        with self._lock:
            # asked before: two are in flight, and the earlier may come in last
            if self._since is None or asked_at < self._since:
                return
            seconds = time.monotonic() - self._since
            self._say(
                f"answers again at {name}, after {seconds:.1f} s; {self._missed} requests failed."
            )
            self._since, self._missed, self.error = None, 0, None
