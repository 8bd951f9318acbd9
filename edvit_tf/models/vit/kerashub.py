"""Presets of KerasHub's ViTBackbone and ViTImageClassifier, as `save_to_preset` writes them;
keras-hub is not needed.

The head of a classifier carries over where it sees the class token (pooling="token") through one
Dense layer.
"""

from pathlib import Path

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
    shape = config.get("image_shape")
    if not isinstance(shape, list) or len(shape) != 3:
        raise inexpressible(folder, "image_shape", shape, "[height, width, channels]")
    shape = tuple(count(folder, {"image_shape": side}, "image_shape") for side in shape)
    d, h, c, patch, num_layers = (
        count(folder, config, key)
        for key in ("hidden_dim", "num_heads", "mlp_dim", "patch_size", "num_layers")
    )
    if not config.get("use_class_token", True):
        raise inexpressible(folder, "use_class_token", False, "true")
    if d % h:
        raise inexpressible(folder, "num_heads", h, f"a divisor of hidden_dim = {d}")
    hd, grid, tensors = d // h, (shape[0] // patch, shape[1] // patch), read_tensors(folder)

    def get(name, *sizes):
        return take(tensors, f"layers/{name}", sizes, folder)

    def put(
        ours, theirs, kernel, bias, biased=True, flat=None
    ):  # attention's heads are axes of their own there
        weights[f"{ours}.kernel"] = get(f"{theirs}/vars/0", *kernel).reshape(flat or kernel)
        weights[f"{ours}.bias"] = (
            get(f"{theirs}/vars/1", *bias).ravel()
            if biased
            else np.zeros(np.prod(bias), np.float32)
        )

    def put_norm(ours, theirs):
        weights[f"{ours}.gamma"], weights[f"{ours}.beta"] = (
            get(f"{theirs}/vars/0", d),
            get(f"{theirs}/vars/1", d),
        )

    embedding, encoder = "vi_t_patching_and_embedding", "vi_t_encoder"
    weights = {
        "class_token.token": get(f"{embedding}/vars/0", 1, 1, d),
        "position_embedding.embedding": get(
            f"{embedding}/position_embedding/vars/0", 1 + grid[0] * grid[1], d
        )[None],
    }
    put(
        "patch_embedding",
        f"{embedding}/patch_embedding",
        (patch, patch, shape[2], d),
        (d,),
        config.get("use_patch_bias", True),
    )
    put_norm("norm", f"{encoder}/layer_norm")
    mha_bias, mlp_bias = config.get("use_mha_bias", True), config.get("use_mlp_bias", True)
    for index in range(num_layers):
        ours = f"block_{index:02d}"
        theirs = f"{encoder}/encoder_layers/vi_t_encoder_block" + (f"_{index}" if index else "")
        for part in ("query", "key", "value"):
            put(
                f"{ours}.attention.{part}",
                f"{theirs}/mha/{part}_dense",
                (d, h, hd),
                (h, hd),
                mha_bias,
                (d, d),
            )
        put(
            f"{ours}.attention.output",
            f"{theirs}/mha/output_dense",
            (h, hd, d),
            (d,),
            mha_bias,
            (d, d),
        )
        put(f"{ours}.mlp.expand", f"{theirs}/mlp/dense_1", (d, c), (c,), mlp_bias)
        put(f"{ours}.mlp.contract", f"{theirs}/mlp/dense_2", (c, d), (d,), mlp_bias)
        put_norm(f"{ours}.attention.norm", f"{theirs}/layer_norm_1")
        put_norm(f"{ours}.mlp.norm", f"{theirs}/layer_norm_2")
    head = _classifier(folder, tensors, d)
    nothing_left(
        folder, {name: value for name, value in tensors.items() if name.startswith("layers/")}
    )
    mean, std = _normalisation(folder)
    fields = {
        "num_layers": num_layers,
        "hidden_dim": d,
        "num_heads": h,
        "head_dim": hd,
        "mlp_dim": c,
        "layer_norm_epsilon": config.get("layer_norm_epsilon", 1e-6),
        "input_mean": mean,
        "input_std": std,
    }
    return Checkpoint("kerashub vit", shape, patch, grid, fields, weights, head)


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
    rows, name = count(folder, task, "num_classes"), "task/layers/dense/vars"
    return take(tensors, f"{name}/0", (width, rows), folder), take(
        tensors, f"{name}/1", (rows,), folder
    )


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of pixels 0..255: those of x * scale + offset in image_converter.json; by default
    to -1..1.
    """
    path = folder / "image_converter.json"
    given = (
        read_json(path).get("config") if path.is_file() else {"scale": 1 / 127.5, "offset": -1.0}
    )
    try:
        scale, offset = (
            np.atleast_1d(np.array(default if given.get(key) is None else given[key], float))
            for key, default in (("scale", 1.0), ("offset", 0.0))
        )
        if not np.all(scale > 0):
            raise ValueError(f"scale is {scale}, not positive")
        mean, std = np.broadcast_arrays(-offset / scale, 1 / scale)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} does not say how to normalise ({error}); scale and offset must be numbers. "
            "Mend it, or delete it for pixels scaled to -1..1."
        ) from error
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)
