"""Weights from outside: a base ViT to start from instead of training one.

Read `models/sources.py` (where the files are), `models/tensors.py` (what is in them, checked),
`huggingface.py` and `kerashub.py` (what the tensors are called), `resample.py` (other sizes and
channels), then this.
"""

from pathlib import Path

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.keras_file import read_base
from edvit_tf.models.sources import Base, find_base, read_json
from edvit_tf.models.vit.checkpoints import Checkpoint
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.huggingface import AST, LAYOUTS, from_huggingface
from edvit_tf.models.vit.kerashub import from_kerashub
from edvit_tf.models.vit.resample import (
    resample_channels,
    resample_patch_kernel,
    resample_positions,
)

Head = tuple[np.ndarray, np.ndarray]  # kernel (w, n), bias (n,)
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std, a channel each


def load_pretrained(
    source: str | Path,
    image_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    *,
    patch_size: int | None = None,
    labels: tuple[str, ...] | None = None,
    decibels: Normalisation | None = None,
) -> Base:
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
        return _load_keras(path)

    return _fit_to(read_checkpoint(path), image_shape, num_classes, patch_size, labels, decibels)


def load_base(
    source: str | Path,
    expected: ViTConfig,
    labels: tuple[str, ...] | None = None,
    decibels: bool = False,
) -> Base:
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
        # the checkpoint's patches where they tile our inputs: then its kernel stays as it is
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

    # a base of ours is not resampled: it has to fit
    base = _load_keras(path)
    for name in ("image_shape", "num_classes"):
        if getattr(base.config, name) != getattr(expected, name):
            raise ConfigError(
                f"--base {path} has {name} {getattr(base.config, name)}; the data need "
                f"{getattr(expected, name)}. Give a base that was trained on this data set at "
                "this size."
            )

    return base


def read_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint folder of any known layout in our names, at its own input shape.

    Raises ConfigError on an unknown layout, on a configuration that our ViT cannot express, and on
    a missing, damaged, misshapen or unknown tensor, with its name, its shape and the shape
    expected.
    """
    config = read_json(folder / "config.json")
    if config.get("class_name") == "ViTBackbone":
        return from_kerashub(folder, config)

    # timm's own way of saving: other names, and another configuration
    if "model_type" not in config and ("pretrained_cfg" in config or "architecture" in config):
        raise ConfigError(
            f"{folder} is a checkpoint of timm ({config.get('architecture')!r}), whose tensors "
            "have other names. Give transformers' checkpoint of the same model, such as "
            "google/vit-base-patch16-224 or facebook/dinov2-small."
        )

    if config.get("model_type") not in list(LAYOUTS):
        kind = config.get("model_type", config.get("class_name"))
        raise ConfigError(
            f"{folder}/config.json is of a model {kind!r}; the known ones are "
            f"{', '.join(LAYOUTS)} and KerasHub's ViTBackbone. Take a checkpoint of one of them."
        )

    return from_huggingface(folder, config)


def _fit_to(
    checkpoint: Checkpoint,
    image_shape: tuple[int, int, int] | None,
    num_classes: int | None,
    patch_size: int | None,
    labels: tuple[str, ...] | None,
    decibels: Normalisation | None,
) -> Base:
    """Resamples a checkpoint and gives it a head; arguments as for `load_pretrained`."""
    old_shape = checkpoint.image_shape
    shape = tuple(image_shape or old_shape)
    patch = patch_size or checkpoint.patch_size
    head, new_head, what_became_of_it = _head(checkpoint, num_classes, labels)

    # of the checkpoint's own channels, until they are folded
    config = ViTConfig(
        image_shape=(*shape[:2], old_shape[2]),
        patch_size=patch,
        num_classes=head[1].size,
        **checkpoint.fields,
    )

    # what the checkpoint's normalised input was, the run's decibels must be
    mean = config.input_mean
    std = config.input_std
    if decibels is not None:
        mean = (0.0,)
        std = (1.0,)

    weights = dict(checkpoint.weights)
    kernel = resample_patch_kernel(weights["patch_embedding.kernel"], patch)
    bias = weights["patch_embedding.bias"]
    kernel, bias, mean, std = resample_channels(kernel, bias, mean, std, shape[2])
    if decibels is not None:
        # AST was trained on inputs divided by twice their deviation
        wider = 2 if checkpoint.layout == AST else 1
        mean = decibels[0]
        std = tuple(value * wider for value in decibels[1])

    # what depends on the input and the classes is replaced; the blocks stay as they are
    grid = (shape[0] // patch, shape[1] // patch)
    positions = weights["position_embedding.embedding"]
    weights["patch_embedding.kernel"] = kernel
    weights["patch_embedding.bias"] = bias
    weights["position_embedding.embedding"] = resample_positions(positions, checkpoint.grid, grid)
    weights["head.kernel"], weights["head.bias"] = head

    # a line on each thing that is not as the checkpoint has it
    notes = []
    for what, before, after in (
        ("patch size", checkpoint.patch_size, patch),
        ("channels", old_shape[2], shape[2]),
        ("positions", "{} x {}".format(*checkpoint.grid), "{} x {}".format(*grid)),
    ):
        if before != after:
            notes.append(f"{what} {before} -> {after}")

    return Base(
        config.replace(image_shape=shape, input_mean=tuple(mean), input_std=tuple(std)),
        {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()},
        new_head,
        (*notes, what_became_of_it),
    )


def _head(
    checkpoint: Checkpoint, num_classes: int | None, labels: tuple[str, ...] | None
) -> tuple[Head, bool, str]:
    """((kernel, bias), whether it is new, what was done)."""
    rows = None if checkpoint.head is None else checkpoint.head[1].size
    if num_classes is None and rows is None:
        raise ConfigError(
            f"the {checkpoint.layout} checkpoint has no head that carries over; give num_classes "
            "for a new one."
        )

    # a head that carries over needs a row for each class
    wanted = num_classes or rows
    width = checkpoint.fields["hidden_dim"]
    if checkpoint.fields.get("pool") == "cls_mean":
        width = 2 * width
    new = np.zeros((width, wanted), np.float32), np.zeros(wanted, np.float32)

    if checkpoint.head is None:
        why = "the checkpoint has none that carries over"
        return new, True, f"new head of {wanted} classes ({why})"
    if rows != wanted:
        return new, True, f"new head of {wanted} classes (the checkpoint's has {rows})"

    kept = f"the checkpoint's head of {rows} classes kept"
    if labels is None or checkpoint.labels is None:
        return checkpoint.head, False, f"{kept}, taken to be in the data's order"

    # where both name their classes, rows go into the order of ours
    have = [_plain(label) for label in checkpoint.labels]
    want = [_plain(label) for label in labels]
    if sorted(have) != sorted(want) or len(set(have)) != rows:
        others = f"the checkpoint's are others: {', '.join(have[:3])} ..."
        return new, True, f"new head of {wanted} classes ({others})"

    order = [have.index(name) for name in want]
    kernel, bias = checkpoint.head
    return (kernel[:, order], bias[order]), False, kept


def _plain(label: str) -> str:
    return str(label).strip().lower()


def _load_keras(path: Path) -> Base:
    """A ViT of ours in a .keras file, as it is."""
    from edvit_tf.models.vit.keras_model import config_of

    config, weights = read_base(path, "ViT", config_of)
    return Base(config, weights, new_head=False, notes=())
