"""Presets of KerasHub's ViTBackbone and ViTImageClassifier, as `save_to_preset` writes them;
keras-hub is not needed.

The head of a classifier carries over where it sees the class token (pooling="token") through one
Dense layer.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import read_json
from edvit_tf.models.tensors import Tensors, nothing_left, read_tensors, take
from edvit_tf.models.vit.checkpoints import Checkpoint, count, inexpressible


def from_kerashub(folder: Path, config: dict) -> Checkpoint:
    """Reads a preset directory whose config.json is `config`; raises ConfigError as
    `edvit_tf.models.vit.pretrained.read_checkpoint` says.
    """
    config = config.get("config")
    if not isinstance(config, dict):
        raise ConfigError(
            f'{folder}/config.json has no "config" of the ViTBackbone. Save the preset again.'
        )

    shape = _image_shape(folder, config)
    d = count(folder, config, "hidden_dim")
    h = count(folder, config, "num_heads")
    c = count(folder, config, "mlp_dim")
    num_layers = count(folder, config, "num_layers")
    patch = count(folder, config, "patch_size")

    if not config.get("use_class_token", True):
        raise inexpressible(folder, "use_class_token", False, "true")
    if d % h:
        raise inexpressible(folder, "num_heads", h, f"a divisor of hidden_dim = {d}")

    # our names: what belongs to no block, then block by block
    grid = (shape[0] // patch, shape[1] // patch)
    layers = _Layers(folder, read_tensors(folder))
    positions = (1 + grid[0] * grid[1], d)
    embedding = "vi_t_patching_and_embedding"
    encoder = "vi_t_encoder"
    weights = {
        "class_token.token": layers.get(f"{embedding}/vars/0", 1, 1, d),
        "position_embedding.embedding": layers.get(
            f"{embedding}/position_embedding/vars/0", *positions
        )[None],
        **layers.dense(
            "patch_embedding",
            f"{embedding}/patch_embedding",
            (patch, patch, shape[2], d),
            (d,),
            config.get("use_patch_bias", True),
        ),
        **layers.norm("norm", f"{encoder}/layer_norm", d),
    }

    for index in range(num_layers):
        theirs = f"{encoder}/encoder_layers/vi_t_encoder_block" + (f"_{index}" if index else "")
        weights |= layers.block(f"block_{index:02d}", theirs, (d, h, c), config)

    # the optimizer's and other state may stay behind, a layer may not
    head = _classifier(folder, layers.tensors, d)
    left = {}
    for name, value in layers.tensors.items():
        if name.startswith("layers/"):
            left[name] = value
    nothing_left(folder, left)

    mean, std = _normalisation(folder)
    fields = {
        "num_layers": num_layers,
        "hidden_dim": d,
        "num_heads": h,
        "head_dim": d // h,
        "mlp_dim": c,
        "layer_norm_epsilon": config.get("layer_norm_epsilon", 1e-6),
        "input_mean": mean,
        "input_std": std,
    }
    return Checkpoint("kerashub vit", shape, patch, grid, fields, weights, head)


def _image_shape(folder: Path, config: dict) -> tuple[int, int, int]:
    shape = config.get("image_shape")
    if not isinstance(shape, list) or len(shape) != 3:
        raise inexpressible(folder, "image_shape", shape, "[height, width, channels]")

    height, width, channels = (
        count(folder, {"image_shape": side}, "image_shape") for side in shape
    )
    return height, width, channels


class _Layers(NamedTuple):
    """A preset's tensors, taken layer by layer under our names."""

    folder: Path
    tensors: Tensors

    def get(self, name: str, *sizes: int) -> np.ndarray:
        return take(self.tensors, f"layers/{name}", sizes, self.folder)

    def norm(self, ours: str, theirs: str, d: int) -> Tensors:
        return {
            f"{ours}.gamma": self.get(f"{theirs}/vars/0", d),
            f"{ours}.beta": self.get(f"{theirs}/vars/1", d),
        }

    def dense(
        self,
        ours: str,
        theirs: str,
        kernel: tuple[int, ...],
        bias: tuple[int, ...],
        biased: bool,
        flat: tuple[int, ...] | None = None,
    ) -> Tensors:
        """Kernel and bias; `flat` is our shape of a kernel whose heads are axes of their own."""
        weights = self.get(f"{theirs}/vars/0", *kernel).reshape(flat or kernel)

        values = np.zeros(bias, np.float32)
        if biased:
            values = self.get(f"{theirs}/vars/1", *bias)

        return {f"{ours}.kernel": weights, f"{ours}.bias": values.ravel()}

    def block(self, ours: str, theirs: str, widths: tuple[int, int, int], config: dict) -> Tensors:
        """One encoder block of `widths` (d, heads, c)."""
        d, h, c = widths
        heads = (h, d // h)
        flat = (d, d)
        mha_bias = config.get("use_mha_bias", True)
        mlp_bias = config.get("use_mlp_bias", True)

        # attention, whose heads are axes of their own in theirs
        weights = {}
        for part in ("query", "key", "value"):
            name = f"{theirs}/mha/{part}_dense"
            weights |= self.dense(
                f"{ours}.attention.{part}", name, (d, *heads), heads, mha_bias, flat
            )
        name = f"{theirs}/mha/output_dense"
        weights |= self.dense(f"{ours}.attention.output", name, (*heads, d), (d,), mha_bias, flat)

        # MLP and norms
        weights |= self.dense(f"{ours}.mlp.expand", f"{theirs}/mlp/dense_1", (d, c), (c,), mlp_bias)
        weights |= self.dense(
            f"{ours}.mlp.contract", f"{theirs}/mlp/dense_2", (c, d), (d,), mlp_bias
        )
        weights |= self.norm(f"{ours}.attention.norm", f"{theirs}/layer_norm_1", d)
        weights |= self.norm(f"{ours}.mlp.norm", f"{theirs}/layer_norm_2", d)

        return weights


def _classifier(folder: Path, tensors: Tensors, width: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(kernel (d, n), bias (n,)) of the preset's task, or None."""
    if not (folder / "task.json").is_file():
        return None

    task = read_json(folder / "task.json").get("config")
    if (
        not isinstance(task, dict)
        or task.get("pooling") != "token"
        or task.get("intermediate_dim") is not None
    ):
        return None

    rows = count(folder, task, "num_classes")
    name = "task/layers/dense/vars"
    kernel = take(tensors, f"{name}/0", (width, rows), folder)
    return kernel, take(tensors, f"{name}/1", (rows,), folder)


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of pixels 0..255: those of x * scale + offset in image_converter.json; by default
    to -1..1.
    """
    # without the file, KerasHub's own: pixels to -1..1
    path = folder / "image_converter.json"
    given = {"scale": 1 / 127.5, "offset": -1.0}
    if path.is_file():
        given = read_json(path).get("config")

    def number(key: str, default: float) -> np.ndarray:
        return np.atleast_1d(np.array(default if given.get(key) is None else given[key], float))

    try:
        # x * scale + offset = (x - mean) / std
        scale, offset = number("scale", 1.0), number("offset", 0.0)
        if not np.all(scale > 0):
            raise ValueError(f"scale is {scale}, not positive")
        mean, std = np.broadcast_arrays(-offset / scale, 1 / scale)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} does not say how to normalise ({error}); scale and offset must be numbers. "
            "Mend it, or delete it for pixels scaled to -1..1."
        ) from error

    return tuple(float(v) for v in mean), tuple(float(v) for v in std)
