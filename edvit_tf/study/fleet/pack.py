"""A data set of pictures and a trained base in one folder, small enough to be sent to where an
accelerator is: the files as they are, compressed together, and weights as float16.
"""

import json
import lzma
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import DataError, OutputError
from edvit_tf.models.vit.config import ViTConfig

SPLITS = ("train", "validation", "test")
FILES = "files.xz"
INDEX = "index.npz"
WEIGHTS = "base.npz"
DESCRIPTION = "pack.json"


@dataclass(frozen=True)
class Pack:
    """What a packed folder holds."""

    config: ViTConfig
    weights: dict[str, np.ndarray]  # of the base, float32
    spec: ImageSpec
    files: dict[str, list[bytes]]  # encoded pictures of a split
    labels: dict[str, np.ndarray]  # (n,) int64 of a split


def write_pack(data, config: ViTConfig, weights: Mapping[str, np.ndarray], folder: Path) -> None:
    """Packs a Dataset of picture files and its base. Raises DataError for other data, OutputError
    where the folder holds something.
    """
    if not isinstance(data.spec, ImageSpec):
        raise DataError(f"{data.name} holds no pictures; only files of pictures are packed.")
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty. Give a new folder.")

    blob = bytearray()
    ends, labels, splits = [0], [], []
    for number, split in enumerate(SPLITS):
        for recording in data.splits[split]:
            blob += _file_of(recording).read_bytes()
            ends.append(len(blob))
            labels.append(recording.label)
            splits.append(number)

    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILES).write_bytes(lzma.compress(bytes(blob)))
    np.savez(folder / INDEX, ends=ends, labels=labels, splits=splits)
    np.savez(folder / WEIGHTS, **{name: np.float16(value) for name, value in weights.items()})
    described = {"config": config.to_dict(), "spec": asdict(data.spec), "data": data.name}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1), "utf-8")


def read_pack(folder: Path) -> Pack:
    """What `write_pack` wrote. Raises DataError where it is not whole."""
    try:
        described = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        index = np.load(folder / INDEX)
        blob = lzma.decompress((folder / FILES).read_bytes())
        stored = np.load(folder / WEIGHTS)
        weights = {name: np.float32(stored[name]) for name in stored.files}
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise DataError(f"{folder} is no whole pack ({error}). Pack it again.") from error

    ends = index["ends"]
    files: dict[str, list[bytes]] = {}
    labels = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero(index["splits"] == number)
        files[split] = [blob[ends[row] : ends[row + 1]] for row in rows]
        labels[split] = index["labels"][rows].astype(np.int64)

    spec = ImageSpec(**described["spec"])
    return Pack(ViTConfig(**_tuples(described["config"])), weights, spec, files, labels)


def _file_of(recording) -> Path:
    """The file of a recording: data sets keep it by itself, or behind a row number."""
    where = recording.where
    path = where[-1] if isinstance(where, tuple) else where
    if not isinstance(path, Path):
        raise DataError(f"{recording.id} is no file of its own; only files of pictures are packed.")
    return path


def _tuples(config: Mapping) -> dict:
    """The fields of a config as JSON gives them, lists as tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in config.items()}
