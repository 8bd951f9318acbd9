"""Memory of this machine and of this process, in bytes, from /proc; None where there is none."""

from pathlib import Path


class MemoryShort(Exception):
    """A model needs more memory than there is."""

    exit_code = 11


def available_memory() -> int | None:
    """Bytes that can still be had (MemAvailable)."""
    return _field("/proc/meminfo", "MemAvailable:")


def peak_rss() -> int | None:
    """Largest resident set of this process since it was started (VmHWM; getrusage would count the parent's too)."""
    return _field("/proc/self/status", "VmHWM:")


def needed_memory(file_bytes: int) -> int:
    """Bytes that a loaded .tflite file takes, at most: XNNPACK packs a second copy of its weights, and 24 MiB are for
    activations and code. Source: measured peak RSS of ViT-Base sub-models with 2 to 12 heads.
    """
    return 2 * file_bytes + (24 << 20)


def check_memory(path: Path) -> None:
    """Raises MemoryShort, before anything is loaded, if the file at `path` needs more memory than this machine has."""
    need, free = needed_memory(path.stat().st_size), available_memory()
    if free is not None and need > free:
        raise MemoryShort(
            f"{path.name} needs about {need / 2**20:.0f} MiB of memory when it is loaded; {free / 2**20:.0f} MiB are "
            "available. Stop other programs, or plan with a smaller budget a device."
        )


def _field(file: str, name: str) -> int | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
