"""Weights from outside: a base ViT to start from instead of training one.

Read `sources.py` (where the files are), `checkpoints.py` (their tensors, checked), `huggingface.py`
and `kerashub.py` (what the tensors are called), `resample.py` (other sizes and channels), then
this.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.checked import digest
from edvit_tf.device.model.bundle import sha256
from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import find_base, read_json, weight_files
from edvit_tf.models.vit.checkpoints import Checkpoint
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.huggingface import AST, LAYOUTS, from_huggingface
from edvit_tf.models.vit.kerashub import from_kerashub
from edvit_tf.models.vit.resample import (
    resample_channels,
    resample_patch_kernel,
    resample_positions,
)


@dataclass(frozen=True)
class Pretrained:
    """A base's config and its weights by name (as `edvit_tf.models.vit.keras_model.get_weights`),
    and what was done to them.
    """

    config: ViTConfig
    weights: dict[str, np.ndarray]
    new_head: bool  # True: the head is zeros, and the base must be fine-tuned
    notes: tuple[str, ...]  # what was resampled, and what became of the head


def load_pretrained(
    source: str | Path,
    image_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    *,
    patch_size: int | None = None,
    labels: tuple[str, ...] | None = None,
    decibels: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Pretrained:
    """A pretrained ViT at an input shape (H, W, C), with `num_classes`; None: the checkpoint's own.

    `source` is a folder (config.json and safetensors of Hugging Face's ViT, DINOv2 or AST; a
    KerasHub ViT preset) or a hub name such as "facebook/dinov2-small"; a .keras file of ours comes
    back as it is. float16 and bfloat16 become float32. Positions, patch kernel and channels are
    resampled (`edvit_tf.models.vit.resample`); `patch_size` None keeps the checkpoint's.

    The checkpoint's head is kept if it has `num_classes` rows, put into the order of `labels` where
    both name the same classes; if they name other ones, or another number, the head is new: zeros
    (Dosovitskiy et al. 2021, 3.2).

    The input is taken to be 0..255 and is normalised as the checkpoint was trained. For sound,
    `decibels` gives (mean, std) of the run's own log-mel values, one each: they take the place of
    the checkpoint's (twice the std for AST, as in its own extractor). Raises ConfigError.
    """
    path = find_base(source)
    if path.is_file():
        return Pretrained(*_load_keras(path), new_head=False, notes=())
    return _fit_to(read_checkpoint(path), image_shape, num_classes, patch_size, labels, decibels)


def read_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint folder of any known layout in our names, at its own input shape.

    Raises ConfigError on an unknown layout, on a configuration that our ViT cannot express, and on
    a missing, damaged, misshapen or unknown tensor, with its name, its shape and the shape
    expected.
    """
    config = read_json(folder / "config.json")
    if config.get("class_name") == "ViTBackbone":
        return from_kerashub(folder, config)
    if config.get("model_type") not in list(LAYOUTS):
        kind = config.get("model_type", config.get("class_name"))
        raise ConfigError(
            f"{folder}/config.json is of a model {kind!r}; the known ones are {', '.join(LAYOUTS)} "
            "and "
            "KerasHub's ViTBackbone. Take a checkpoint of one of them."
        )
    return from_huggingface(folder, config)


