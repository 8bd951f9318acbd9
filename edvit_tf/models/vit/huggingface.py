"""Hugging Face checkpoints -> our names (`vit.get_weights`): `vit`, `dinov2` and
`audio-spectrogram-transformer`.

ViT (Dosovitskiy et al. 2021) carries over whole. DINOv2's layer scale (Touvron et al. 2021, CaiT)
is folded into weights and biases of the two layers before the residual additions; its classifier
sees the class token beside the mean of the patch tokens, our pool="cls_mean", which a DINOv2 base
without a classifier gets as well.

AST (Gong et al. 2021) carries over in part. What does: the encoder blocks, the last LayerNorm, the
class token with its position, the patch kernel (convolved over mel bands and time, our H and W,
though the extractor writes time first), and the patch positions, whose grid of overlapping patches
(stride 10) is interpolated to ours, which do not overlap. What cannot: the distillation token,
because our model has one class token, and the head, which puts a LayerNorm on the mean of those two
tokens; an AST base therefore always gets a new head. Where strides equal the patch size, our tokens
are those of an AST in which no token attends to the distillation token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import read_json
from edvit_tf.models.tensors import Tensors, nothing_left, read_tensors, take
from edvit_tf.models.vit.checkpoints import Checkpoint, count, inexpressible


@dataclass(frozen=True)
class _Layout:
    blocks: Mapping[str, str]  # our layer in a block -> theirs
    defaults: Mapping[str, object]  # of transformers' configuration: what config.json may leave out
    mean: tuple[
        float, ...
    ]  # of the input in 0..1 (AST: decibels), where preprocessor_config.json is missing
    std: tuple[float, ...]
    pool: str = "cls"


_VIT_BLOCKS = {
    "attention.norm": "layernorm_before",
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.output": "attention.output.dense",
    "mlp.norm": "layernorm_after",
    "mlp.expand": "intermediate.dense",
    "mlp.contract": "output.dense",
}
_DINOV2_BLOCKS = {
    **_VIT_BLOCKS,
    "attention.norm": "norm1",
    "mlp.norm": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
}
AST = "audio-spectrogram-transformer"
LAYOUTS = {
    "vit": _Layout(_VIT_BLOCKS, _DEFAULTS, (0.5,), (0.5,)),
    "dinov2": _Layout(
        _DINOV2_BLOCKS,
        {**_DEFAULTS, "layer_norm_eps": 1e-6, "patch_size": 14, "mlp_ratio": 4},
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        pool="cls_mean",
    ),
    AST: _Layout(
        _VIT_BLOCKS,
        {
            **_DEFAULTS,
            "num_mel_bins": 128,
            "max_length": 1024,
            "frequency_stride": 10,
            "time_stride": 10,
        },
        (-4.2677393,),
        (2 * 4.5689974,),
    ),  # AudioSet's; the extractor divides by twice the deviation
}
_PREFIXES = ("", "vit.", "dinov2.", "audio_spectrogram_transformer.")
_UNUSED = (
    "pooler.",
    "decoder.",
    "embeddings.mask_token",
    "embeddings.position_ids",
)  # in none of our models
_SCALES = {"attention.output": "layer_scale1", "mlp.contract": "layer_scale2"}


def from_huggingface(folder: Path, config: dict) -> Checkpoint:
    """Reads a folder whose config.json is `config`, of a `model_type` in LAYOUTS; raises
    ConfigError as `edvit_tf.models.vit.pretrained.read_checkpoint` says.
    """
    kind = config["model_type"]
    layout, config = LAYOUTS[kind], {**LAYOUTS[kind].defaults, **config}
    shape, patch, grid = _geometry(folder, kind, config)
    d, h, c = _widths(folder, kind, config)
    num_layers, special = count(folder, config, "num_hidden_layers"), 2 if kind == AST else 1
    tensors = read_tensors(folder)
    prefix = next((p for p in _PREFIXES if f"{p}embeddings.cls_token" in tensors), "")

    def get(name, *sizes):
        return take(tensors, prefix + name, sizes, folder)

    positions = get("embeddings.position_embeddings", 1, special + grid[0] * grid[1], d)
    projection = "embeddings.patch_embeddings.projection"
    weights = {
        "class_token.token": get("embeddings.cls_token", 1, 1, d),
        "position_embedding.embedding": np.concatenate(
            [positions[:, :1], positions[:, special:]], axis=1
        ),
        "patch_embedding.kernel": get(f"{projection}.weight", d, shape[2], patch, patch).transpose(
            2, 3, 1, 0
        ),
        "patch_embedding.bias": get(f"{projection}.bias", d),
        "norm.gamma": get("layernorm.weight", d),
        "norm.beta": get("layernorm.bias", d),
    }
    sizes = {"mlp.expand": (c, d), "mlp.contract": (d, c)}  # theirs are (out, in); else (d, d)
    for index in range(num_layers):
        for part, name in layout.blocks.items():
            ours, theirs, size = (
                f"block_{index:02d}.{part}",
                f"encoder.layer.{index}.{name}",
                sizes.get(part, (d, d)),
            )
            if part.endswith(".norm"):
                weights[f"{ours}.gamma"], weights[f"{ours}.beta"] = (
                    get(f"{theirs}.weight", d),
                    get(f"{theirs}.bias", d),
                )
                continue
            biased = config["qkv_bias"] or part not in (
                "attention.query",
                "attention.key",
                "attention.value",
            )
            scale = (
                get(f"encoder.layer.{index}.{_SCALES[part]}.lambda1", d)
                if (kind == "dinov2" and part in _SCALES)
                else np.float32(1)
            )
            weights[f"{ours}.kernel"] = get(f"{theirs}.weight", *size).T * scale
            weights[f"{ours}.bias"] = (
                get(f"{theirs}.bias", size[0]) if biased else np.zeros(d, np.float32)
            ) * scale
    head, labels = None, None
    if kind != AST:
        head, labels = _classifier(
            folder, config, tensors, 2 * d if layout.pool == "cls_mean" else d
        )
    unused = _UNUSED if kind != AST else ("embeddings.distillation_token", "classifier.")
    nothing_left(
        folder, {n: v for n, v in tensors.items() if not n.removeprefix(prefix).startswith(unused)}
    )
    mean, std = _normalisation(folder, kind, shape[2])
    fields = {
        "num_layers": num_layers,
        "hidden_dim": d,
        "num_heads": h,
        "head_dim": d // h,
        "mlp_dim": c,
        "pool": layout.pool,
        "layer_norm_epsilon": config["layer_norm_eps"],
        "input_mean": mean,
        "input_std": std,
    }
    return Checkpoint(kind, shape, patch, grid, fields, weights, head, labels)


def _geometry(
    folder: Path, kind: str, config: dict
) -> tuple[tuple[int, int, int], int, tuple[int, int]]:
    """((H, W, C), patch size, grid of the position embedding)."""
    patch = count(folder, config, "patch_size")
    if kind == AST:
        shape = (count(folder, config, "num_mel_bins"), count(folder, config, "max_length"), 1)
        strides = (count(folder, config, "frequency_stride"), count(folder, config, "time_stride"))
    else:
        size = config["image_size"]
        sides = size if isinstance(size, list) and len(size) == 2 else (size, size)
        height, width = (count(folder, {"image_size": side}, "image_size") for side in sides)
        shape, strides = (height, width, count(folder, config, "num_channels")), (patch, patch)
    if min(shape[:2]) < patch:
        raise inexpressible(
            folder, "patch_size", patch, f"one no larger than the input, {shape[0]} x {shape[1]}"
        )
    return (
        shape,
        patch,
        ((shape[0] - patch) // strides[0] + 1, (shape[1] - patch) // strides[1] + 1),
    )


def _widths(folder: Path, kind: str, config: dict) -> tuple[int, int, int]:
    """(d, heads, c); ConfigError if our ViT has no such block."""
    if config["hidden_act"] != "gelu":
        raise inexpressible(folder, "hidden_act", config["hidden_act"], '"gelu", the exact one')
    if config.get("use_swiglu_ffn"):
        raise inexpressible(folder, "use_swiglu_ffn", True, "false, an MLP of two layers")
    epsilon = config["layer_norm_eps"]
    if not isinstance(epsilon, int | float) or not epsilon > 0:
        raise inexpressible(folder, "layer_norm_eps", epsilon, "a positive number")
    d, heads = count(folder, config, "hidden_size"), count(folder, config, "num_attention_heads")
    if d % heads:
        raise inexpressible(folder, "num_attention_heads", heads, f"a divisor of hidden_size = {d}")
    if kind != "dinov2":
        return d, heads, count(folder, config, "intermediate_size")
    ratio = config["mlp_ratio"]
    if not isinstance(ratio, int | float) or int(d * ratio) < 1:
        raise inexpressible(folder, "mlp_ratio", ratio, "a positive number")
    return d, heads, int(d * ratio)


def _classifier(folder: Path, config: dict, tensors: Tensors, width: int):
    """((kernel (width, n), bias (n,)), labels) of an image classifier; (None, None) of a bare
    encoder.
    """
    promised = any("Classification" in str(name) for name in config.get("architectures") or ())
    if "classifier.weight" not in tensors and not promised:
        return None, None
    names = config.get("id2label")
    if isinstance(names, dict) and names:
        labels = tuple(str(names.get(str(row))) for row in range(len(names)))
        rows = len(labels)
    else:
        labels, rows = None, config.get("num_labels", 2)  # transformers leaves two classes out
    kernel = take(tensors, "classifier.weight", (rows, width), folder).T
    bias = take(tensors, "classifier.bias", (rows,), folder)
    unnamed = labels is None or all(label == f"LABEL_{row}" for row, label in enumerate(labels))
    return (kernel, bias), None if unnamed else labels


def _normalisation(
    folder: Path, kind: str, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the raw input, 0..255 or AST's decibels: preprocessor_config.json's, else the
    layout's default.
    """
    mean, std, scale = LAYOUTS[kind].mean, LAYOUTS[kind].std, 1.0 if kind == AST else 255.0
    path = folder / "preprocessor_config.json"
    given = read_json(path) if path.is_file() else {}
    try:
        if given.get("do_normalize") is False:
            mean, std = (0.0,), (1.0,)
        elif kind == AST:
            mean, std = (
                (float(given.get("mean", mean[0])),),
                (2 * float(given["std"]) if "std" in given else std[0],),
            )
        else:
            mean, std = given.get("image_mean") or mean, given.get("image_std") or std
        if kind != AST:
            scale = (
                1.0
                if given.get("do_rescale") is False
                else 1 / float(given.get("rescale_factor", 1 / 255))
            )
        mean, std = np.array(mean, float).ravel() * scale, np.array(std, float).ravel() * scale
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{path} does not say how to normalise ({error}); image_mean, image_std and "
            "rescale_factor "
            "must be numbers. Mend it, or delete it for the layout's default."
        ) from error
    if channels == 1:  # one channel of a model that was described for three
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)
