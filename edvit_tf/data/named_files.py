"""Files that somebody names in a table, found however their names are written there.

A spreadsheet writes an accent and its letter as one character, a Mac's disk as two; Windows makes
no difference between small and capital letters, and has slashes of its own.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from .names import one_form

_Listings = dict[Path, dict[str, list[str]]]  # of each folder: form of a name -> its entries


def named_files(folder: Path, names: Iterable[str]) -> dict[str, Path | None]:
    """The file that each name means, relative to `folder`; None: there is none, or several could be
    meant.
    """
    found = {name: _exact(folder, name) for name in names}
    _fill(found, folder, one_form)

    # of a.png and A.png, both named, one may be gone: the other is not taken for it
    taken = {path for path in found.values() if path is not None}
    missing: dict[str, Path | None] = {name: None for name, path in found.items() if path is None}
    _fill(missing, folder, lambda name: one_form(name).casefold())
    return found | {name: None if path in taken else path for name, path in missing.items()}


def _exact(folder: Path, name: str) -> Path | None:
    for written in (name, name.replace("\\", "/")):
        try:
            if os.path.isfile(folder / written):
                return folder / written
        except ValueError:  # a name that no file can have
            continue
    return None


def _fill(found: dict[str, Path | None], folder: Path, form: Callable[[str], str]) -> None:
    """Finds what is missing by the form of each folder's and each file's name."""
    listings: _Listings = {}
    for name, path in found.items():
        if path is None:
            found[name] = _similar(folder, name.replace("\\", "/"), form, listings)


def _similar(
    folder: Path, name: str, form: Callable[[str], str], listings: _Listings
) -> Path | None:
    path = Path("/") if name.startswith("/") else folder
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            path = path / part
            continue
        if path not in listings:
            listings[path] = _listing(path, form)
        entries = listings[path].get(form(part), [])
        if part not in entries and len(entries) != 1:
            return None
        path = path / (part if part in entries else entries[0])
    return path if os.path.isfile(path) else None


def _listing(folder: Path, form: Callable[[str], str]) -> dict[str, list[str]]:
    entries = defaultdict(list)
    try:
        for entry in os.listdir(folder):
            entries[form(entry)].append(entry)
    except (OSError, ValueError):
        return {}  # no folder, or none that may be read: nothing is found in it
    return entries
