"""MNIST (LeCun et al. 1998): IDX files, gz or not, of any number of rows, or Keras' mnist.npz."""

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edvit_tf.errors import DataError

from .dataset import Dataset
from .folders import Found, only_one
from .keras_cache import cached_or_downloaded
from .rows import from_rows

LABELS = tuple("0123456789")
PREFIXES = ("mnist",)
LAYOUT = """  train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz
  t10k-images-idx3-ubyte.gz   t10k-labels-idx1-ubyte.gz     (or unpacked; or one mnist.npz)"""
OPTIONS = {"validation_count": 5000}
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def _find(folder: Path, stem: str) -> Path | None:
    for name in (stem, stem.replace("-idx", ".idx")):
        for end in ("", ".gz"):
            path = folder / f"{name}-ubyte{end}"
            if path.is_file():
                return path
    return None


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds at least one of the IDX files, or mnist.npz."""
    return (folder / "mnist.npz").is_file() or any(_find(folder, stem) for stem in FILES)


def elsewhere(looked: list[Path]) -> list[Found]:
    """Keras' cache, or its download into it; MissingData without a network."""
    return cached_or_downloaded("mnist", is_layout, looked, LAYOUT)


def load_folders(found: list[Found], settings) -> Dataset:
    """The official split, with a validation split drawn from train. DataError: a file missing,
    damaged or odd.
    """
    place = only_one("mnist", found)
    # The four files go before mnist.npz where a folder has both.
    arrays = _idx_files(place.folder) or _npz_file(place.folder)
    train_x, train_y, test_x, test_y = arrays

    for name, x, y in (("train", train_x, train_y), ("t10k", test_x, test_y)):
        right = x.ndim == 3 and x.shape[1:] == (28, 28) and y.shape == (len(x),)
        right = right and x.dtype == np.uint8 and y.dtype.kind in "iu"
        if not right or not len(x) or y.min() < 0 or y.max() > 9:
            raise DataError(
                f"{name} images {x.shape} {x.dtype} and labels {y.shape} {y.dtype} in "
                f"{place.folder}; (n, 28, 28) images of uint8, 0..255, and n whole labels 0..9 are "
                "needed, n at least 1. Get complete copies of the original files."
            )

    # (n, 28, 28, 1)
    rows = {"train": (train_x[..., None], train_y), "test": (test_x[..., None], test_y)}
    return from_rows("mnist", LABELS, rows, place.shown, settings)


def _idx_files(folder: Path) -> list[np.ndarray] | None:
    """Images and labels, train then test; None where there is another format. DataError if one of
    four is missing.
    """
    paths = {stem: _find(folder, stem) for stem in FILES}
    lost = [f"{stem}-ubyte" for stem, path in paths.items() if path is None]
    if not lost:
        return [read_idx(path) for path in paths.values() if path is not None]
    # Without all four, Keras' one file will do.
    if (folder / "mnist.npz").is_file():
        return None

    raise DataError(
        f"{folder} lacks {', '.join(lost)}; all four files are needed. Expected:\n{LAYOUT}"
    )


def _npz_file(folder: Path) -> list[np.ndarray]:
    """Images and labels, train then test."""
    path = folder / "mnist.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); it must be the file that Keras downloads. Remove it "
            "to have it downloaded again."
        ) from error


def read_idx(path: Path) -> np.ndarray:
    """uint8 array of an IDX file, gz or not; DataError if its magic, dimensions or length are
    wrong.
    """
    try:
        data = path.read_bytes()
        # The magic of gzip: a packed file may have lost its .gz.
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); get a complete copy of it.") from error

    # The magic ends with the rank, 3 of images and 1 of labels; then a big-endian size a dimension.
    rank = 3 if "idx3" in path.name else 1
    header = 4 + 4 * rank
    if len(data) < header or struct.unpack(">I", data[:4])[0] != 0x0800 + rank:
        raise DataError(
            f"{path} starts with {data[:4].hex()!r}; an IDX file of rank {rank} starts with "
            f"{0x0800 + rank:08x}. Get the original file."
        )

    shape = struct.unpack(f">{rank}I", data[4:header])
    promised = math.prod(shape)
    if len(data) - header != promised:
        raise DataError(
            f"{path} holds {len(data) - header} bytes of data; its header says {shape}, "
            f"{promised}. Get a complete copy of it."
        )

    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