def _fit_to(
    checkpoint: Checkpoint, image_shape, num_classes, patch_size, labels, decibels
) -> Pretrained:
    """Resamples a checkpoint and gives it a head; arguments as for `load_pretrained`."""
    old, weights, notes = checkpoint.image_shape, dict(checkpoint.weights), []
    shape, patch = tuple(image_shape or old), patch_size or checkpoint.patch_size
    head, new_head, note = _head(checkpoint, num_classes, labels)
    config = ViTConfig(
        image_shape=(*shape[:2], old[2]),
        patch_size=patch,
        num_classes=head[1].size,
        **checkpoint.fields,
    )
    mean, std = config.input_mean, config.input_std
    if decibels is not None:  # what the checkpoint's normalised input was, the run's must be
        mean, std = (0.0,), (1.0,)
    kernel, bias, mean, std = resample_channels(
        resample_patch_kernel(weights["patch_embedding.kernel"], patch),
        weights["patch_embedding.bias"],
        mean,
        std,
        shape[2],
    )
    if decibels is not None:
        mean, std = (
            decibels[0],
            tuple(v * (2 if checkpoint.layout == AST else 1) for v in decibels[1]),
        )
    grid = (shape[0] // patch, shape[1] // patch)
    weights |= {
        "patch_embedding.kernel": kernel,
        "patch_embedding.bias": bias,
        "position_embedding.embedding": resample_positions(
            weights["position_embedding.embedding"], checkpoint.grid, grid
        ),
        "head.kernel": head[0],
        "head.bias": head[1],
    }
    for what, before, after in (
        ("patch size", checkpoint.patch_size, patch),
        ("channels", old[2], shape[2]),
        ("positions", "{} x {}".format(*checkpoint.grid), "{} x {}".format(*grid)),
    ):
        if before != after:
            notes.append(f"{what} {before} -> {after}")
    weights = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    config = config.replace(image_shape=shape, input_mean=tuple(mean), input_std=tuple(std))
    return Pretrained(config, weights, new_head, (*notes, note))


def _head(
    checkpoint: Checkpoint, num_classes: int | None, labels
) -> tuple[tuple[np.ndarray, np.ndarray], bool, str]:
    """((kernel, bias), whether it is new, what was done)."""
    rows = None if checkpoint.head is None else checkpoint.head[1].size
    if num_classes is None and rows is None:
        raise ConfigError(
            f"the {checkpoint.layout} checkpoint has no head that carries over; give num_classes "
            "for a "
            "new one."
        )
    width = checkpoint.fields["hidden_dim"] * (
        2 if checkpoint.fields.get("pool") == "cls_mean" else 1
    )
    wanted = num_classes or rows
    new = np.zeros((width, wanted), np.float32), np.zeros(wanted, np.float32)
    if rows is None:
        return (
            new,
            True,
            f"new head of {wanted} classes (the checkpoint has none that carries over)",
        )
    if rows != wanted:
        return new, True, f"new head of {wanted} classes (the checkpoint's has {rows})"
    if labels is None or checkpoint.labels is None:
        return (
            checkpoint.head,
            False,
            f"the checkpoint's head of {rows} classes kept, taken to be in the data's order",
        )
    have, want = (
        [str(label).strip().lower() for label in names] for names in (checkpoint.labels, labels)
    )
    if sorted(have) != sorted(want) or len(set(have)) != rows:
        return (
            new,
            True,
            f"new head of {wanted} classes (the checkpoint's are others: {', '.join(have[:3])} "
            "...)",
        )
    order = [have.index(name) for name in want]
    kernel, bias = checkpoint.head
    return (kernel[:, order], bias[order]), False, f"the checkpoint's head of {rows} classes kept"


def load_base(
    source: str | Path,
    expected: ViTConfig,
    labels: tuple[str, ...] | None = None,
    decibels: bool = False,
) -> Pretrained:
    """A base for a run: a .keras file that `edvit_tf.models.vit.keras_model.build_vit` made (a
    run's `base/base.keras`), as it is, or a checkpoint as `load_pretrained` takes it, at
    `expected`'s image shape and number of classes.

    A checkpoint keeps its patch size where that divides the image's sides, else `expected`'s is
    taken. With `decibels` (sound), `expected`'s input_mean and input_std are those of the run's
    data. Raises ConfigError if the file is none of ours, or if its input shape or number of classes
    is not `expected`'s.
    """
    path = find_base(source)
    if path.is_dir():
        checkpoint = read_checkpoint(path)
        divides = all(side % checkpoint.patch_size == 0 for side in expected.image_shape[:2])
        return _fit_to(
            checkpoint,
            expected.image_shape,
            expected.num_classes,
            None if divides else expected.patch_size,
            labels,
            (expected.input_mean, expected.input_std) if decibels else None,
        )
    config, weights = _load_keras(path)
    for name in ("image_shape", "num_classes"):
        if getattr(config, name) != getattr(expected, name):
            raise ConfigError(
                f"--base {path} has {name} {getattr(config, name)}; the data need "
                f"{getattr(expected, name)}. "
                "Give a base that was trained on this data set at this size."
            )
    return Pretrained(config, weights, new_head=False, notes=())


def _load_keras(path: Path) -> tuple[ViTConfig, dict[str, np.ndarray]]:
    import keras

    from edvit_tf.models.vit.keras_model import config_of
    from edvit_tf.models.weights import get_weights

    try:
        model = keras.models.load_model(path)
        config = config_of(model)
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise ConfigError(
            f"--base {path} is not a ViT of edvit_tf ({error}). Give the base.keras of an earlier "
            "run."
        ) from error
    weights = get_weights(model)
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ConfigError(
                f"--base {path}: {name} of shape {value.shape} holds NaN or infinite values; no "
                "model "
                "can use them. Give the base.keras of another run."
            )
    return config, weights


def base_origin(source: str | Path, splits: str) -> str:
    """A line on where a given base comes from, its sha256 in it; it goes into the results.

    `splits` is the digest of this run's splits: a base that a run of ours trained on other splits
    has seen recordings that are tested on here, and is refused with ConfigError. Of any other file
    that cannot be known, and it is said.
    """
    path = find_base(source)
    if path.is_dir():
        files = [
            path / name
            for name in (
                "config.json",
                "preprocessor_config.json",
                "task.json",
                "image_converter.json",
            )
            if (path / name).is_file()
        ]
        content = digest({file.name: sha256(file) for file in (*files, *weight_files(path))})
        return f"{_shown(path)} (sha256 {content[:16]}), pretrained elsewhere: it may have seen the test split"
    content = sha256(path)
    stored = _run_of(path)
    if stored is None:
        return (
            f"{path.name} (sha256 {content[:16]}), origin unknown: it may have seen the test split"
        )
    if stored["splits"] != splits:
        raise ConfigError(
            f"--base {path} was trained on another split (seed {stored['config']['seed']}): "
            "recordings that would be "
            "tested on here may be among those it has seen. Use the same data and --seed as its "
            "run."
        )
    return f"{path.name} (sha256 {content[:16]}), trained on the same split"


def _run_of(path: Path) -> dict | None:
    """What the run of ours was made from in whose work folder a base lies; None if it lies in none,
    or if run.json there is damaged.
    """
    record = path.resolve().parent.parent / "run.json"
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))["description"]
        return {"splits": stored["splits"], "config": {"seed": stored["config"]["seed"]}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shown(folder: Path) -> str:
    """A folder's name; of a snapshot in the hub's cache the name on the hub and the revision."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return f"{folder.parent.parent.name.removeprefix('models--').replace('--', '/')} at {folder.name[:12]}"
    return folder.resolve().name
