"""A camera or microphone that goes away is opened again, and again."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from edvit_tf.errors import SourceError

_FIRST_SECONDS = 0.5  # until it is opened again
_MOST_SECONDS = 15.0

Piece = TypeVar("Piece")


class SourceLost(Exception):
    """It went away, or is not there; its words say what was found."""


def kept_open(
    name: str,
    opened: Callable[[], contextlib.AbstractContextManager[Iterator[Piece]]],
    stop: threading.Event,
    say: Callable[[str], None],
) -> Iterator[Piece]:
    """What comes from it, through losses, each said once, and once that it is back; until `stop`.

    Raises SourceError where it is not there at first.
    """
    has_come = is_away = False
    pause = _FIRST_SECONDS
    while not stop.is_set():
        why = "nothing more comes from it"
        try:
            with opened() as pieces:
                for piece in pieces:
                    if is_away:
                        say(f"{name} is back.")
                    has_come, is_away, pause = True, False, _FIRST_SECONDS
                    yield piece
                    if stop.is_set():
                        return
        except SourceLost as error:
            why = str(error)

        if not has_come:
            raise SourceError(f"{name}: {why}")
        if not is_away:
            say(f"{name} went away, going on: {why}")
        is_away = True
        stop.wait(pause)
        pause = min(_MOST_SECONDS, 2 * pause)
