"""Tiny random checkpoints in the layouts of others, written by hand; a plain numpy ViT that reads
their own names.
"""

import json
from pathlib import Path

import numpy as np
from scipy.special import erf

D, HEADS, MLP, LAYERS = 24, 3, 48, 2
PREFIX = {
    "vit": "vit.",
    "dinov2": "dinov2.",
    "audio-spectrogram-transformer": "audio_spectrogram_transformer.",
}
AST = "audio-spectrogram-transformer"
NAMES = {  # part: (vit and AST, dinov2)
    "norm1": ("layernorm_before", "norm1"),
    "norm2": ("layernorm_after", "norm2"),
    "q": ("attention.attention.query",) * 2,
    "k": ("attention.attention.key",) * 2,
    "v": ("attention.attention.value",) * 2,
    "out": ("attention.output.dense",) * 2,
    "fc1": ("intermediate.dense", "mlp.fc1"),
    "fc2": ("output.dense", "mlp.fc2"),
}


def huggingface(
    folder: Path,
    kind: str = "vit",
    *,
    classes: int | None = 5,
    labels=None,
    seed: int = 0,
    prefix=None,
    dtype=np.float32,
    write: bool = True,
    sizes: tuple[int, int, int, int] = (D, HEADS, MLP, LAYERS),
    deviation: float = 0.3,
    **changes,
) -> tuple[dict, dict]:
    """Writes config.json and model.safetensors of a 2-block model; returns (config, tensors)."""
    d, heads, mlp, layers = sizes
    config = {
        "model_type": kind,
        "hidden_size": d,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": "gelu",
        "qkv_bias": True,
        "layer_norm_eps": 1e-6,
        "patch_size": 8,
    }
    if kind == AST:
        config |= {
            "intermediate_size": mlp,
            "num_mel_bins": 24,
            "max_length": 40,
            "frequency_stride": 8,
            "time_stride": 8,
        }
    else:
        config |= (
            {"intermediate_size": mlp}
            if kind == "vit"
            else {"mlp_ratio": 2, "use_swiglu_ffn": False}
        )
        config |= {"image_size": 32, "num_channels": 3}
    if classes is not None:
        config["id2label"] = {
            str(i): name for i, name in enumerate(labels or [f"LABEL_{i}" for i in range(classes)])
        }
    config |= changes
    rng = np.random.default_rng(seed)
    channels, p = config.get("num_channels", 1), config["patch_size"]
    shapes = {
        "embeddings.cls_token": (1, 1, d),
        "embeddings.position_embeddings": (1, 1 + (kind == AST) + _patches(config), d),
        "embeddings.patch_embeddings.projection.weight": (d, channels, p, p),
        "embeddings.patch_embeddings.projection.bias": (d,),
        "layernorm.weight": (d,),
        "layernorm.bias": (d,),
    }
    if kind == AST:
        shapes["embeddings.distillation_token"] = (1, 1, d)
    for i in range(layers):
        for part, names in NAMES.items():
            out, into = {"fc1": (mlp, d), "fc2": (d, mlp)}.get(part, (d, d))
            name = f"encoder.layer.{i}.{names[kind == 'dinov2']}"
            shapes[f"{name}.weight"] = (d,) if part.startswith("norm") else (out, into)
            if config["qkv_bias"] or part not in ("q", "k", "v"):
                shapes[f"{name}.bias"] = (d,) if part.startswith("norm") else (out,)
        if kind == "dinov2":
            shapes |= {f"encoder.layer.{i}.layer_scale{j}.lambda1": (d,) for j in (1, 2)}
    prefix = PREFIX[kind] if prefix is None else prefix
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if classes is not None:
        dense = "classifier.dense" if kind == AST else "classifier"
        shapes |= {
            f"{dense}.weight": (classes, d * (1 + (kind == "dinov2"))),
            f"{dense}.bias": (classes,),
        }
        if kind == AST:
            shapes |= {"classifier.layernorm.weight": (d,), "classifier.layernorm.bias": (d,)}
    tensors = {
        name: (rng.normal(0, deviation, shape) + (len(shape) == 1 and "weight" in name)).astype(
            dtype
        )
        for name, shape in shapes.items()
    }
    if write:
        save(folder, config, tensors)
    return config, tensors


def save(folder: Path, config: dict, tensors: dict) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()},
        folder / "model.safetensors",
    )


