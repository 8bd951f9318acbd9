"""Caltech-101 (Fei-Fei et al. 2004) with all its classes: class folders of pictures, the background
left out.
"""

from pathlib import Path

from edvit_tf.errors import DataError

from .caltech256 import CLUTTER
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
from .names import check_apart
from .split import split_stratified

PREFIXES = ("caltech101", "manyclass_caltech101")
FEWEST = 50  # class folders, by which the whole set is told from samples of it
LAYOUT = f"""  101_ObjectCategories/accordion/image_0001.jpg ..., airplanes/ ..., yin_yang/ ...
(at least {FEWEST} class folders; for the ten biggest alone there is caltech256)"""
OPTIONS = {"test_fraction": 0.2, "validation_fraction": 0.1}


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds at least FEWEST folders of pictures."""
    found = subfolders(folder)
    if len(found) < FEWEST:
        return False

    # Also of a kind that is not read: that is what is wrong with them, and not their place.
    suffixes = (*IMAGE_SUFFIXES, *OTHER_IMAGES)
    return sum(has_file(one, suffixes) for one in found) >= FEWEST


def load_folders(found: list[Found], settings) -> Dataset:
    """Every class folder; 80/20 into train and test, then a tenth of train for validation.

    Stratified and seeded. DataError: a folder without pictures, two of one name, a class of too few
    pictures, too many unreadable files.
    """
    place = only_one("caltech101", found)
    skipped: list[Skipped] = []
    others: list[Path] = []
    pictures_of = _filled(place, skipped, others)
    named = {folder: folder.name for folder in pictures_of}
    check_apart(named)

    def split(recordings: list[Recording]) -> Splits:
        return split_stratified(
            recordings, settings["test_fraction"], settings["validation_fraction"], settings.seed
        )

    return picture_dataset(
        "caltech101",
        place,
        pictures_of,
        named,
        settings,
        channels=3,
        split=split,
        notes=note_others(others, place, "pictures"),
        skipped=skipped,
    )


def _filled(place: Found, skipped: list[Skipped], others: list[Path]) -> dict[Path, list[Path]]:
    """The pictures of each class folder, each of which must have some."""
    pictures_of = {}
    for folder in class_folders(place, skipped):
        if folder.name in CLUTTER:
            continue

        pictures_of[folder] = pictures(files(folder), others)
        if not pictures_of[folder]:
            raise DataError(
                f"The class folder {place.relative(folder)} holds no pictures. Fill it or remove "
                "it."
            )
    return pictures_of
