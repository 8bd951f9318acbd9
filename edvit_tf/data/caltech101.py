"""Caltech-101 (Fei-Fei et al. 2004) with all its classes: class folders of pictures, the background
left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import DataError

from .caltech256 import CLUTTER, split_stratified
from .dataset import Dataset, Recording, Skipped, check_skipped
from .folders import (
    IMAGE_SUFFIXES,
    Found,
    class_folders,
    files,
    has_file,
    note_others,
    only_one,
    pictures,
    readable_images,
    subfolders,
)
from .names import class_labels, printable
from .split import check_classes

PREFIXES = ("caltech101", "manyclass_caltech101")
LAYOUT = """  101_ObjectCategories/accordion/image_0001.jpg ..., airplanes/ ..., yin_yang/ ...
(at least 50 class folders; for the ten biggest alone there is caltech256)"""
OPTIONS = {"test_fraction": 0.2, "validation_fraction": 0.1}
FEWEST = 50  # class folders, by which the whole set is told from samples of it


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds at least FEWEST folders of pictures."""
    found = subfolders(folder)
    if len(found) < FEWEST:
        return False
    return sum(has_file(one, IMAGE_SUFFIXES) for one in found) >= FEWEST


def load_folders(found: list[Found], settings) -> Dataset:
    """Every class folder with pictures; 80/20 into train and test, then a tenth of train for
    validation.

    Stratified and seeded. DataError: too few pictures of a class, too many unreadable files.
    """
    place = only_one("caltech101", found)
    skipped: list[Skipped] = []
    others: list[Path] = []
    paths_of: dict[Path, list[Path]] = {}
    for folder in class_folders(place, skipped):
        if folder.name in CLUTTER:
            continue
        paths = pictures(files(folder), others)
        if not paths:
            raise DataError(
                f"The class folder {place.relative(folder)} holds no pictures. Fill it or remove it."
            )
        paths_of[folder] = paths

    label_of = class_labels({folder: folder.name for folder in paths_of})
    recordings = []
    for label, (folder, paths) in enumerate(paths_of.items()):
        for path in readable_images(paths, place, skipped):
            key = f"{label_of[folder]}/{printable(path.name)}"
            recordings.append(Recording(id=key, label=label, group=key, num_windows=1, where=path))
    check_skipped(skipped, len(recordings) + len(skipped), f"caltech101 ({place.shown})")

    splits = split_stratified(
        recordings, settings["test_fraction"], settings["validation_fraction"], settings.seed
    )
    labels = tuple(label_of.values())
    notes = note_others(others, place, "pictures")
    check_classes(splits, labels, place.shown, notes)

    height, width = settings.image_size
    spec = ImageSpec(height, width, channels=3)

    def read(some: Sequence[Recording]) -> np.ndarray:
        return np.concatenate([spec.from_file(r.where, {}) for r in some])

    return Dataset(
        "caltech101",
        labels,
        spec,
        {},
        place.shown,
        settings.seed,
        splits,
        read,
        notes=notes,
        skipped=skipped,
    )
