"""A clock that goes as fast as the machine works, for bounds that hold of our programs and not of
the machine: where it stands still, or is shared by many, so does this clock.

A process of its own sleeps and works in turn, a few milliseconds each. What it gets done in a
second is a second of this clock on a machine that has nothing else to do, and less on any other. It
goes from one processor to the next: a machine whose host takes a single one away for a second goes
on with the others, but not with what ran on that one.
"""

import atexit
import contextlib
import itertools
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time

_NAP_SECONDS = 0.01
_WORK_SECONDS = 0.001  # of the processor
# A nap and its work that take longer are a standstill: a task that sleeps so much is woken sooner
# on a machine that is only busy.
_STANDSTILL_SECONDS = 0.1
_TOLD = struct.Struct("dd")  # this clock, and the seconds of all standstills
_shown: list[tuple[mmap.mmap, subprocess.Popen]] = []


def machine_seconds() -> float:
    """Now, by this clock; only differences count, and those only as upper bounds: it is never
    faster than time.monotonic(). Fails where the clock has ended: it would stand still, and every
    bound would hold.
    """
    return _told()[0]


class Standstill:
    """For how long the machine, or one of its processors, has stood still since this was made."""

    def __init__(self) -> None:
        self._before = _told()[1]

    def seconds(self) -> float:
        """Waits a moment, as the clock may be told of it after we are."""
        time.sleep(_STANDSTILL_SECONDS)
        return _told()[1] - self._before


def _told() -> tuple[float, float]:
    if not _shown:
        _shown.append(_started())
    shown, process = _shown[0]
    assert process.poll() is None, f"the machine's clock ended with {process.returncode}"
    return _TOLD.unpack_from(shown)


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


def _processors() -> list[int | None]:
    """Those that this process may run on; None where a system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]


def _move_to(processor: int | None) -> None:
    if processor is not None:
        with contextlib.suppress(OSError):  # taken from this machine since
            os.sched_setaffinity(0, {processor})


def _run(descriptor: int) -> None:
    """Shows this clock until the process that asked for it has ended."""
    # each number at once: struct.pack_into puts zeros there first, which a reader may see
    shows = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("d")
    parent, told, stood = os.getppid(), 1.0, 0.0
    for processor in itertools.cycle(_processors()):
        if os.getppid() != parent:
            return

        begun = time.monotonic()
        _move_to(processor)
        time.sleep(_NAP_SECONDS)
        late = time.monotonic() - begun - _NAP_SECONDS
        slower = _work()
        took = time.monotonic() - begun
        told += max(0.0, took - late) / slower
        stood += took if took > _STANDSTILL_SECONDS else 0.0
        shows[0], shows[1] = told, stood


if __name__ == "__main__":
    _run(int(sys.argv[1]))
