"""Where a data set's files are: layouts looked for in folders, and messages that show what was
expected and found.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.errors import DataError

from .dataset import Skipped, report_skipped

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
WINDOWS_FILES = ("thumbs.db", "desktop.ini")
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"RIFF")


class MissingData(DataError):
    """No data set there: where a stand-in may step in, if it was asked for."""


@dataclass(frozen=True)
class Found:
    """A folder that has a data set's layout, and its name to show: relative, since it goes into
    manifests.
    """

    folder: Path
    shown: str

    def relative(self, path: Path) -> str:
        """The path of a file in it, to show."""
        return f"{self.shown}/{path.relative_to(self.folder).as_posix()}"


def subfolders(folder: Path) -> list[Path]:
    """Sorted, hidden ones left out; none if it is not a folder or may not be read."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith((".", "__")) and entry.is_dir():
                    found.append(Path(entry.path))
    except OSError:
        return []
    return sorted(found)


def files(folder: Path) -> list[Path]:
    """Sorted, hidden ones left out (also the Thumbs.db and desktop.ini of Windows)."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") or entry.name.lower() in WINDOWS_FILES
            if not hidden and entry.is_file():
                names.append(entry.name)
    return [folder / name for name in sorted(names)]


def has_file(folder: Path, suffixes: Sequence[str], contains: str = "") -> bool:
    """Whether the folder itself holds a file with one of the suffixes."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if contains in entry.name and entry.name.lower().endswith(tuple(suffixes)):
                    return True
    except OSError:
        return False
    return False


def find_layouts(start: Path, is_layout: Callable[[Path], bool], depth: int = 2) -> list[Found]:
    """The folders with the layout: `start`, else all at most `depth` levels below it."""
    start = Path(start).expanduser().resolve()
    if not start.is_dir():
        return []

    if is_layout(start):
        return [Found(start, start.name)]

    found = []
    level = subfolders(start)
    # Level by level; what has the layout is not looked into.
    for _ in range(depth):
        below = []
        for folder in level:
            if is_layout(folder):
                found.append(Found(folder, folder.relative_to(start.parent).as_posix()))
            else:
                below += subfolders(folder)
        level = below
    return found


def listing(folder: Path, limit: int = 8) -> str:
    """What is in a folder, in a few words, for an error message."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        return "there is no such folder" if not folder.exists() else "it is a file, not a folder"

    names = []
    for path in folder.iterdir():
        names.append(f"{path.name}/" if path.is_dir() else path.name)
    if not names:
        return "it is empty"

    names.sort()
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"it holds {', '.join(names[:limit])}{more}"


def wrong_layout(name: str, looked: Sequence[Path], layout: str) -> MissingData:
    """The error for: looked here, found that, expected this."""
    lines = [f"  {folder}: {listing(folder)}" for folder in looked]
    if not lines:
        lines.append("  nowhere: no --data-dir, and $EDVIT_DATA is not set")

    places = "\n".join(lines)
    return MissingData(
        f"No {name} data found. Looked in (and two levels "
        f"below):\n{places}\nExpected:\n{layout.rstrip()}\n"
        f"Put the files there and give the folder with --data-dir, or as $EDVIT_DATA/{name}."
    )


def only_one(name: str, found: Sequence[Found]) -> Found:
    """The folder, or DataError that names the several."""
    if len(found) > 1:
        places = ", ".join(str(one.folder) for one in found)
        raise DataError(
            f"Several {name} folders found: {places}. Give one of them with --data-dir."
        )
    return found[0]


def readable_images(paths: Sequence[Path], place: Found, skipped: list[Skipped]) -> list[Path]:
    """The paths that are pictures by their first bytes; the others are named and added to
    `skipped`.
    """
    good = []
    for path in paths:
        problem = no_picture(path)
        if problem is None:
            good.append(path)
        else:
            report_skipped(skipped, place.relative(path), problem)
    return good


def no_picture(path: Path) -> str | None:
    """Why a file is no picture by its first bytes; None if it is one.

    Damage further inside is met when it is decoded.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        return error.strerror or "unreadable"

    if not head:
        return "the file is empty"
    if not head.startswith(IMAGE_SIGNATURES):
        return f"not a picture: it starts with {head!r}"
    return None
