"""CIFAR-10 (Krizhevsky 2009): the Python batches, or train/ and test/ folders of class folders of
pictures.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode_picture import decode_image
from edvit_tf.device.model.image import ImageSpec, image_batch, image_input
from edvit_tf.errors import DataError

from .dataset import Dataset, Recording, Skipped, check_skipped
from .folders import (
    IMAGE_SUFFIXES,
    Found,
    files,
    has_file,
    note_others,
    only_one,
    pictures,
    readable_images,
    subfolders,
)
from .keras_cache import cached_or_downloaded
from .names import printable
from .rows import draw_validation, from_rows
from .split import check_classes

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PREFIXES = ("cifar10", "cifar-10")
LAYOUT = """  cifar-10-batches-py/data_batch_1 ... data_batch_5, test_batch
or
  train/airplane/0000.jpg ... (or .png), train/automobile/ ..., test/airplane/ ..."""
OPTIONS = {"validation_count": 5000}
PIXELS = ImageSpec(32, 32, 3)


def _has_batches(folder: Path) -> bool:
    return (folder / "test_batch").is_file() or (folder / "data_batch_1").is_file()


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds batches, or train/ with class folders of pictures."""
    return _has_batches(folder) or any(
        has_file(folder / "train" / c, IMAGE_SUFFIXES) for c in LABELS
    )


def elsewhere(looked: list[Path]) -> list[Found]:
    """Keras' cache, or its download into it; MissingData without a network."""
    return cached_or_downloaded("cifar10", is_layout, looked, LAYOUT)


def load_folders(found: list[Found], settings) -> Dataset:
    """The official split, with a validation split drawn from train; batches are preferred to class
    folders.
    """
    batches = [f for f in found if _has_batches(f.folder)]
    place = only_one("cifar10", batches or found)
    data = _from_batches(place, settings) if batches else _from_folders(place, settings)

    unused = [f.shown for f in found if f is not place]
    if unused:
        data.notes.append(
            f"{place.shown} holds the original batches and is used; not used: {', '.join(unused)}"
        )
    return data


class _PlainUnpickler(pickle.Unpickler):
    """A pickle may run any code; the batches need arrays and byte strings only."""

    ALLOWED = frozenset(
        {
            ("_codecs", "encode"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            # numpy 2 renamed its core
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "scalar"),
        }
    )

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no CIFAR-10 batch needs"
            )
        return super().find_class(module, name)


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(pixels uint8 (n, 32, 32, 3), labels (n,)) of one batch file; DataError if it is damaged or
    odd.
    """
    try:
        stored = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()

        # Keys are bytes or strings, by the Python that wrote them.
        batch = {}
        for key, value in stored.items():
            name = key.decode() if isinstance(key, bytes) else key
            batch[name] = value

        pixels = np.asarray(batch["data"])
        labels = np.asarray(batch["labels"])
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it must be a CIFAR-10 "
            "Python batch. Get the original file."
        ) from error

    wrong_pixels = pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072
    wrong_labels = labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]
    if wrong_pixels or wrong_labels or not len(labels) or labels.min() < 0 or labels.max() > 9:
        raise DataError(
            f"{path} holds data {pixels.shape} {pixels.dtype} and labels {labels.shape}; (n, 3072) "
            "uint8 and n labels 0..9 are needed. Get the original file."
        )

    planes = pixels.reshape(-1, 3, 32, 32)  # (n, C, H, W)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _from_batches(place: Found, settings) -> Dataset:
    names = []
    for i in range(1, 6):
        name = f"data_batch_{i}"
        if (place.folder / name).is_file():
            names.append(name)

    if not names or not (place.folder / "test_batch").is_file():
        raise DataError(
            f"{place.folder} lacks {'test_batch' if names else 'data_batch_1'}; training and test "
            f"batches are needed. Expected:\n{LAYOUT}"
        )

    parts = [read_batch(place.folder / name) for name in names]
    rows = {
        "train": (
            np.concatenate([pixels for pixels, _ in parts]),
            np.concatenate([labels for _, labels in parts]),
        ),
        "test": read_batch(place.folder / "test_batch"),
    }

    data = from_rows("cifar10", LABELS, rows, place.shown, settings)
    if len(names) < 5:
        data.notes.append(f"only {', '.join(names)} of data_batch_1 ... data_batch_5 are there")

    return data


def _from_folders(place: Found, settings) -> Dataset:
    """Pictures are decoded when first read and kept: 180 MB for the whole set, instead of decoding
    in each epoch.
    """
    skipped: list[Skipped] = []
    notes: list[str] = []
    train = _side(place, "train", 0, notes, skipped)
    test = _side(place, "test", len(train), notes, skipped)

    mask, drawn = draw_validation(
        [r.label for r in train], settings["validation_count"], settings.seed
    )
    notes += drawn
    learnt = []
    validation = []
    for recording, held in zip(train, mask, strict=True):
        if held:
            validation.append(recording)
        else:
            learnt.append(recording)

    splits = {"train": tuple(learnt), "validation": tuple(validation), "test": tuple(test)}
    check_classes(splits, LABELS, place.shown, notes)

    height, width = settings.image_size
    spec = ImageSpec(height, width, channels=3)

    # A picture is decoded when it is first asked for.
    pixels = np.zeros((len(train) + len(test), 32, 32, 3), np.uint8)
    decoded = np.zeros(len(pixels), bool)

    def read(chosen: Sequence[Recording]) -> np.ndarray:
        for recording in chosen:
            row, path = recording.where
            if not decoded[row]:
                pixels[row] = _picture(path)
                decoded[row] = True

        return image_batch(pixels[[r.where[0] for r in chosen]], spec)

    return Dataset(
        "cifar10",
        LABELS,
        spec,
        {},
        place.shown,
        settings.seed,
        splits,
        read,
        chunk=256,
        id_rule="<train|test>/<class>/<file>; validation is drawn from train, stratified, by the "
        "seed",
        notes=notes,
        skipped=skipped,
    )


def _side(
    place: Found, side: str, first_row: int, notes: list[str], skipped: list[Skipped]
) -> list[Recording]:
    """The pictures of train/ or test/, class by class, their rows counted from `first_row`."""
    folder = place.folder / side
    there = {one.name for one in subfolders(folder)}
    lacking = [name for name in LABELS if name not in there]
    if lacking:
        raise DataError(
            f"{folder} lacks the class folders {', '.join(lacking)}; all ten are needed. "
            f"Expected:\n{LAYOUT}"
        )

    recordings: list[Recording] = []
    others: list[Path] = []
    unreadable: list[Skipped] = []
    total = 0
    for label, name in enumerate(LABELS):
        found = pictures(files(folder / name), others)
        total += len(found)
        for path in readable_images(found, place, unreadable):
            key = f"{side}/{name}/{printable(path.name)}"
            where = (first_row + len(recordings), path)
            recordings.append(Recording(id=key, label=label, group=key, num_windows=1, where=where))

    check_skipped(unreadable, total, f"cifar10 ({side} split)")
    skipped += unreadable
    notes += note_others(others, place, "pictures")
    return recordings


def _picture(path: Path) -> np.ndarray:
    """uint8 (32, 32, 3); InputError for another size."""
    picture = decode_image(path)
    height, width = picture.shape[:2]

    if (height, width) != (32, 32):
        raise InputError(f"{width}x{height} pixels; CIFAR-10's are 32x32")

    return image_input(picture, PIXELS)
