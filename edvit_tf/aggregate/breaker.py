"""When a device is left alone: after failures in a row nothing is sent to it, but for one trial
after each pause.

    closed --(3 failures in a row)--> open --(pause over)--> half-open: one trial
       ^                               ^                            |      |
       |                               '-(failed: the pause doubles)'      |
       '------------------------------(answered)---------------------------'

A device that hangs behind a connection that stands still answers probes, so a good probe alone does
not close the breaker. Only the change from silent to found again does, and then the first failure
opens it.
"""

import time
from collections.abc import Callable

STATES = ("closed", "open", "half-open")
FAILURES = 3  # in a row
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 8.0


class Breaker:
    """The breaker of one device. Belongs to one event loop.

    `changed(state, failures, reason)` hears when it opens, when a trial failed and when it closes,
    so at most every PAUSE_SECONDS or so, whatever clients do.
    """

    def __init__(
        self,
        changed: Callable[[str, int, str], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = "closed"
        self.failures = 0  # in a row
        self.reason = ""  # why it opened
        self._changed = changed
        self._clock = clock
        self._pause = PAUSE_SECONDS
        self._until = 0.0

    def __str__(self) -> str:
        """For people, e.g. "breaker open (deadline)"."""
        if self.state == "closed":
            return "breaker closed"
        return f"breaker {self.state} ({self.reason})"

    def allows(self) -> bool:
        """Whether a request may be sent now: always when closed, as the one trial when a pause is
        over.
        """
        if self.state == "open":
            return self._clock() >= self._until
        return self.state == "closed"

    def start(self) -> bool:
        """A request is sent, which `allows` permitted. Returns whether it is the trial: for
        `failed` and `dropped`.
        """
        if self.state == "closed":
            return False
        self.state = "half-open"
        return True

    def answered(self) -> None:
        """The device answered a request in time."""
        self.failures = 0
        self._pause = PAUSE_SECONDS
        if self.state != "closed":
            self._close("it answered")

    def failed(self, trial: bool, reason: str) -> None:
        """The device was silent until the deadline, not there, or wrong. While open, only the trial
        counts.
        """
        if self.state == "closed":
            self.failures += 1
            if self.failures >= FAILURES:
                self._open(reason)
        elif trial:
            self.failures += 1
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._open(reason)

    def open(self, reason: str) -> None:
        """The device was found to be at fault, by more than a request: it is left alone at once."""
        if self.state == "closed":
            self.failures = max(self.failures + 1, FAILURES)
            self._open(reason)

    def dropped(self, trial: bool) -> None:
        """A request ended without saying anything of the device: its client went away, or another
        was faster.
        """
        if trial and self.state == "half-open":
            self.state = "open"  # the pause is over: the next request is a trial

    def found_again(self) -> None:
        """A probe found the device after others had not: it may be asked, and the next failure
        opens again.
        """
        if self.state != "closed":
            self.failures = FAILURES - 1
            self._pause = PAUSE_SECONDS
            self._close("found again")

    def _open(self, reason: str) -> None:
        self.state = "open"
        self.reason = reason
        self._until = self._clock() + self._pause
        self._changed("open", self.failures, reason)

    def _close(self, reason: str) -> None:
        self.state = "closed"
        self._changed("closed", self.failures, reason)
