"""Which fleets run on this machine: a small file of each `edvit up`, in a folder of this user
alone.

A process that was killed leaves its file. It is known by the process's number and the moment at
which that started, since numbers come back.
"""

import contextlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edvit_tf.errors import OutputError

_PREFIX = "up-"


@dataclass(frozen=True)
class Running:
    """An `edvit up` that serves."""

    pid: int
    started: str  # as `started_at` says it of the process
    server: str  # HOST:PORT of its aggregator
    bundle: str  # its folder, an absolute path
    bundle_digest: str
    metrics: str = ""  # HOST:PORT of its aggregator's HTTP port


@contextlib.contextmanager
def announced(server: str, bundle: Path, digest: str, metrics: str = "") -> Iterator[None]:
    """Within the block this process is found as a fleet. Raises OutputError."""
    pid = os.getpid()
    started = started_at(pid)
    if started is None:  # nobody could tell whether it still runs
        yield
        return

    told = Running(pid, started, server, str(bundle.absolute()), digest, metrics)
    file = runtime_folder() / f"{_PREFIX}{pid}.json"
    try:
        # whole, or not there
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(told)), "utf-8")
        new.replace(file)
    except OSError as error:
        raise OutputError(
            f"{file} cannot be written ({error}). Set XDG_RUNTIME_DIR to a folder of your own."
        ) from error

    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running() -> list[Running]:
    """The fleets of this user that run, by number of process; files of others are removed. Raises
    OutputError.
    """
    found = []
    for file in runtime_folder().glob(f"{_PREFIX}*.json"):
        one = _read(file)
        if one is not None and started_at(one.pid) == one.started:
            found.append(one)
            continue
        # its process has ended, or the file is none of ours
        with contextlib.suppress(OSError):
            file.unlink()
    return sorted(found, key=lambda one: one.pid)


def _read(file: Path) -> Running | None:
    try:
        return Running(**json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def started_at(pid: int) -> str | None:
    """When a process started, in the system's own words; None: there is none, or nobody says."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return _by_ps(pid)
    # The name, in parentheses, may hold any letter; the 22nd field is the start, in clock ticks.
    state, *others = told.rpartition(")")[2].split()
    return None if state == "Z" else others[18]


def _by_ps(pid: int) -> str | None:
    """As `started_at`, on systems without /proc."""
    if sys.platform in ("linux", "win32"):
        return None
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def runtime_folder() -> Path:
    """Our folder of what runs now, which exists: in $XDG_RUNTIME_DIR, else in the temporary folder.

    Raises OutputError where it cannot be made, or is not this user's alone: others could name a
    server of theirs there.
    """
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    place = Path(tempfile.gettempdir()) / f"edvit_tf-{user}"
    if os.path.isabs(given) and os.access(given, os.W_OK | os.X_OK):
        place = Path(given) / "edvit_tf"

    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(place)
    except OSError as error:
        raise OutputError(
            f"{place} cannot be used ({error}). Set XDG_RUNTIME_DIR to a folder of your own."
        ) from error

    # Windows has no numbers of users, and its temporary folder is the user's own.
    others = hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022)
    if not stat.S_ISDIR(found.st_mode) or others:
        raise OutputError(
            f"{place} must be a folder of your own, which nobody else may write into. Remove it, "
            "or set XDG_RUNTIME_DIR to a folder of your own."
        )
    return place
