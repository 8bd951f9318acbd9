"""Holding a file for one process at a time, on systems and file systems that can."""

from typing import IO


def hold(file: IO | int) -> bool:
    """Locks an open file, or a descriptor, for this process, until it is closed or the process
    ends; False where there are no locks. Raises BlockingIOError if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system of the network, as a rule
        return False
    return True
