"""Omniglot (Lake et al. 2015): handwritten characters, one class a character, split by who drew."""

import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from edvit_tf.errors import DataError

from .class_pictures import Splits, picture_dataset
from .dataset import SPLITS, Dataset, Recording, Skipped
from .folders import (
    Found,
    class_folders,
    files,
    has_file,
    note_others,
    only_one,
    pictures,
    subfolders,
)
from .names import check_apart
from .split import check_disjoint

PREFIXES = ("omniglot", "manyclass_omniglot")
LAYOUT = """  Braille-character01/0001_01.png ..., Greek-character24/... (NNNN_DD.png, DD who drew)
or
  Braille/character01/0001_01.png ... (images_background, as it is published)"""
# drawers, by their numbers, whose drawings of all characters are for the test, and for validation
OPTIONS = {"test_drawers": 3, "validation_drawers": 2}
_DRAWING = re.compile(r"\d+_(\d+)\.png", re.IGNORECASE)


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds at least two folders of drawings, or two alphabets of such folders."""
    found = subfolders(folder)
    return _two_are(_has_drawings, found) or _two_are(_is_alphabet, found)


def load_folders(found: list[Found], settings) -> Dataset:
    """Every character a class; drawers are dealt to test, validation and train by the seed, the
    same numbers for all characters. A number is one person within an alphabet, so that nobody's
    hand is on two sides of it.

    DataError: too few drawers, a file whose name does not tell the drawer, a folder without
    drawings, too many unreadable files.
    """
    place = only_one("omniglot", found)
    skipped: list[Skipped] = []
    others: list[Path] = []
    named = _characters(place, skipped)
    check_apart(named)

    drawings_of = {folder: pictures(files(folder), others) for folder in named}
    drawer_of = {}
    for drawings in drawings_of.values():
        for path in drawings:
            drawer_of[path] = _drawer(path, place)

    def split(recordings: list[Recording]) -> Splits:
        splits = deal_drawers(
            recordings, settings["test_drawers"], settings["validation_drawers"], settings.seed
        )
        check_disjoint(splits, place.shown)
        return splits

    return picture_dataset(
        "omniglot",
        place,
        drawings_of,
        named,
        settings,
        channels=1,
        split=split,
        group=drawer_of.__getitem__,
        notes=note_others(others, place, "drawings"),
        skipped=skipped,
    )


def deal_drawers(recordings: Sequence[Recording], test: int, validation: int, seed: int) -> Splits:
    """`test` drawers (the recordings' groups) and `validation` others, at random; the rest are
    train's. DataError where nobody is left.
    """
    drawers = sorted({r.group for r in recordings})
    if len(drawers) <= test + validation:
        raise DataError(
            f"{len(drawers)} drawers, of which {test} are for the test and {validation} for "
            "validation: nobody is left to train on. Set test_drawers and validation_drawers to "
            "fewer, or add drawings."
        )

    dealt = [drawers[i] for i in np.random.default_rng(seed).permutation(len(drawers))]
    split_of = dict.fromkeys(dealt, "train")
    split_of |= dict.fromkeys(dealt[:test], "test")
    split_of |= dict.fromkeys(dealt[test : test + validation], "validation")

    splits: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    for recording in recordings:
        splits[split_of[recording.group]].append(recording)
    return {split: tuple(some) for split, some in splits.items()}


def _two_are(kind: Callable[[Path], bool], folders: Sequence[Path]) -> bool:
    """Whether at least two of the folders are of a kind; the rest is not looked at."""
    return len(list(islice(filter(kind, folders), 2))) == 2


def _has_drawings(folder: Path) -> bool:
    return has_file(folder, (".png",), contains="_")


def _is_alphabet(folder: Path) -> bool:
    return any(_has_drawings(one) for one in subfolders(folder))


def _characters(place: Found, skipped: list[Skipped]) -> dict[Path, str]:
    """The folder of each character and its name, in order; one in an alphabet's folder is named by
    both.
    """
    named = {}
    for folder in class_folders(place, skipped):
        if _has_drawings(folder):
            named[folder] = folder.name
            continue

        inside = subfolders(folder)
        for inner in inside:
            named[inner] = f"{folder.name}-{inner.name}"
        if not inside:
            raise DataError(
                f"The folder {place.relative(folder)} holds no drawings. Fill it or remove it."
            )
    return named


def _drawer(path: Path, place: Found) -> str:
    """Who drew a file, by its name."""
    match = _DRAWING.fullmatch(path.name)
    if match is None:
        raise DataError(
            f"{place.relative(path)} does not tell who drew it; names are NNNN_DD.png, DD the "
            "drawer. Rename or remove it."
        )
    return f"drawer-{int(match[1])}"
