"""Files as they come into a folder: each once, when it is whole, for as long as the folder is
looked at.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.input_spec import InputSpec, file_bytes
from edvit_tf.errors import SourceError
from edvit_tf.watch.item import Item, Value

LOOK_SECONDS = 0.5  # from one look to the next; a file is whole that has not changed in between
_OF_A_LOOK = 4  # times that a look takes: of a huge folder, or a slow disk, there are fewer
_MOST_GONE = 100_000  # files that are no longer there and still known
# A recording is cut here, so it may be longer than what a hub takes; it is decoded in memory.
_LARGEST_RECORDING_BYTES = 128 << 20


class _State(NamedTuple):
    """What changes while a file is written."""

    size: int
    changed_ns: int


class Folder:
    """New files of a folder and those within it, without hidden ones; with `existing` also those
    that are there at the start. A file that is written anew is a new one.

    Raises SourceError if there is no such folder.
    """

    unit = "files"
    keeps = True
    lost = 0  # the disk keeps them

    def __init__(
        self, path: Path, spec: InputSpec, cut: Callable[[bytes], list[Value]], existing: bool
    ) -> None:
        self.path, self._spec, self._cut = path, spec, cut
        if not path.is_dir():
            raise SourceError(f"--folder {path} is no folder. Make it, or give another.")
        self._known: dict[str, _State] = {} if existing else dict(_files(path))

    def run(
        self, give: Callable[[Item], bool], stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        """Looks until `stop`."""
        before: dict[str, _State] = {}
        is_away = False
        while not stop.is_set():
            started = time.monotonic()
            try:
                now = dict(_files(self.path))
                seconds = time.monotonic() - started  # of the look; `give` waits for the fleet
            except OSError as error:  # unmounted, renamed
                seconds = time.monotonic() - started
                if not is_away:
                    say(f"{self.path} cannot be looked at, going on: {error}")
                is_away = True
            else:
                if is_away:
                    say(f"{self.path} can be looked at again.")
                is_away = False
                for name in self._whole(now, before):
                    self._known[name] = now[name]
                    if not give(self._item(name)):
                        return
                self._forget(now)
                before = now
            stop.wait(max(LOOK_SECONDS, _OF_A_LOOK * seconds))

    def _forget(self, now: dict[str, _State]) -> None:
        """What is gone is forgotten late: the folder of a camera lives for years, but a disk that
        is unmounted for a while comes back with the same files, and so does a folder within it.
        """
        if not now:  # perhaps a mount point without its disk; then nothing is added either
            return
        gone = [name for name in self._known if name not in now]
        for name in gone[: max(0, len(gone) - _MOST_GONE)]:
            del self._known[name]

    def _whole(self, now: dict[str, _State], before: dict[str, _State]) -> list[str]:
        """Names of files that are new and did not change since the last look, the oldest first."""
        found = []
        for name, state in now.items():
            is_whole = state.size > 0 and before.get(name) == state
            if is_whole and self._known.get(name) != state:
                found.append(name)
        return sorted(found, key=lambda name: (now[name].changed_ns, name))

    def _item(self, name: str) -> Item:
        return Item(name, lambda: self._cut(self._read(name)))

    def _read(self, name: str) -> bytes:
        data_path = self.path / name
        most = _LARGEST_RECORDING_BYTES if self._spec.is_sound else self._spec.largest_file_bytes
        if data_path.is_file() and (size := data_path.stat().st_size) > most:
            raise InputError(
                f"it has {size} bytes; a {self._spec.item} may have {most}. Make it smaller."
            )
        return file_bytes(data_path)


def _files(folder: Path) -> Iterator[tuple[str, _State]]:
    """(name below the folder, its state) of every file. Raises OSError if it cannot be looked at;
    folders within it that cannot are left out.
    """
    folders = [folder]
    while folders:
        here = folders.pop()
        try:
            entries = list(os.scandir(here))
        except OSError:
            if here == folder:
                raise
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    state = entry.stat()
                    name = os.path.relpath(entry.path, folder)
                    yield name, _State(state.st_size, state.st_mtime_ns)
            except OSError:  # gone meanwhile
                continue
