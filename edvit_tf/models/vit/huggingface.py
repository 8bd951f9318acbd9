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

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    # of the input in 0..1 (AST: decibels), where preprocessor_config.json is missing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pool: str = "cls"
    scales: Mapping[str, str] = field(default_factory=dict)  # our layer -> the scale behind it


_QKV = ("attention.query", "attention.key", "attention.value")
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
        scales={"attention.output": "layer_scale1", "mlp.contract": "layer_scale2"},
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
# names since transformers 5, and what they were before (its conversion_mapping.py)
_SINCE_5 = (
    (r"(^|\.)(?:encoder\.)?layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
)
_MLP_SINCE_5 = ((r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense."))
# in none of our models
_UNUSED = ("pooler.", "decoder.", "embeddings.mask_token", "embeddings.position_ids")


def from_huggingface(folder: Path, config: dict) -> Checkpoint:
    """Reads a folder whose config.json is `config`, of a `model_type` in LAYOUTS; raises
    ConfigError as `edvit_tf.models.vit.pretrained.read_checkpoint` says.
    """
    # what config.json leaves out has transformers' default
    kind = config["model_type"]
    layout = LAYOUTS[kind]
    config = {**layout.defaults, **config}

    shape, patch, grid = _geometry(folder, kind, config)
    d, h, c = _widths(folder, kind, config)
    num_layers = count(folder, config, "num_hidden_layers")

    # a checkpoint with a classifier has its encoder's tensors under a prefix
    tensors = _older_names(kind, read_tensors(folder))
    prefix = next((p for p in _PREFIXES if f"{p}embeddings.cls_token" in tensors), "")

    def get(name: str, *sizes: int) -> np.ndarray:
        return take(tensors, prefix + name, sizes, folder)

    # our names, block by block
    special = 2 if kind == AST else 1  # tokens before the patches
    weights = _outer_weights(get, d, shape[2], patch, special, grid[0] * grid[1])

    for index in range(num_layers):
        theirs = f"encoder.layer.{index}"
        own = _block_weights(get, layout, theirs, d, c, bool(config["qkv_bias"]))
        for name, value in own.items():
            weights[f"block_{index:02d}.{name}"] = value

    # AST's head reads two tokens, of which we have one
    head = None
    labels = None
    if kind != AST:
        width = 2 * d if layout.pool == "cls_mean" else d
        head, labels = _classifier(folder, config, tensors, width)

    _refuse_leftovers(folder, kind, tensors, prefix)

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


def _older_names(kind: str, tensors: Tensors) -> Tensors:
    """The tensors by the names that transformers gave them until its version 5."""
    renamed = {}
    for name, value in tensors.items():
        for later, before in _SINCE_5:
            name = re.sub(later, before, name)
        if kind != "dinov2":
            for later, before in _MLP_SINCE_5:
                name = re.sub(later, before, name)
        renamed[name] = value

    return renamed


def _outer_weights(
    get: Callable, d: int, channels: int, patch: int, special: int, patches: int
) -> Tensors:
    """The weights that belong to no block, but for the head; of `special` tokens before the patches
    the first is the class token.
    """
    # every token has its position; those of the patches follow the special ones
    positions = get("embeddings.position_embeddings", 1, special + patches, d)
    token = get("embeddings.cls_token", 1, 1, d)

    # (out, in, rows, columns), as PyTorch has it
    projection = "embeddings.patch_embeddings.projection"
    kernel = get(f"{projection}.weight", d, channels, patch, patch)
    own = np.concatenate([positions[:, :1], positions[:, special:]], axis=1)
    return {
        "class_token.token": token,
        "position_embedding.embedding": own,
        "patch_embedding.kernel": kernel.transpose(2, 3, 1, 0),
        "patch_embedding.bias": get(f"{projection}.bias", d),
        "norm.gamma": get("layernorm.weight", d),
        "norm.beta": get("layernorm.bias", d),
    }


def _block_weights(
    get: Callable, layout: _Layout, block: str, d: int, c: int, qkv_bias: bool
) -> Tensors:
    """The weights of one of their blocks under our names, layer scale folded in."""
    sizes = {"mlp.expand": (c, d), "mlp.contract": (d, c)}  # theirs are (out, in); else (d, d)

    weights = {}
    for part, name in layout.blocks.items():
        theirs = f"{block}.{name}"
        if part.endswith(".norm"):
            weights[f"{part}.gamma"] = get(f"{theirs}.weight", d)
            weights[f"{part}.beta"] = get(f"{theirs}.bias", d)
            continue

        size = sizes.get(part, (d, d))

        # a layer scale multiplies what a layer gives: its columns and its bias
        scale = np.float32(1)
        if part in layout.scales:
            scale = get(f"{block}.{layout.scales[part]}.lambda1", d)

        weights[f"{part}.kernel"] = get(f"{theirs}.weight", *size).T * scale

        # DINOv2 and ViT may leave these three out: zeros do the same
        bias = np.zeros(size[0], np.float32)
        if qkv_bias or part not in _QKV:
            bias = get(f"{theirs}.bias", size[0])
        weights[f"{part}.bias"] = bias * scale

    return weights


def _refuse_leftovers(folder: Path, kind: str, tensors: Tensors, prefix: str) -> None:
    """ConfigError for a tensor that was not taken and that our model should have."""
    # what does not carry over may stay behind; anything else is a layer that we do not know
    unused = ("embeddings.distillation_token", "classifier.") if kind == AST else _UNUSED
    left = {}
    for name, value in tensors.items():
        if not name.removeprefix(prefix).startswith(unused):
            left[name] = value

    nothing_left(folder, left)


def _geometry(
    folder: Path, kind: str, config: dict
) -> tuple[tuple[int, int, int], int, tuple[int, int]]:
    """((H, W, C), patch size, grid of the position embedding)."""
    patch = count(folder, config, "patch_size")
    if kind == AST:
        height, width = (count(folder, config, key) for key in ("num_mel_bins", "max_length"))
        channels = 1
        down, right = (count(folder, config, f"{way}_stride") for way in ("frequency", "time"))
    else:
        size = config["image_size"]
        sides = size if isinstance(size, list) and len(size) == 2 else (size, size)
        height, width = (count(folder, {"image_size": side}, "image_size") for side in sides)
        channels = count(folder, config, "num_channels")
        down = right = patch

    if min(height, width) < patch:
        raise inexpressible(
            folder, "patch_size", patch, f"one no larger than the input, {height} x {width}"
        )
    grid = ((height - patch) // down + 1, (width - patch) // right + 1)
    return (height, width, channels), patch, grid


def _widths(folder: Path, kind: str, config: dict) -> tuple[int, int, int]:
    """(d, heads, c); ConfigError if our ViT has no such block."""
    if config["hidden_act"] != "gelu":
        raise inexpressible(folder, "hidden_act", config["hidden_act"], '"gelu", the exact one')

    if config.get("use_swiglu_ffn"):
        raise inexpressible(folder, "use_swiglu_ffn", True, "false, an MLP of two layers")

    epsilon = config["layer_norm_eps"]
    if not isinstance(epsilon, int | float) or not epsilon > 0:
        raise inexpressible(folder, "layer_norm_eps", epsilon, "a positive number")

    d = count(folder, config, "hidden_size")
    heads = count(folder, config, "num_attention_heads")
    if d % heads:
        raise inexpressible(folder, "num_attention_heads", heads, f"a divisor of hidden_size = {d}")

    # DINOv2 says c by its ratio to d
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
    # no classifier, unless the configuration promises one: then it is missing, and `take` says so
    promised = any("Classification" in str(name) for name in config.get("architectures") or ())
    if "classifier.weight" not in tensors and not promised:
        return None, None

    # rows of the head, by the names of its classes where there are any
    names = config.get("id2label")
    if isinstance(names, dict) and names:
        labels = tuple(str(names.get(str(row))) for row in range(len(names)))
        rows = len(labels)
    else:
        labels = None
        rows = config.get("num_labels", 2)  # transformers leaves two classes out

    kernel = take(tensors, "classifier.weight", (rows, width), folder).T
    bias = take(tensors, "classifier.bias", (rows,), folder)

    # transformers' own placeholders name nothing
    unnamed = labels is None or all(label == f"LABEL_{row}" for row, label in enumerate(labels))
    return (kernel, bias), None if unnamed else labels


def _normalisation(
    folder: Path, kind: str, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the raw input, 0..255 or AST's decibels: preprocessor_config.json's, else
    processor_config.json's (transformers 5), else the layout's default.
    """
    path, given = _preprocessing(folder)
    try:
        if kind == AST:
            mean, std = _of_decibels(given)
        else:
            mean, std = _of_pixels(given, LAYOUTS[kind])
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{path} does not say how to normalise ({error}); image_mean, image_std and "
            "rescale_factor must be numbers. Mend it, or delete it for the layout's default."
        ) from error

    if channels == 1:  # one channel of a model that was described for three
        mean = mean.mean(keepdims=True)
        std = std.mean(keepdims=True)
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


def _preprocessing(folder: Path) -> tuple[Path, dict]:
    """The file that says how the input is made, and what it says of pictures or of sound."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return path, read_json(path)

    path = folder / "processor_config.json"
    if not path.is_file():
        return path, {}

    # A processor has parts; one of a single part may be written without its name.
    whole = read_json(path)
    for part in ("image_processor", "feature_extractor"):
        if isinstance(whole.get(part), dict):
            return path, whole[part]
    return path, whole


def _of_decibels(given: dict) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) of AST's input; its extractor divides by twice the deviation."""
    if given.get("do_normalize") is False:
        return np.zeros(1), np.ones(1)

    mean = float(given.get("mean", LAYOUTS[AST].mean[0]))
    std = 2 * float(given["std"]) if "std" in given else LAYOUTS[AST].std[0]
    return np.array([mean]), np.array([std])


def _of_pixels(given: dict, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) of pixels 0..255, a channel each or one for all."""
    mean = given.get("image_mean") or layout.mean
    std = given.get("image_std") or layout.std

    if given.get("do_normalize") is False:
        mean, std = (0.0,), (1.0,)

    # theirs are of pixels as rescaled, ours of 0..255
    scale = 1.0
    if given.get("do_rescale") is not False:
        scale = 1 / float(given.get("rescale_factor", 1 / 255))
    return np.array(mean, float).ravel() * scale, np.array(std, float).ravel() * scale
