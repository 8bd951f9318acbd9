"""Memory of this machine and of this process, in bytes, from /proc and the control groups; None
where there is none.
"""

import os
from pathlib import Path

from edvit_tf.device.errors import MemoryShort

CGROUP = Path("/sys/fs/cgroup")
# Files with the limit and the use of a control group: of version 2, and of version 1.
CGROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
# Limits of a process (of the module `resource`, which only Unix has), and the field of
# /proc/self/status that counts towards each.
LIMITS = {"RLIMIT_DATA": "VmData:", "RLIMIT_AS": "VmSize:"}


def available_memory() -> int | None:
    """Bytes that can still be had: MemAvailable and free swap, or what the control group or this
    process's own limits (`prlimit --data`, `--as`) leave if that is less.
    """
    free = _field("/proc/meminfo", "MemAvailable:")
    if free is None:
        return None

    # of the machine ...
    bounds = [free + (_field("/proc/meminfo", "SwapFree:") or 0)]

    # ... of the control group, which a container meets long before the machine's memory ends ...
    for limit, used in CGROUP_FILES:
        most = _number(CGROUP / limit)
        now = _number(CGROUP / used)
        if most is not None and now is not None:
            bounds.append(max(0, most - now))

    # ... and of the process: an allocation fails there, however much is free
    for kind in LIMITS:
        left = left_by_limit(kind)
        if left is not None:
            bounds.append(left)

    return min(bounds)


def left_by_limit(kind: str) -> int | None:
    """Bytes that a limit of this process, of LIMITS, leaves; None without one."""
    most = process_limit(kind)
    now = _field("/proc/self/status", LIMITS[kind])
    if most is None or now is None:
        return None
    return max(0, most - now)


def process_limit(kind: str) -> int | None:
    """A limit of this process by its name in the module `resource`; None without one, and where no
    process has limits.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None

    most, _ = resource.getrlimit(getattr(resource, kind))
    return None if most == resource.RLIM_INFINITY else most


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
    need = sum(needed_memory(path.stat().st_size) for path in paths)
    free = available_memory()
    if free is None or need <= free or os.environ.get("EDVIT_MEMORY_CHECK") == "0":
        return

    names = ", ".join(path.name for path in paths)
    raise MemoryShort(
        f"{names} needs about {need / 2**20:.0f} MiB of memory when loaded; "
        f"{free / 2**20:.0f} MiB are available. Stop other programs, plan with less memory a "
        "device, or set EDVIT_MEMORY_CHECK=0 to try."
    )


def _field(file: str, name: str) -> int | None:
    """Bytes of a line "NAME:  123 kB" of a file of /proc."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None

    for line in lines:
        if line.startswith(name):
            return int(line.split()[1]) * 1024

    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
