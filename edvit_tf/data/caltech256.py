"""Caltech-256 (Griffin et al. 2007), or Caltech-101 in its place: class folders of pictures, the
ten biggest.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import DataError

from .dataset import Dataset, Recording, Skipped, check_skipped
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
    readable_images,
    subfolders,
)
from .names import check_apart, class_labels, printable
from .split import check_classes, stratified_mask

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
    label_of = class_labels({folder: class_name(folder.name) for folder in chosen})
    labels = tuple(label_of.values())

    recordings = []
    for label, (folder, paths) in enumerate(chosen.items()):
        for path in readable_images(paths, place, skipped):
            key = f"{label_of[folder]}/{printable(path.name)}"
            recordings.append(Recording(id=key, label=label, group=key, num_windows=1, where=path))
    check_skipped(skipped, len(recordings) + len(skipped), f"caltech256 ({place.shown})")

    splits = split_stratified(
        recordings, settings["test_fraction"], settings["validation_fraction"], settings.seed
    )

    height, width = settings.image_size
    spec = ImageSpec(height, width, channels=3)

    def read(some: Sequence[Recording]) -> np.ndarray:
        return np.concatenate([spec.from_file(r.where, {}) for r in some])

    if place.folder.name.startswith("101") or not any(f.name[:3].isdigit() for f in chosen):
        notes.append("these are Caltech-101's folders, an easier set than Caltech-256")

    check_classes(splits, labels, place.shown, notes)

    return Dataset(
        "caltech256",
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


def split_stratified(
    recordings: Sequence[Recording], test: float, validation: float, seed: int
) -> dict[str, tuple[Recording, ...]]:
    """The test fraction of all, then the validation fraction of what is left; each recording is a
    group of its own.
    """
    rest, tested = _drawn(recordings, test, seed)
    # Another seed, or the same places would be drawn again.
    train, held = _drawn(rest, validation, seed + 1)
    return {"train": train, "validation": held, "test": tested}


def _drawn(
    recordings: Sequence[Recording], fraction: float, seed: int
) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """(the others, the fraction that was drawn), stratified by label, both in their old order."""
    count = round(fraction * len(recordings))
    mask = stratified_mask([r.label for r in recordings], count, seed)

    others = []
    drawn = []
    for recording, chosen in zip(recordings, mask, strict=True):
        if chosen:
            drawn.append(recording)
        else:
            others.append(recording)
    return tuple(others), tuple(drawn)
