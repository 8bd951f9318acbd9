"""Omniglot (Lake et al. 2015): handwritten characters, one class a character, split by who drew."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import DataError

from .dataset import Dataset, Recording, Skipped, check_skipped
from .folders import (
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

PREFIXES = ("omniglot", "manyclass_omniglot")
LAYOUT = """  Braille-character01/0001_01.png ..., Greek-character24/... (NNNN_DD.png, DD the drawer)
or
  Braille/character01/0001_01.png ... (as it is published)"""
# drawers of every character whose drawings are for the test, and for validation
OPTIONS = {"test_drawers": 3, "validation_drawers": 2}
_DRAWING = re.compile(r"\d+_(\d+)\.png", re.IGNORECASE)


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds at least two folders of drawings, or two alphabets of such folders."""
    found = subfolders(folder)[:3]
    if sum(_has_drawings(one) for one in found) >= 2:
        return True
    return sum(any(_has_drawings(one) for one in subfolders(alphabet)) for alphabet in found) >= 2


def load_folders(found: list[Found], settings) -> Dataset:
    """Every character a class; the drawers are dealt to test, validation and train by the seed, the
    same for all characters: nobody's hand is on two sides.

    DataError: too few drawers, a file whose name does not tell the drawer, too many unreadable
    files.
    """
    place = only_one("omniglot", found)
    skipped: list[Skipped] = []
    others: list[Path] = []
    folders = _characters(place, skipped)
    label_of = class_labels(folders)

    recordings = []
    for label, folder in enumerate(folders):
        for path in readable_images(pictures(files(folder), others), place, skipped):
            key = f"{label_of[folder]}/{printable(path.name)}"
            group = f"drawer-{_drawer(path, place)}"
            recordings.append(
                Recording(id=key, label=label, group=group, num_windows=1, where=path)
            )
    check_skipped(skipped, len(recordings) + len(skipped), f"omniglot ({place.shown})")

    splits = _by_drawer(
        recordings, settings["test_drawers"], settings["validation_drawers"], settings.seed
    )
    labels = tuple(label_of.values())
    notes = note_others(others, place, "drawings")
    check_classes(splits, labels, place.shown, notes)

    height, width = settings.image_size
    spec = ImageSpec(height, width, channels=1)

    def read(some: Sequence[Recording]) -> np.ndarray:
        return np.concatenate([spec.from_file(r.where, {}) for r in some])

    return Dataset(
        "omniglot",
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


def _has_drawings(folder: Path) -> bool:
    return has_file(folder, (".png",), contains="_")


def _characters(place: Found, skipped: list[Skipped]) -> dict[Path, str]:
    """The folder of each character and its name, in order; those of an alphabet's folder are named
    by both.
    """
    found = {}
    for folder in class_folders(place, skipped):
        if _has_drawings(folder):
            found[folder] = folder.name
            continue
        for inner in subfolders(folder):
            found[inner] = f"{folder.name}-{inner.name}"
    return found


def _drawer(path: Path, place: Found) -> int:
    """The drawer's number in a file's name."""
    match = _DRAWING.fullmatch(path.name)
    if match is None:
        raise DataError(
            f"{place.relative(path)} does not tell who drew it; names are NNNN_DD.png, DD the "
            "drawer. Rename or remove it."
        )
    return int(match[1])


def _by_drawer(
    recordings: Sequence[Recording], tested: int, held: int, seed: int
) -> dict[str, tuple[Recording, ...]]:
    """The recordings by whose drawers are dealt to which split."""
    drawers = sorted({r.group for r in recordings})
    if len(drawers) <= tested + held:
        raise DataError(
            f"{len(drawers)} drawers, of which {tested} are for the test and {held} for validation: "
            "nobody is left to train on. Set test_drawers and validation_drawers to fewer."
        )

    dealt = [drawers[i] for i in np.random.default_rng(seed).permutation(len(drawers))]
    split_of = dict.fromkeys(dealt[:tested], "test")
    split_of |= dict.fromkeys(dealt[tested : tested + held], "validation")

    splits: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    for recording in recordings:
        splits[split_of.get(recording.group, "train")].append(recording)
    return {split: tuple(some) for split, some in splits.items()}
