"""Ctrl-C that ends a run even where a library swallows the KeyboardInterrupt that it raises.

Native code that calls back into Python, and bare `except:` clauses, take the exception for one of
their own now and then; the run would go on to its end.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_asked = threading.Event()


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Within it SIGINT is remembered besides being raised, for `end_if_asked`. Python's own handler
    alone is replaced; in other threads than the main one nothing is.
    """
    _asked.clear()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def asked(number: int, frame: FrameType | None) -> None:
        _asked.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _asked.clear()


def end_if_asked() -> None:
    """Raises KeyboardInterrupt if SIGINT came within `heeded` and nothing ended by it."""
    if _asked.is_set():
        raise KeyboardInterrupt
