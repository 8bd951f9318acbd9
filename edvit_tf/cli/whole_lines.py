"""Lines on standard output or standard error, each whole or not at all as far as a disk has room.

They go past Python's buffer: what a full disk refuses there is tried again at the next line and at
the end, where it makes the exit code 120; and a thread that waits in there for a reader keeps the
interpreter from ending.
"""

import contextlib
import errno
import os
import select
import threading
import time
from typing import TextIO

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PIECE = select.PIPE_BUF  # bytes that a pipe which is ready takes without a wait


class WholeLines:
    """One of the two. Threads may write at the same time."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None: a service without one
        self._lock = threading.Lock()
        self._is_cut = False  # the last line, by a full disk
        self._descriptor: int | None = None
        if stream is not None:
            # a test's own buffer has none
            with contextlib.suppress(OSError, AttributeError):
                self._descriptor = stream.fileno()
            with contextlib.suppress(OSError):
                stream.flush()

    def write(self, line: str, seconds: float | None = None) -> OSError | None:
        """Waits for its reader, with `seconds` not longer than that. Returns the error of a full
        disk, and TimeoutError; other errors are raised.
        """
        if self._stream is None:
            return None
        until = None if seconds is None else time.monotonic() + seconds
        if not self._lock.acquire(timeout=-1 if seconds is None else seconds):
            return TimeoutError("nobody reads it")
        try:
            if self._descriptor is None:
                print(line, file=self._stream, flush=True)
            else:
                self._write_all(self._bytes(line), until)
        except TimeoutError as error:
            return error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return error
        finally:
            self._lock.release()
        return None

    def _bytes(self, line: str) -> bytes:
        stream = self._stream
        encoding = getattr(stream, "encoding", None) or "utf-8"
        errors = getattr(stream, "errors", None) or "backslashreplace"
        return f"{line}\n".encode(encoding, errors)

    def _write_all(self, data: bytes, until: float | None) -> None:
        if self._is_cut:
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                wait = None if until is None else max(0.0, until - time.monotonic())
                if not select.select([], [self._descriptor], [], wait)[1]:
                    raise TimeoutError("nobody reads it")
                with contextlib.suppress(BlockingIOError):  # another took the room
                    left = left[os.write(self._descriptor, left[:_PIECE]) :]
        finally:
            if len(left) < len(data):
                self._is_cut = bool(left)
