"""Where a data set's files are: layouts looked for in folders, and messages that show what was
expected and found.
"""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.terminal import are, counted
from edvit_tf.errors import DataError

from .dataset import Skipped, report_skipped
from .names import printable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
# What is meant as a picture and is not read: named, where a README.txt is merely left out.
OTHER_IMAGES = (
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd"),
    *(".raw", ".cr2", ".nef", ".dng", ".arw"),
)
# Of files and folders that Windows and network disks put everywhere.
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("@eadir", "$recycle.bin", "lost+found", "system volume information")
_HIDDEN = (".", "__")  # how the names begin of what is passed over
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8")
GIT_LFS = b"version http"


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
        return printable(f"{self.shown}/{path.relative_to(self.folder).as_posix()}")


def is_folder(path: Path) -> bool:
    """Whether it is a folder; False also for what may not be looked at."""
    # Path.is_dir raises PermissionError.
    return os.path.isdir(path)


def may(folder: str | Path, mode: int) -> bool:
    """Whether this process may read (os.R_OK) or enter (os.X_OK) a folder."""
    return os.access(folder, mode, effective_ids=os.access in os.supports_effective_ids)


def subfolders(folder: Path) -> list[Path]:
    """Sorted, hidden ones left out; none if it is not a folder or may not be read.

    For looking around: what is not found there is told by whoever looks.
    """
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if _is_class_folder(entry)]
    except OSError:
        return []
    return sorted(found)


def class_folders(place: Found, skipped: list[Skipped]) -> list[Path]:
    """The folders in a data set's folder, sorted; links to nothing are named and added to
    `skipped`. DataError if the folder cannot be read.
    """
    found = []
    for entry in _entries(place.folder):
        if _is_class_folder(entry):
            found.append(Path(entry.path))
        elif not _is_hidden(entry) and _is_lost(entry):
            report_skipped(skipped, place.relative(Path(entry.path)), "a link to nothing")
    return sorted(found)


def has_folders(folder: Path) -> bool:
    """Whether folders are in it. DataError if that cannot be seen, which does not mean none."""
    return any(_is_class_folder(entry) for entry in _entries(folder))


def files(folder: Path) -> list[Path]:
    """Sorted, hidden ones left out (also the Thumbs.db and desktop.ini of Windows).

    With links to nothing, and what else is neither file nor folder: the caller names them.
    DataError if the folder cannot be read.
    """
    names = []
    for entry in _entries(folder):
        hidden = _is_hidden(entry) or entry.name.lower() in SYSTEM_FILES
        # Most are plain files, which the listing tells by itself.
        is_plain = entry.is_file(follow_symlinks=False)
        if not hidden and (is_plain or not is_folder(Path(entry.path))):
            names.append(entry.name)
    return [folder / name for name in sorted(names)]


def _entries(folder: Path) -> list[os.DirEntry]:
    # its names can be read without it, and nothing can be told of what they name
    if os.path.isdir(folder) and may(folder, os.R_OK) and not may(folder, os.X_OK):
        raise DataError(
            f"The folder {printable(str(folder))} can be listed and not entered. Let this user "
            "enter it (chmod u+x), or move it elsewhere."
        )
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"The folder {printable(str(folder))} cannot be read ({error.strerror}). Make it "
            "readable for this user (chmod u+rx), or move it elsewhere."
        ) from error


def _is_hidden(entry: os.DirEntry) -> bool:
    return entry.name.startswith(_HIDDEN)


def is_left_out(name: str) -> bool:
    """Whether a folder of this name is never taken for a class: hidden, or a system's own."""
    return name.startswith(_HIDDEN) or name.lower() in SYSTEM_FOLDERS


def _is_class_folder(entry: os.DirEntry) -> bool:
    return not is_left_out(entry.name) and is_folder(Path(entry.path))


def _is_lost(entry: os.DirEntry) -> bool:
    """Whether it is a link to nothing, or to itself."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def unusable(path: Path) -> str | None:
    """Why a path is no file that can be opened; None if it is one. A pipe would be waited for."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        lost = os.path.islink(path) and not os.path.exists(path)
        return "a link to nothing" if lost else error.strerror or "unreadable"

    return None if stat.S_ISREG(mode) else "neither a file nor a folder"


def pictures(paths: Sequence[Path], others: list[Path]) -> list[Path]:
    """Those that are meant as pictures, by their suffix or by what they hold; what else people keep
    beside them is added to `others`.
    """
    found = []
    for path in paths:
        meant = path.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_IMAGES)
        if meant or unusable(path) or no_picture(path) is None:
            found.append(path)
        else:
            others.append(path)
    return found


def note_others(others: Sequence[Path], place: Found, what: str) -> list[str]:
    """A note on files that are not what a data set is made of, if there are any."""
    if not others:
        return []
    names = ", ".join(place.relative(path) for path in others[:3])
    verb = are(len(others))
    files = counted(len(others), "file")
    return [f"{files} that {verb} no {what} {verb} left out, e.g. {names}"]


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
    start = Path(os.path.realpath(given_folder(start)))
    if not is_folder(start):
        return []

    if is_layout(start):
        return [Found(start, printable(start.name))]

    found = []
    level = subfolders(start)
    # Level by level; what has the layout is not looked into.
    for _ in range(depth):
        below = []
        for folder in level:
            if is_layout(folder):
                shown = folder.relative_to(start.parent).as_posix()
                found.append(Found(folder, printable(shown)))
            else:
                below += subfolders(folder)
        level = below
    return found


def given_folder(folder: str | Path) -> Path:
    """The folder that somebody named, with ~ for his home; DataError if nobody knows that, or if no
    folder can have this name.
    """
    text = os.fspath(folder)
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise DataError(
            f"The home folder of {printable(text)!r} is unknown. Give the whole path of the folder."
        )
    if "\0" in expanded:
        raise DataError(f"{text!r} holds a zero byte; no folder has such a name.")
    return Path(expanded)


def listing(folder: Path, limit: int = 8) -> str:
    """What is in a folder, in a few words, for an error message."""
    folder = given_folder(folder)
    if not is_folder(folder):
        return "it is a file, not a folder" if os.path.exists(folder) else "there is no such folder"

    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not may(folder, os.X_OK):
        return "it can be listed and not entered (chmod u+x)"
    if not entries:
        return "it is empty"

    names = []
    for entry in sorted(entries, key=lambda entry: entry.name):
        slash = "/" if is_folder(Path(entry.path)) else ""
        if slash and not may(entry.path, os.R_OK | os.X_OK):
            slash = "/ (which cannot be read)"
        names.append(f"{printable(entry.name)}{slash}")
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"it holds {', '.join(names[:limit])}{more}"


def wrong_layout(name: str, looked: Sequence[Path], layout: str) -> MissingData:
    """The error for: looked here, found that, expected this."""
    lines = [f"  {printable(str(folder))}: {listing(folder)}" for folder in looked]
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
        places = ", ".join(printable(str(one.folder)) for one in found)
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
    problem = unusable(path)
    if problem is not None:
        return problem

    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        return error.strerror or "unreadable"

    if not head:
        return "the file is empty"
    if head.startswith(GIT_LFS):
        return "a pointer of git-LFS, not the picture; `git lfs pull` fetches it"

    is_webp = head.startswith(b"RIFF") and head[8:] == b"WEBP"
    if not head.startswith(IMAGE_SIGNATURES) and not is_webp:
        formats = ", ".join(IMAGE_SUFFIXES)
        return f"not a picture of a kind that is read ({formats}): it starts with {head[:4]!r}"
    return None
