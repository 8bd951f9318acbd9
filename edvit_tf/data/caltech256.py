"""Caltech-256 (Griffin et al. 2007), or Caltech-101 in its place: class folders of pictures, the
ten biggest.
"""

import re
from pathlib import Path

from edvit_tf.errors import DataError

from .class_pictures import Splits, picture_dataset
from .dataset import Dataset, Recording, Skipped
from .folders import (
    IMAGE_SUFFIXES,
    OTHER_IMAGES,
    Found,
    class_folders,
    files,
    has_file,
    note_others,
    only_one,
    pictures,
    subfolders,
)
from .names import check_apart, printable
from .split import split_stratified

PREFIXES = ("caltech256", "caltech101")
LAYOUT = """  256_ObjectCategories/001.ak47/001_0001.jpg ..., 002.american-flag/ ..., 257.clutter/
or
  101_ObjectCategories/airplanes/image_0001.jpg ..., BACKGROUND_Google/ ..."""
# clutter: the paper's 4,525 pictures count the clutter folder as a class; False leaves it out
OPTIONS = {"clutter": True, "num_classes": 10, "test_fraction": 0.2, "validation_fraction": 0.1}
CLUTTER = ("clutter", "BACKGROUND_Google")


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds at least two folders of pictures."""
    # Also of a kind that is not read: that is what is wrong with them, and not their place.
    suffixes = (*IMAGE_SUFFIXES, *OTHER_IMAGES)
    with_pictures = [one for one in subfolders(folder) if has_file(one, suffixes)]
    return len(with_pictures) >= 2


def class_name(folder: str) -> str:
    """The folder's name without Caltech-256's number: "257.clutter" -> "clutter"."""
    return re.sub(r"^\d{3}\.", "", folder)


def load_folders(found: list[Found], settings) -> Dataset:
    """The biggest folders (ties: alphabetical), 80/20 into train and test, then a tenth of train
    for validation.

    Stratified and seeded. DataError: too few classes, an empty class, too many unreadable files.
    """
    place = only_one("caltech256", found)
    notes = [] if settings["clutter"] else ["the clutter folder is left out (clutter=False)"]
    skipped: list[Skipped] = []
    folders = _filled(place, settings["clutter"], notes, skipped)
    chosen = _biggest(place, folders, settings["num_classes"])
    if place.folder.name.startswith("101") or not any(f.name[:3].isdigit() for f in chosen):
        notes.append("these are Caltech-101's folders, an easier set than Caltech-256")

    def split(recordings: list[Recording]) -> Splits:
        return split_stratified(
            recordings, settings["test_fraction"], settings["validation_fraction"], settings.seed
        )

    return picture_dataset(
        "caltech256",
        place,
        chosen,
        {folder: class_name(folder.name) for folder in chosen},
        settings,
        channels=3,
        split=split,
        notes=notes,
        skipped=skipped,
    )


def _filled(
    place: Found, clutter: bool, notes: list[str], skipped: list[Skipped]
) -> dict[Path, list[Path]]:
    """The pictures of each class folder, some of which may have none. DataError for two folders of
    one name.
    """
    folders = {}
    others: list[Path] = []
    for folder in class_folders(place, skipped):
        if clutter or class_name(folder.name) not in CLUTTER:
            folders[folder] = pictures(files(folder), others)

    notes += note_others(others, place, "pictures")
    check_apart({folder: class_name(folder.name) for folder, paths in folders.items() if paths})
    return folders


def _biggest(place: Found, folders: dict[Path, list[Path]], wanted: int) -> dict[Path, list[Path]]:
    """The `wanted` folders with most files, in alphabetical order, with their files."""
    empty = sorted(printable(folder.name) for folder, paths in folders.items() if not paths)
    if len(folders) - len(empty) < wanted:
        raise DataError(
            f"{len(folders) - len(empty)} class folders with pictures in {place.folder} (empty: "
            f"{', '.join(empty) or 'none'}); {wanted} are needed. Fill them, or set num_classes. "
            f"Expected:\n{LAYOUT}"
        )

    # The biggest are taken; their labels are in alphabetical order.
    by_size = sorted(folders, key=lambda folder: (-len(folders[folder]), folder.name))
    return {folder: folders[folder] for folder in sorted(by_size[:wanted])}
