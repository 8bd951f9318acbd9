"""A pretrained checkpoint in our names, and the checked reading of its tensors. What each layout
calls them is the matter of huggingface.py and kerashub.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import weight_files

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in our names, at its own input shape; `head` is None where there is none that we
    can express.
    """

    layout: str
    image_shape: tuple[int, int, int]  # (H, W, C)
    patch_size: int
    grid: tuple[int, int]  # of the position embedding
    fields: dict  # the other fields of ViTConfig, without num_classes
    weights: dict[str, np.ndarray]  # without head.*
    head: tuple[np.ndarray, np.ndarray] | None  # kernel (w, n), bias (n,)
    labels: tuple[str, ...] | None = None  # of the head's rows, where the checkpoint names them


def read_tensors(folder: Path) -> Tensors:
    """Every tensor of a checkpoint folder by its stored name and in its stored type; those of
    task.weights.h5 get "task/" before their names. Raises ConfigError on a file that is damaged or
    of another format.
    """
    tensors: Tensors = {}
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            tensors |= _read_safetensors(path)
        else:
            tensors |= {
                ("task/" if path.name.startswith("task") else "") + name: value
                for name, value in _read_h5(path).items()
            }
    return tensors


def take(tensors: Tensors, name: str, shape: tuple[int, ...], where: Path) -> np.ndarray:
    """Removes a tensor from `tensors` and returns it as float32; ConfigError if it is missing, of
    another shape, not of floating point, or holds NaN or Inf.
    """
    if name not in tensors:
        raise ConfigError(
            f"{where} has no tensor {name}; its config.json asks for one of shape {shape}. The "
            "file is "
            "incomplete or of another layout: fetch weights and config.json of one checkpoint."
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
            "needed. "
            "Take a checkpoint that is not quantised."
        )
    with np.errstate(over="ignore"):
        value = np.asarray(value, np.float32)
    if not np.isfinite(value).all():
        raise ConfigError(
            f"{where}: tensor {name} of shape {shape} holds {np.sum(~np.isfinite(value))} values "
            "that "
            "are NaN or infinite; no model can use them. Fetch the checkpoint again or take "
            "another."
        )
    return value


def count(folder: Path, config: Mapping, key: str) -> int:
    """A width or size of a configuration, at least 1; ConfigError otherwise."""
    value = config.get(key)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]  # a square, written as two sides
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise inexpressible(folder, key, config.get(key), "one whole number of at least 1")
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


def inexpressible(folder: Path, key: str, value: object, rule: str) -> ConfigError:
    """The error for a configuration that `edvit_tf.models.vit.keras_model` has no model of."""
    return ConfigError(
        f"{folder}/config.json has {key} = {value!r}; our ViT needs {rule}. Take another "
        "checkpoint."
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
    except (
        SafetensorError,
        TypeError,
        AttributeError,
    ) as error:  # the latter two: a type that numpy has not
        raise ConfigError(
            f"{path} {_damage(path)} ({error}). Fetch it again, or take another."
        ) from error


def _damage(path: Path) -> str:
    """What is wrong with a file that does not open, the first tensor that it lacks if its header
    can be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return f"is not a safetensors file, or was cut off in its header: it has {size} bytes"
        try:
            header = json.loads(file.read(length))
            entries = sorted(
                (
                    (name, entry["shape"], entry["data_offsets"][1])
                    for name, entry in header.items()
                    if name != "__metadata__"
                ),
                key=lambda entry: entry[2],
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return f"is not a safetensors file: its {size} bytes do not begin with a header"
    for name, shape, end in entries:
        if 8 + length + end > size:
            return (
                f"is cut off: tensor {name} of shape {tuple(shape)} ends at byte "
                f"{8 + length + end}, the file at "
                f"{size}"
            )
    return (
        "holds tensors of a type that numpy does not know; float16, bfloat16 or float32 is needed"
    )


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
