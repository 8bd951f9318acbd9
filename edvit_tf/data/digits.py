"""Handwritten digits, 8 x 8 pixels (Alpaydin and Kaynak 1998): the 1,797 that scikit-learn ships,
so that real data are there without a download.

Who wrote which digit is not told, so the split is drawn by picture: the same hands are on all
sides, and accuracies are higher than on other people's digits.
"""

import gzip
import importlib.util
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec, image_batch
from edvit_tf.errors import DataError

from .dataset import Dataset, Recording
from .folders import Found, only_one, wrong_layout
from .split import check_classes, split_stratified

LABELS = tuple("0123456789")
PREFIXES = ("digits",)
FILE = "digits.csv.gz"
LAYOUT = f"  {FILE}     (of scikit-learn: pip install scikit-learn)"
OPTIONS = {"validation_fraction": 0.15, "test_fraction": 0.25}
SIDE = 8
LIGHTEST = 16  # of a pixel, in the file


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds scikit-learn's file."""
    return (folder / FILE).is_file()


def elsewhere(looked: list[Path]) -> list[Found]:
    """Where scikit-learn, which is not imported, keeps it; MissingData without scikit-learn."""
    package = importlib.util.find_spec("sklearn")
    for place in (package and package.submodule_search_locations) or ():
        folder = Path(place) / "datasets" / "data"
        looked.append(folder)
        if is_layout(folder):
            return [Found(folder, "scikit-learn")]
    raise wrong_layout("digits", looked, LAYOUT)


def load_folders(found: list[Found], settings) -> Dataset:
    """Split by picture, stratified by digit, seeded. DataError: the file is damaged or odd."""
    place = only_one("digits", found)
    pixels, labels = read_digits(place.folder / FILE)

    height, width = settings.image_size
    spec = ImageSpec(height, width, channels=1)

    def read(chosen: Sequence[Recording]) -> np.ndarray:
        return image_batch(pixels[[one.where for one in chosen]], spec)

    recordings = []
    for row, label in enumerate(labels.tolist()):
        key = f"digits/{row:04d}"
        recordings.append(Recording(id=key, label=label, group=key, num_windows=1, where=row))

    fractions = (settings["test_fraction"], settings["validation_fraction"])
    splits = split_stratified(recordings, *fractions, settings.seed)
    notes = ["who wrote a digit is not known: the same hands are on all sides of the split"]
    check_classes(splits, LABELS, place.shown, notes)

    return Dataset(
        "digits",
        LABELS,
        spec,
        {},
        place.shown,
        settings.seed,
        splits,
        read,
        chunk=512,
        rows_digest=sha256(pixels.tobytes() + labels.tobytes()).hexdigest(),
        notes=notes,
    )


def read_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(pixels uint8 (n, 8, 8, 1), 0..255, labels (n,)) of the file: 64 pixels of 0..16 and a label
    a line. DataError if it is damaged or odd.
    """
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            rows = np.loadtxt(file, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Install scikit-learn again: pip install "
            "--force-reinstall --no-deps scikit-learn."
        ) from error

    right = rows.shape[1] == SIDE * SIDE + 1 and len(rows) > 0
    values, labels = rows[:, :-1], rows[:, -1]
    if (
        not right
        or values.min() < 0
        or values.max() > LIGHTEST
        or not set(labels) <= set(range(10))
    ):
        raise DataError(
            f"{path} holds {rows.shape[0]} lines of {rows.shape[1]} numbers; each must have 64 "
            f"pixels of 0 to {LIGHTEST}, then a digit. Get the file of scikit-learn."
        )

    grey = np.rint(values * (255 / LIGHTEST)).astype(np.uint8)
    return grey.reshape(-1, SIDE, SIDE, 1), labels.astype(int)
