"""What is sent out, from a thread of its own: a stream never waits for a broker."""

import collections
import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from edvit_tf.errors import ConfigError, EdvitError

_MOST_WAITING = 100  # messages; then the oldest is given up
_FIRST_SECONDS = 0.5  # before it is tried again
_MOST_SECONDS = 15.0
# That one message is tried where the place is there; by the pauses above, within two minutes.
_MOST_TRIES = 12
_END_SECONDS = 3.0  # for what was ended on its way

# Raises SendFailed, SendRefused; ConfigError for what no message and no wait would mend.
Send = Callable[[bytes], None]


class SendFailed(EdvitError):
    """It did not go out; it may do so later."""


class NotTaken(SendFailed):
    """The place is there, and did not take it: what it fails on may be this one message."""


class SendRefused(EdvitError):
    """It did not go out, and never will."""


class Outbox:
    """Messages on their way to one place; `name` has no password in it. `end` stops a
    `send` that would outlive the stream. `check` says before the first message whether the place
    takes any; errors as `send`.
    """

    def __init__(
        self,
        name: str,
        send: Send,
        say: Callable[[str], None],
        end: Callable[[], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._send, self._say, self._end, self._check = send, say, end, check
        self._ended: Callable[[Exception], None] = lambda error: None
        self._changed = threading.Condition()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._is_checking = self._is_sending = self._is_ending = self._is_away = False
        self.sent = 0
        self.lost = 0  # refused, or given up
        self._thread = threading.Thread(target=self._run, name=f"outbox {name}", daemon=True)
        self._thread.start()

    def begin(self, ended: Callable[[Exception], None]) -> None:
        """The stream begins; `ended` hears of what no wait mends."""
        with self._changed:
            self._ended = ended
            self._is_checking = self._check is not None
            self._changed.notify_all()

    def put(self, event: dict[str, Any]) -> None:
        """Never waits."""
        with self._changed:
            if self._is_ending:
                self.lost += 1
                return
            self._waiting.append(json.dumps(event).encode())
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._changed.notify_all()

    def finish(self, until: float) -> dict[str, Any]:
        """Waits to that time.monotonic() at most, gives up the rest; what became of all."""
        with self._changed:
            left = max(0.0, until - time.monotonic())
            self._changed.wait_for(lambda: not self._waiting and not self._is_sending, left)
            self._is_ending = True
            self.lost += len(self._waiting) + self._is_sending
            was_sending = self._is_sending
            self._waiting.clear()
            self._changed.notify_all()
            ended = {"action": self.name, "sent": self.sent, "lost": self.lost}
        if was_sending and self._end is not None:
            self._end()
            self._thread.join(_END_SECONDS)
        return ended

    def _run(self) -> None:
        try:
            self._wait_for_begin()
            self._send_all()
        except ConfigError as error:
            with self._changed:
                if not self._is_ending:  # else they were counted as lost already
                    self.lost += len(self._waiting) + self._is_sending
                self._is_ending, self._is_sending = True, False
                self._waiting.clear()
                self._changed.notify_all()
            self._ended(error)

    def _wait_for_begin(self) -> None:
        """Raises ConfigError where the place says that it takes no message."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_checking or self._waiting or self._is_ending)
            if not self._is_checking or self._check is None:
                return
        # one that is away now may be there when the first message comes
        with contextlib.suppress(SendFailed):
            self._check()

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_ending)
                if self._is_ending:
                    return
                message = self._waiting.popleft()
                self._is_sending = True
            is_sent = self._deliver(message)
            with self._changed:
                if self._is_ending:  # it was counted as lost already
                    return
                self._is_sending = False
                self.sent += is_sent
                self.lost += not is_sent
                self._changed.notify_all()

    def _deliver(self, message: bytes) -> bool:
        """Tries until it is sent or refused, not taken too often, or all is over; whether it was
        sent. Raises ConfigError.
        """
        pause, not_taken = _FIRST_SECONDS, 0
        while True:
            try:
                self._send(message)
            except SendRefused as error:
                self._tell(f"{self.name}: not sent, going on: {error}")
                return False
            except SendFailed as error:
                not_taken += isinstance(error, NotTaken)
                if not_taken >= _MOST_TRIES:  # it would hold up those behind it for ever
                    self._tell(f"{self.name}: not taken in {not_taken} tries, going on: {error}")
                    return False
                # once, and not for each try: a broker may be away for an hour
                if not self._is_away:
                    self._tell(f"{self.name}: cannot be sent now, going on: {error}")
                self._is_away = True
            except ConfigError:
                raise
            except Exception as error:  # noqa: BLE001 (those behind it would be lost with the thread)
                self._tell(f"{self.name}: not sent, going on: {type(error).__name__}")
                return False
            else:
                if self._is_away:
                    self._tell(f"{self.name}: sent again.")
                self._is_away = False
                return True

            with self._changed:
                if self._changed.wait_for(lambda: self._is_ending, pause):
                    return False
            pause = min(_MOST_SECONDS, 2 * pause)

    def _tell(self, words: str) -> None:
        # where nothing more can be printed, what is sent still goes out
        with contextlib.suppress(OSError, ValueError):
            self._say(words)
