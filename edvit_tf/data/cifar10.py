"""CIFAR-10 (Krizhevsky 2009): the Python batches, or train/ and test/ folders of class folders of
pictures.
"""

import io
import pickle
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode import decode_image
from edvit_tf.device.model.image import ImageSpec, image_batch, image_input
from edvit_tf.errors import DataError

from .dataset import SPLITS, Dataset, Recording, Skipped, check_skipped
from .folders import IMAGE_SUFFIXES, Found, files, has_file, only_one, readable_images, subfolders
from .keras_cache import cached_or_downloaded
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


def keras_folders(looked: list[Path]) -> list[Found]:
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

    ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
        (f"numpy.{core}.multiarray", f)
        for core in ("core", "_core")
        for f in ("_reconstruct", "scalar")
    }

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
        batch = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it must be a CIFAR-10 "
            "Python "
            "batch. Get the original file."
        ) from error
    good = (
        pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == 3072
        and labels.dtype.kind in "iu"
    )
    if (
        not good
        or labels.shape != (len(pixels),)
        or not len(labels)
        or labels.min() < 0
        or labels.max() > 9
    ):
        raise DataError(
            f"{path} holds data {pixels.shape} {pixels.dtype} and labels {labels.shape}; (n, 3072) "
            "uint8 "
            "and n labels 0..9 are needed. Get the original file."
        )
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _from_batches(place: Found, settings) -> Dataset:
    names = [f"data_batch_{i}" for i in range(1, 6) if (place.folder / f"data_batch_{i}").is_file()]
    if not names or not (place.folder / "test_batch").is_file():
        raise DataError(
            f"{place.folder} lacks {'test_batch' if names else 'data_batch_1'}; training and test "
            "batches "
            f"are needed. Expected:\n{LAYOUT}"
        )
    parts = [read_batch(place.folder / name) for name in names]
    rows = {
        "train": tuple(np.concatenate(p) for p in zip(*parts, strict=True)),
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
    sides: dict[str, list[Recording]] = {}
    rows = 0
    for side in ("train", "test"):
        empty = [c for c in LABELS if c not in {f.name for f in subfolders(place.folder / side)}]
        if empty:
            raise DataError(
                f"{place.folder / side} lacks the class folders {', '.join(empty)}; all ten are "
                "needed. "
                f"Expected:\n{LAYOUT}"
            )
        sides[side], bad, total = [], len(skipped), 0
        for label, name in enumerate(LABELS):
            found = files(place.folder / side / name)
            total += len(found)
            for path in readable_images(found, place, skipped):
                key = f"{side}/{name}/{path.name}"
                sides[side].append(Recording(key, label, key, 1, (rows, path)))
                rows += 1
        check_skipped(skipped[bad:], total, f"cifar10 ({side} split)")
    mask, note = draw_validation(
        [r.label for r in sides["train"]], settings["validation_count"], settings.seed
    )
    train = list(zip(sides["train"], mask, strict=True))
    parts = ([r for r, m in train if not m], [r for r, m in train if m], sides["test"])
    splits = {s: tuple(p) for s, p in zip(SPLITS, parts, strict=True)}
    notes = [note] if note else []
    check_classes(splits, LABELS, place.shown, notes)
    spec = ImageSpec(*settings.image_size, channels=3)
    pixels, decoded = np.zeros((rows, 32, 32, 3), np.uint8), np.zeros(rows, bool)

    def read(chosen: list[Recording]) -> np.ndarray:
        for r in chosen:
            row, path = r.where
            if not decoded[row]:
                picture = decode_image(path)
                if picture.shape[:2] != (32, 32):
                    raise InputError(
                        f"{picture.shape[1]}x{picture.shape[0]} pixels; CIFAR-10's are 32x32"
                    )
                pixels[row] = image_input(picture, PIXELS)
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
