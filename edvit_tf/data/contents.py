"""Digests of whole files, read once: what was digested before is known by size, times and inode.

A digest that skipped the middle of a file would take other data for the old ones, and a run would
go on with what is no longer there. Reading everything at each start would cost minutes; so digests
are kept in a cache of the user's, which may be deleted at any time.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .caches import cache_folder

# A file that was changed so shortly before it was read may be changed again without its time
# showing it: FAT counts in steps of 2 s, most others in milliseconds.
TOO_FRESH_NS = 2 * 10**9
# In the place of a digest, of a file that cannot be read.
UNREADABLE = b"unreadable"
# Folders of data whose digests are kept, about 12 MB for the largest (100,000 recordings).
KEPT_CACHES = 32


def file_digests(paths: Sequence[Path]) -> list[bytes]:
    """sha256 of each file's whole content; UNREADABLE of one that cannot be read, which is told
    when it is decoded.
    """
    cache = _Cache(paths)
    digests = [cache.digest(path) for path in paths]
    cache.store()
    return digests


class _Cache:
    """What is known of the files of one folder: path -> [size, times, inode, digest]."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.file = _cache_file(paths)
        self.known = _stored(self.file)
        self.used: dict[str, list] = {}
        self.changed = False

    def digest(self, path: Path) -> bytes:
        try:
            now = time.time_ns()
            seen = _state(path)
            known = self.known.get(str(path))
            if known is not None and known[:-1] == seen:
                self.used[str(path)] = known
                return bytes.fromhex(known[-1])

            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256")
            # A file that is being written has another state by now.
            steady = _state(path) == seen
        except OSError:
            return UNREADABLE

        if steady and max(seen[1:3]) < now - TOO_FRESH_NS:
            self.used[str(path)] = [*seen, found.hexdigest()]
            self.changed = True
        return found.digest()

    def store(self) -> None:
        """Writes what is new; a cache that cannot be written is done without."""
        if self.file is None or not self.changed:
            return

        partial = self.file.with_suffix(f".{os.getpid()}.partial")
        try:
            self.file.parent.mkdir(exist_ok=True)
            # A path that is not UTF-8 is kept by JSON's escapes.
            partial.write_text(json.dumps(self.used), encoding="ascii")
            os.replace(partial, self.file)
            _prune(self.file.parent)
        except OSError:
            partial.unlink(missing_ok=True)


def _state(path: Path) -> list[int]:
    """What another content would change: size, both times, device and inode.

    The time of the last change of the inode is the kernel's: no program sets it back, as those that
    copy or unpack set back the time of the content.
    """
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino]


def _cache_file(paths: Sequence[Path]) -> Path | None:
    """Where the digests of these files are kept; None where nothing can be.

    On Windows st_ctime is the time of creation, so nothing would tell a file that was changed and
    had its time set back: all are read.
    """
    if not paths or sys.platform == "win32":
        return None

    place = os.path.commonpath([path.parent for path in paths])
    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
    try:
        return cache_folder() / "contents" / f"{name}.json"
    except OSError:
        return None


def _stored(file: Path | None) -> dict[str, list]:
    """What a cache holds; nothing if it is not there or damaged."""
    if file is None:
        return {}
    try:
        stored = json.loads(file.read_text(encoding="ascii"))
    except (OSError, ValueError, RecursionError):
        return {}

    # Whatever is odd in it is read anew.
    entries = stored.items() if isinstance(stored, dict) else ()
    return {path: entry for path, entry in entries if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 6:
        return False
    *state, digest = entry
    is_digest = isinstance(digest, str) and len(digest) == 64 and digest.isalnum()
    return is_digest and all(isinstance(number, int) for number in state)


def _prune(folder: Path) -> None:
    """Keeps the caches that were written last."""
    caches = sorted(folder.glob("*.json"), key=os.path.getmtime)
    for old in caches[:-KEPT_CACHES]:
        old.unlink(missing_ok=True)
