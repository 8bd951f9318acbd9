"""Holding a file for one process at a time, on systems and file systems that can."""

import time
from typing import IO

# A process that is killed just as it starts another leaves a child that shares its lock until that
# one has become its program: milliseconds, more on a machine with much to do.
PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.02


def hold(file: IO | int, patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Locks an open file, or a descriptor, for this process, until it is closed or the process
    ends; False where there are no locks.

    Raises BlockingIOError if another process still holds it after `patience_seconds`.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False

    end = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        except OSError:  # a file system of the network, as a rule
            return False

        time.sleep(_PAUSE_SECONDS)
