"""A camera or microphone that goes away is opened again, and again."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from edvit_tf.errors import EdvitError, SourceError

_FIRST_SECONDS = 0.5  # until it is opened again
_MOST_SECONDS = 15.0
_STEADY_SECONDS = 5.0  # that something comes, until it counts as there for good

Piece = TypeVar("Piece")


class SourceLost(EdvitError):
    """It went away, or is not there; its words say what was found."""


def kept_open(
    name: str,
    opened: Callable[[], contextlib.AbstractContextManager[Iterator[Piece]]],
    stop: threading.Event,
    say: Callable[[str], None],
) -> Iterator[Piece]:
    """What comes from it, through losses, each said once, and once that it is back; until `stop`.
    One that gives a piece and goes away, again and again, is opened less often, and not said again
    until it stays.

    Raises SourceError where it is not there at first.
    """
    has_come = is_away = False
    is_steady = True  # it has stayed since it came back
    pause = _FIRST_SECONDS
    while not stop.is_set():
        why = "nothing more comes from it."
        try:
            with opened() as pieces:
                came_at: float | None = None
                for piece in pieces:
                    has_come = True
                    came_at = time.monotonic() if came_at is None else came_at
                    stays = time.monotonic() - came_at >= _STEADY_SECONDS
                    if is_away and (is_steady or stays):
                        say(f"{name} is back.")
                        is_away, is_steady = False, False
                    if stays:
                        is_steady, pause = True, _FIRST_SECONDS
                    yield piece
                    if stop.is_set():
                        return
        except SourceLost as error:
            why = str(error)

        if stop.is_set():  # that is why it ended
            return
        if not has_come:
            raise SourceError(f"{name}: {why}")
        if not is_away:
            again = "" if is_steady else " again"
            say(f"{name} went away{again}, going on: {why}")
        is_away = True
        stop.wait(pause)
        pause = min(_MOST_SECONDS, 2 * pause)
