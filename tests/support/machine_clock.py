"""A clock that goes as fast as the machine works, for bounds that hold of our programs and not of
the machine: where it stands still, or is shared by many, so does this clock.

A process of its own sleeps and works in turn, a few milliseconds each. What it gets done in a
second is a second of this clock on a machine that has nothing else to do, and less on any other.
"""

import atexit
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time

_NAP_SECONDS = 0.01
_WORK_SECONDS = 0.001  # of the processor
_TOLD = struct.Struct("d")
_shown: list[tuple[mmap.mmap, subprocess.Popen]] = []


def machine_seconds() -> float:
    """Now, by this clock; only differences count, and those only as upper bounds: it is never
    faster than time.monotonic(). Fails where the clock has ended: it would stand still, and every
    bound would hold.
    """
    if not _shown:
        _shown.append(_started())
    shown, process = _shown[0]
    assert process.poll() is None, f"the machine's clock ended with {process.returncode}"
    return _TOLD.unpack_from(shown)[0]


def _started() -> tuple[mmap.mmap, subprocess.Popen]:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(mmap.PAGESIZE))
        file.flush()
        shown = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, str(file.fileno())],
            pass_fds=[file.fileno()],
            stdin=subprocess.PIPE,
        )
    atexit.register(_end, process)
    while not _TOLD.unpack_from(shown)[0]:
        assert process.poll() is None, process.returncode
        time.sleep(_NAP_SECONDS)
    return shown, process


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def _work() -> float:
    """How many times as long as alone a little work takes now."""
    wall, own = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - own) < _WORK_SECONDS:
        pass
    return max(1.0, (time.monotonic() - wall) / used)


def _run(descriptor: int) -> None:
    """Shows this clock until the process that asked for it has ended."""
    shown = mmap.mmap(descriptor, mmap.PAGESIZE)
    parent, told = os.getppid(), 1.0
    while os.getppid() == parent:
        begun = time.monotonic()
        time.sleep(_NAP_SECONDS)
        late = time.monotonic() - begun - _NAP_SECONDS
        slower = _work()
        told += max(0.0, time.monotonic() - begun - late) / slower
        _TOLD.pack_into(shown, 0, told)


if __name__ == "__main__":
    _run(int(sys.argv[1]))
