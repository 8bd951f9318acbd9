"""Weights of a ViT, folded for deployment: less to compute on a device, the same function.

    input       (x - mean) / std goes into the patch kernel and its bias; that bias goes into the
                position embeddings
    centring    every matrix that writes the residual stream (and its bias, the class token, the
                positions) is made to write vectors of mean zero, so that a LayerNorm has no mean to
                take away
    norm scale  gamma and beta of a block's LayerNorms go into the matrices that read them
    attention   head_dim^-0.5 goes into the query matrix

Exact algebra, done in float64. The final LayerNorm keeps gamma and beta, since the features leave
the model after it.
"""

from collections.abc import Mapping

import numpy as np

from edvit_tf.models.vit.config import ViTConfig

Weights = dict[str, np.ndarray]


def fold(config: ViTConfig, weights: Mapping[str, np.ndarray]) -> Weights:
    """Folded weights, float32, under the names of `edvit_tf.models.vit.keras_model`: kernels and
    biases of Dense layers and of the patch embedding, "class_token.token" (1, d) with its position,
    "position_embedding.embedding" (T - 1, d), and gamma and beta of "norm". `weights` are a
    model's, by name.
    """
    # in float64, so that folding adds no rounding of its own
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    # the input's normalisation, and the patch bias with the positions
    channels = config.image_shape[2:]
    mean = np.broadcast_to(np.float64(config.input_mean), channels)
    std = np.broadcast_to(np.float64(config.input_std), channels)

    kernel = _centred(w["patch_embedding.kernel"])  # (p, p, C, d)
    positions = _centred(w["position_embedding.embedding"][0])  # (T, d)
    bias = _centred(w["patch_embedding.bias"]) - np.einsum("hwcd,c->d", kernel, mean / std)

    folded = {
        "patch_embedding.kernel": kernel / std[:, None],
        "class_token.token": _centred(w["class_token.token"][0]) + positions[:1],
        "position_embedding.embedding": positions[1:] + bias,
    }

    # after the last norm nothing is folded: the features are given out
    for name in ("norm.gamma", "norm.beta", "head.kernel", "head.bias"):
        folded[name] = w[name]

    for i in range(config.num_layers):
        block = f"block_{i:02d}"

        # attention: the norm before it, and the division by the root of head_dim
        for part in ("query", "key", "value"):
            name = f"{block}.attention.{part}"
            scale = config.head_dim**-0.5 if part == "query" else 1.0
            kernel, bias = _after_norm(w, f"{block}.attention.norm", name)
            folded[f"{name}.kernel"] = scale * kernel
            folded[f"{name}.bias"] = scale * bias

        # MLP
        name = f"{block}.mlp.expand"
        kernel, bias = _after_norm(w, f"{block}.mlp.norm", name)
        folded[f"{name}.kernel"] = kernel
        folded[f"{name}.bias"] = bias

        # what writes the stream
        for name in (f"{block}.attention.output", f"{block}.mlp.contract"):
            for part in ("kernel", "bias"):
                folded[f"{name}.{part}"] = _centred(w[f"{name}.{part}"])

    return {name: value.astype(np.float32) for name, value in folded.items()}


def _centred(values: np.ndarray) -> np.ndarray:
    """Less the mean over the last axis, the channels of the stream."""
    return values - values.mean(axis=-1, keepdims=True)


def _after_norm(
    w: Mapping[str, np.ndarray], norm: str, dense: str
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a Dense layer that also does the gamma and beta of the LayerNorm before
    it.
    """
    kernel = w[f"{dense}.kernel"]
    return w[f"{norm}.gamma"][:, None] * kernel, w[f"{norm}.beta"] @ kernel + w[f"{dense}.bias"]
