"""Memory of this machine and of this process, in bytes, from /proc; None where there is none."""

from pathlib import Path


def available_memory() -> int | None:
    """Bytes that can still be had (MemAvailable)."""
    return _field("/proc/meminfo", "MemAvailable:")


def peak_rss() -> int | None:
    """Largest resident set of this process since it was started (VmHWM; getrusage would count the parent's too)."""
    return _field("/proc/self/status", "VmHWM:")


def _field(file: str, name: str) -> int | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
