"""Memory of this machine and of this process, in bytes, from /proc and the control groups; None
where there is none.
"""

import os
import resource
from pathlib import Path

from edvit_tf.device.errors import MemoryShort

CGROUP = Path("/sys/fs/cgroup")
LIMITS = {
    resource.RLIMIT_DATA: "VmData:",
    resource.RLIMIT_AS: "VmSize:",
}  # what counts towards each


def available_memory() -> int | None:
    """Bytes that can still be had: MemAvailable and free swap, or what the control group or this
    process's own limits (`prlimit --data`, `--as`) leave if that is less.
    """
    free = _field("/proc/meminfo", "MemAvailable:")
    if free is None:
        return None
    free += _field("/proc/meminfo", "SwapFree:") or 0
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = _number(CGROUP / limit), _number(CGROUP / used)
        if most is not None and now is not None:
            free = min(free, max(0, most - now))
    return min([free, *filter(lambda left: left is not None, map(left_by_limit, LIMITS))])


def left_by_limit(kind: int) -> int | None:
    """Bytes that a limit of this process, of LIMITS, leaves; None without one."""
    most, now = resource.getrlimit(kind)[0], _field("/proc/self/status", LIMITS[kind])
    return None if most == resource.RLIM_INFINITY or now is None else max(0, most - now)


def resident() -> int | None:
    """Resident set of this process now."""
    return _field("/proc/self/status", "VmRSS:")


def peak_rss() -> int | None:
    """Largest resident set of this process since it was started (VmHWM; getrusage would count the
    parent's too).
    """
    return _field("/proc/self/status", "VmHWM:")


def needed_memory(file_bytes: int) -> int:
    """Bytes that a float32 .tflite file takes beyond the process that loads it (some 20 MB):
    XNNPACK packs a second copy of the weights, 24 MiB are for activations and code.

    Source: peak RSS of ViT-Base sub-models with 2, 3, 4, 6 and 12 heads in tflite-runtime 2.14: 66
    to 710 MB.
    """
    return 2 * file_bytes + (24 << 20)


def check_memory(*paths: Path) -> None:
    """Raises MemoryShort, before anything is loaded, if the files together need more memory than
    there is.

    With EDVIT_MEMORY_CHECK=0 in the environment nothing is checked.
    """
    need, free = sum(needed_memory(path.stat().st_size) for path in paths), available_memory()
    if free is not None and need > free and os.environ.get("EDVIT_MEMORY_CHECK") != "0":
        raise MemoryShort(
            f"{', '.join(path.name for path in paths)} needs about {need / 2**20:.0f} MiB of "
            "memory when loaded; "
            f"{free / 2**20:.0f} MiB are available. Stop other programs, plan with less memory a "
            "device, or set "
            "EDVIT_MEMORY_CHECK=0 to try."
        )


def _field(file: str, name: str) -> int | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