def plain_tokens(config: dict, tensors: dict, x: np.ndarray) -> np.ndarray:
    """Last hidden states (B, T, d), float64, of normalised x (B, H, W, C); AST's distillation token
    is left out.
    """
    kind = config["model_type"]
    t = {
        name.removeprefix(PREFIX[kind]): value.astype(np.float64) for name, value in tensors.items()
    }
    p, eps = config["patch_size"], config["layer_norm_eps"]
    batch, height, width, channels = x.shape
    cells = x.reshape(batch, height // p, p, width // p, p, channels).transpose(0, 1, 3, 5, 2, 4)
    kernel = t["embeddings.patch_embeddings.projection.weight"].reshape(D, -1)
    patches = (
        cells.reshape(batch, -1, channels * p * p) @ kernel.T
        + t["embeddings.patch_embeddings.projection.bias"]
    )
    z = np.concatenate([np.repeat(t["embeddings.cls_token"], batch, axis=0), patches], axis=1)
    positions = t["embeddings.position_embeddings"]
    z = z + (np.delete(positions, 1, axis=1) if kind == AST else positions)

    def norm(value, name):
        value = value - value.mean(-1, keepdims=True)
        return (
            value / np.sqrt((value**2).mean(-1, keepdims=True) + eps) * t[f"{name}.weight"]
            + t[f"{name}.bias"]
        )

    for i in range(LAYERS):

        def dense(value, part, i=i):
            name = f"encoder.layer.{i}.{NAMES[part][kind == 'dinov2']}"
            return value @ t[f"{name}.weight"].T + t.get(f"{name}.bias", 0)

        scale1, scale2 = (t.get(f"encoder.layer.{i}.layer_scale{j}.lambda1", 1) for j in (1, 2))
        y = norm(z, f"encoder.layer.{i}.{NAMES['norm1'][kind == 'dinov2']}")
        q, k, v = (
            dense(y, part).reshape(batch, -1, HEADS, D // HEADS).swapaxes(1, 2) for part in "qkv"
        )
        scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(D // HEADS))
        y = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(batch, -1, D)
        z = z + scale1 * dense(y, "out")
        y = dense(norm(z, f"encoder.layer.{i}.{NAMES['norm2'][kind == 'dinov2']}"), "fc1")
        z = z + scale2 * dense(y * (1 + erf(y / np.sqrt(2))) / 2, "fc2")
    return norm(z, "layernorm")


def kerashub(folder: Path, classes: int | None = 5) -> tuple[dict, dict]:
    """Writes a preset of ViTBackbone (or ViTImageClassifier) as keras-hub 0.32 does; returns the
    same model as (config, tensors) of the Hugging Face layout.
    """
    import h5py

    config, tensors = huggingface(folder, "vit", classes=classes, prefix="vit.", write=False)
    t = {name.removeprefix("vit."): value for name, value in tensors.items()}
    vit, hd = "layers/vi_t_patching_and_embedding", D // HEADS
    stored = {
        f"{vit}/vars/0": t["embeddings.cls_token"],
        f"{vit}/position_embedding/vars/0": t["embeddings.position_embeddings"][0],
        f"{vit}/patch_embedding/vars/0": t[
            "embeddings.patch_embeddings.projection.weight"
        ].transpose(2, 3, 1, 0),
        f"{vit}/patch_embedding/vars/1": t["embeddings.patch_embeddings.projection.bias"],
        "layers/vi_t_encoder/layer_norm/vars/0": t["layernorm.weight"],
        "layers/vi_t_encoder/layer_norm/vars/1": t["layernorm.bias"],
    }
    layers = {
        "norm1": "layer_norm_1",
        "norm2": "layer_norm_2",
        "q": "mha/query_dense",
        "k": "mha/key_dense",
        "v": "mha/value_dense",
        "out": "mha/output_dense",
        "fc1": "mlp/dense_1",
        "fc2": "mlp/dense_2",
    }
    for i in range(LAYERS):
        block = "layers/vi_t_encoder/encoder_layers/vi_t_encoder_block" + (f"_{i}" if i else "")
        for part, layer in layers.items():
            weight, bias = (
                t[f"encoder.layer.{i}.{NAMES[part][0]}.{kind}"] for kind in ("weight", "bias")
            )
            if part in ("q", "k", "v"):
                weight, bias = weight.T.reshape(D, HEADS, hd), bias.reshape(HEADS, hd)
            elif part == "out":
                weight = weight.T.reshape(HEADS, hd, D)
            else:
                weight = weight.T
            stored |= {f"{block}/{layer}/vars/0": weight, f"{block}/{layer}/vars/1": bias}
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "image_shape": [32, 32, 3],
        "patch_size": [8, 8],
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "hidden_dim": D,
        "mlp_dim": MLP,
        "layer_norm_epsilon": 1e-6,
        "use_mha_bias": True,
        "use_mlp_bias": True,
        "use_class_token": True,
        "use_patch_bias": True,
    }
    (folder / "config.json").write_text(json.dumps({"class_name": "ViTBackbone", "config": fields}))
    files = {"model.weights.h5": stored}
    if classes is not None:
        (folder / "task.json").write_text(
            json.dumps(
                {
                    "class_name": "ViTImageClassifier",
                    "config": {
                        "num_classes": classes,
                        "pooling": "token",
                        "activation": None,
                        "intermediate_dim": None,
                    },
                }
            )
        )
        (folder / "image_converter.json").write_text(
            json.dumps(
                {"config": {"scale": [1 / 50, 1 / 60, 1 / 70], "offset": [-2.0, -1.5, -1.0]}}
            )
        )
        files["task.weights.h5"] = {
            "layers/dense/vars/0": t["classifier.weight"].T,
            "layers/dense/vars/1": t["classifier.bias"],
        }
    for file, arrays in files.items():
        with h5py.File(folder / file, "w") as opened:
            for name, value in arrays.items():
                opened[name] = value
    return config, tensors


def _patches(config: dict) -> int:
    if config["model_type"] == AST:
        sides, strides = ("num_mel_bins", "max_length"), ("frequency_stride", "time_stride")
        return int(
            np.prod(
                [
                    (config[a] - config["patch_size"]) // config[b] + 1
                    for a, b in zip(sides, strides, strict=True)
                ]
            )
        )
    return (config["image_size"] // config["patch_size"]) ** 2
