"""The tensors of a checkpoint folder (safetensors, HDF5), read and checked, by their stored names.

What each layout calls them is the matter of an architecture.
"""

import json
from pathlib import Path

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import refuse_lfs, weight_files

Tensors = dict[str, np.ndarray]


def read_tensors(folder: Path) -> Tensors:
    """Every tensor of a checkpoint folder by its stored name and in its stored type; those of
    task.weights.h5 get "task/" before their names. Raises ConfigError on a file that is damaged or
    of another format.
    """
    tensors: Tensors = {}
    for path in weight_files(folder):
        refuse_lfs(path)
        if path.suffix == ".safetensors":
            tensors |= _read_safetensors(path)
            continue

        # the classifier's layers are in a file of their own, and their names start anew
        before = "task/" if path.name.startswith("task") else ""
        for name, value in _read_h5(path).items():
            tensors[before + name] = value

    return tensors


def take(tensors: Tensors, name: str, shape: tuple[int, ...], where: Path) -> np.ndarray:
    """Removes a tensor from `tensors` and returns it as float32; ConfigError if it is missing, of
    another shape, not of floating point, or holds NaN or Inf.
    """
    if name not in tensors:
        raise ConfigError(
            f"{where} has no tensor {name}; its config.json asks for one of shape {shape}. The "
            "file is incomplete or of another layout: fetch weights and config.json of one "
            "checkpoint."
        )

    value = tensors.pop(name)
    if value.shape != shape:
        raise ConfigError(
            f"{where}: tensor {name} has shape {value.shape}; its config.json asks for {shape}. "
            "Fetch weights and config.json of one checkpoint."
        )

    if value.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise ConfigError(
            f"{where}: tensor {name} is {value.dtype.name}; float16, bfloat16 or float32 is "
            "needed. Take a checkpoint that is not quantised."
        )

    # float64 may not fit: what overflows becomes infinite, and is found below
    with np.errstate(over="ignore"):
        value = np.asarray(value, np.float32)

    if not np.isfinite(value).all():
        raise ConfigError(
            f"{where}: tensor {name} of shape {shape} holds {np.sum(~np.isfinite(value))} values "
            "that are NaN or infinite; no model can use them. Fetch the checkpoint again or take "
            "another."
        )

    return value


def nothing_left(folder: Path, tensors: Tensors) -> None:
    """ConfigError if tensors are left over: the configuration describes another model than the file
    holds.
    """
    for name, value in tensors.items():
        raise ConfigError(
            f"{folder}: tensor {name} of shape {value.shape} has no place in the model of its "
            "config.json. Fetch weights and config.json of one checkpoint, of a known layout."
        )


def _read_safetensors(path: Path) -> Tensors:
    import ml_dtypes  # noqa: F401  numpy learns bfloat16 from it; TensorFlow brings it
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). Check its permissions and the disk."
        ) from error
    except (SafetensorError, TypeError, AttributeError) as error:
        # the latter two: a type that numpy has not
        raise ConfigError(
            f"{path} {_damage(path)} ({error}). Fetch it again, or take another."
        ) from error


def _damage(path: Path) -> str:
    """What is wrong with a file that does not open, the first tensor that it lacks if its header
    can be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        # 8 bytes: how long the header is; then the header, JSON; then the values, by their offsets
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return f"is not a safetensors file, or was cut off in its header: it has {size} bytes"

        try:
            entries = _header_entries(json.loads(file.read(length)))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return f"is not a safetensors file: its {size} bytes do not begin with a header"

    # the first one that ends behind the file
    for name, shape, end in entries:
        if 8 + length + end > size:
            return (
                f"is cut off: tensor {name} of shape {tuple(shape)} ends at byte "
                f"{8 + length + end}, the file at {size}"
            )
    return (
        "holds tensors of a type that numpy does not know; float16, bfloat16 or float32 is needed"
    )


def _header_entries(header: dict) -> list[tuple[str, list[int], int]]:
    """(name, shape, last byte) of every tensor of a safetensors header, by that byte."""
    entries = []
    for name, entry in header.items():
        # "__metadata__" is free text and no tensor
        if name != "__metadata__":
            entries.append((name, entry["shape"], entry["data_offsets"][1]))

    return sorted(entries, key=lambda entry: entry[2])


def _read_h5(path: Path) -> Tensors:
    import h5py

    tensors: Tensors = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            tensors[name] = item[()]

    try:
        with h5py.File(path) as stored:
            stored.visititems(visit)
    except (OSError, RuntimeError, KeyError) as error:
        raise ConfigError(
            f"{path} is not an HDF5 file, or is damaged ({error}). Fetch it again."
        ) from error

    return tensors
