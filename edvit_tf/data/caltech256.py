"""Caltech-256 (Griffin et al. 2007), or Caltech-101 in its place: class folders of pictures, the
ten biggest.
"""

import re
from pathlib import Path

import numpy as np

from edvit_tf.device.model.decode import decode_image
from edvit_tf.device.model.image import ImageSpec, image_input
from edvit_tf.errors import DataError

from .dataset import Dataset, Recording, Skipped, check_skipped
from .folders import IMAGE_SUFFIXES, Found, files, has_file, only_one, readable_images, subfolders
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
    return sum(has_file(f, IMAGE_SUFFIXES) for f in subfolders(folder)) >= 2


def class_name(folder: str) -> str:
    """The folder's name without Caltech-256's number: "257.clutter" -> "clutter"."""
    return re.sub(r"^\d{3}\.", "", folder)


def load_folders(found: list[Found], settings) -> Dataset:
    """The biggest folders (ties: alphabetical), 80/20 into train and test, then a tenth of train
    for validation.

    Stratified and seeded. DataError: too few classes, an empty class, too many unreadable files.
    """
    place = only_one("caltech256", found)
    wanted = settings["num_classes"]
    folders = {f: files(f) for f in subfolders(place.folder)}
    if not settings["clutter"]:
        folders = {f: p for f, p in folders.items() if class_name(f.name) not in CLUTTER}
    empty = sorted(f.name for f, paths in folders.items() if not paths)
    if len(folders) - len(empty) < wanted:
        raise DataError(
            f"{len(folders) - len(empty)} class folders with pictures in {place.folder} (empty: "
            f"{', '.join(empty) or 'none'}); {wanted} are needed. Fill them, or set num_classes. "
            f"Expected:\n{LAYOUT}"
        )
    chosen = sorted(sorted(folders, key=lambda f: (-len(folders[f]), f.name))[:wanted])
    skipped: list[Skipped] = []
    recordings = []
    for label, folder in enumerate(chosen):
        for path in readable_images(folders[folder], place, skipped):
            key = f"{class_name(folder.name)}/{path.name}"
            recordings.append(Recording(key, label, key, 1, path))
    check_skipped(skipped, len(recordings) + len(skipped), f"caltech256 ({place.shown})")
    splits = split_stratified(
        recordings, settings["test_fraction"], settings["validation_fraction"], settings.seed
    )
    labels = tuple(class_name(f.name) for f in chosen)
    spec = ImageSpec(*settings.image_size, channels=3)

    def read(some: list[Recording]) -> np.ndarray:
        return np.stack([image_input(decode_image(r.where), spec) for r in some])

    notes = [] if settings["clutter"] else ["the clutter folder is left out (clutter=False)"]
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


def split_stratified(
    recordings: list[Recording], test: float, validation: float, seed: int
) -> dict[str, tuple]:
    """The test fraction of all, then the validation fraction of what is left; each recording is a
    group of its own.
    """
    mask = stratified_mask([r.label for r in recordings], round(test * len(recordings)), seed)
    rest = [r for r, m in zip(recordings, mask, strict=True) if not m]
    held = stratified_mask([r.label for r in rest], round(validation * len(rest)), seed + 1)
    return {
        "train": tuple(r for r, m in zip(rest, held, strict=True) if not m),
        "validation": tuple(r for r, m in zip(rest, held, strict=True) if m),
        "test": tuple(r for r, m in zip(recordings, mask, strict=True) if m),
    }
