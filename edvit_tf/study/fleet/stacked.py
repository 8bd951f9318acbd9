"""Several ViTs of one width as one function in torch: every weight stacked, every product batched.

Weights of blocks have a first axis of layers and a second of members, all others a first axis of
members. Heads narrower than a multiple of 8 are padded with zeros inside: the function is the same,
and the products are aligned.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from edvit_tf.models.vit.config import ViTConfig

Stack = dict[str, torch.Tensor]

# Ours -> names of a model's weights outside the blocks, and within one.
_OUTER = {
    "patch_kernel": "patch_embedding.kernel",
    "patch_bias": "patch_embedding.bias",
    "token": "class_token.token",
    "positions": "position_embedding.embedding",
    "norm_gamma": "norm.gamma",
    "norm_beta": "norm.beta",
    "head_kernel": "head.kernel",
    "head_bias": "head.bias",
}
_INNER = {
    "block/attention_gamma": "attention.norm.gamma",
    "block/attention_beta": "attention.norm.beta",
    "block/query_kernel": "attention.query.kernel",
    "block/query_bias": "attention.query.bias",
    "block/key_kernel": "attention.key.kernel",
    "block/key_bias": "attention.key.bias",
    "block/value_kernel": "attention.value.kernel",
    "block/value_bias": "attention.value.bias",
    "block/output_kernel": "attention.output.kernel",
    "block/output_bias": "attention.output.bias",
    "block/mlp_gamma": "mlp.norm.gamma",
    "block/mlp_beta": "mlp.norm.beta",
    "block/expand_kernel": "mlp.expand.kernel",
    "block/expand_bias": "mlp.expand.bias",
    "block/contract_kernel": "mlp.contract.kernel",
    "block/contract_bias": "mlp.contract.bias",
}


def stack(config: ViTConfig, members: Sequence[Mapping[str, torch.Tensor]]) -> Stack:
    """The weights of several models (names of `edvit_tf.models.vit.keras_model`) as one stack."""
    out = {}
    for ours, name in _OUTER.items():
        out[ours] = torch.stack([weights[name] for weights in members])
    for ours, name in _INNER.items():
        layers = []
        for i in range(config.num_layers):
            layers.append(torch.stack([weights[f"block_{i:02d}.{name}"] for weights in members]))
        out[ours] = torch.stack(layers)
    return out


def unstack(config: ViTConfig, whole: Stack, member: int) -> dict[str, np.ndarray]:
    """The weights of one model, as our pipeline reads them."""
    out = {name: whole[ours][member] for ours, name in _OUTER.items()}
    for ours, name in _INNER.items():
        for i in range(config.num_layers):
            out[f"block_{i:02d}.{name}"] = whole[ours][i, member]
    return {name: value.detach().cpu().numpy() for name, value in out.items()}


def chosen(whole: Stack, members: Sequence[int]) -> Stack:
    """The stack of some members, each as often as it is named."""
    picked = list(members)
    return {n: v[:, picked] if is_inner(n) else v[picked] for n, v in whole.items()}


def is_inner(name: str) -> bool:
    """Whether a weight is one of the blocks: (layers, members, ...)."""
    return name.startswith("block/")


def block(config: ViTConfig, x: torch.Tensor, w: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """One block of every member: (N, B, T, d) -> the same; `w` as `_layers` gives it."""
    members, batch, tokens, width = x.shape
    heads = config.num_heads

    y = _norm(config, x, w["attention_gamma"], w["attention_beta"])
    y = y.reshape(members, batch * tokens, width)
    parts = []
    for name in ("query", "key", "value"):
        part = torch.baddbmm(w[f"{name}_bias"][:, None], y, w[f"{name}_kernel"])
        part = part.reshape(members * batch, tokens, heads, -1)
        parts.append(part.transpose(1, 2))  # (N B, h, T, hd)

    attended = functional.scaled_dot_product_attention(*parts, scale=config.head_dim**-0.5)
    attended = attended.transpose(1, 2).reshape(members, batch * tokens, -1)
    y = torch.baddbmm(w["output_bias"][:, None], attended, w["output_kernel"])
    x = x + y.reshape(x.shape)

    y = _norm(config, x, w["mlp_gamma"], w["mlp_beta"]).reshape(members, batch * tokens, width)
    y = functional.gelu(torch.baddbmm(w["expand_bias"][:, None], y, w["expand_kernel"]))
    y = torch.baddbmm(w["contract_bias"][:, None], y, w["contract_kernel"])
    return x + y.reshape(x.shape)


def features(
    config: ViTConfig, whole: Stack, x: torch.Tensor, kind: torch.dtype, run=block
) -> torch.Tensor:
    """(N, B, d) float32, the class token after the final norm, of patches (1 or N, B, T - 1, p p
    C). Products and activations are of `kind`, norms in float32; `run` is `block`, or compiled.
    """
    views, batch, count, pixels = x.shape
    kernel = whole["patch_kernel"]
    members, width = kernel.shape[0], kernel.shape[-1]
    positions = whole["positions"][:, 0].to(kind)  # (N, T, d)

    y = torch.matmul(
        x.to(kind).reshape(views, batch * count, pixels),
        kernel.to(kind).reshape(members, pixels, width),
    )
    y = (y + whole["patch_bias"].to(kind)[:, None]).reshape(members, batch, count, width)
    y = y + positions[:, None, 1:]
    token = whole["token"].to(kind)[:, 0] + positions[:, :1]  # (N, 1, d)
    token = token[:, None].expand(members, batch, 1, width)
    tokens = torch.cat([token, y], 2).contiguous()

    for layer in _layers(config, whole, kind):
        tokens = run(config, tokens, layer)

    last = _norm(config, tokens[:, :, :1], whole["norm_gamma"], whole["norm_beta"])
    return last[:, :, 0].float()


def logits(whole: Stack, seen: torch.Tensor) -> torch.Tensor:
    """(N, B, classes) of features (N, B, d)."""
    return torch.baddbmm(whole["head_bias"][:, None], seen, whole["head_kernel"])


def _layers(config: ViTConfig, whole: Stack, kind: torch.dtype) -> list[dict[str, torch.Tensor]]:
    """The weights of each layer, but for norms of type `kind`, heads padded to a multiple of 8."""
    padding = -config.head_dim % 8
    heads = (config.num_heads, config.head_dim)

    ready = {}
    for name, value in whole.items():
        if not is_inner(name):
            continue
        short = name.removeprefix("block/")
        if not short.endswith(("gamma", "beta")):
            value = value.to(kind)
        if padding and short.startswith(("query", "key", "value")):  # the last axis is of heads
            shape = value.shape[:-1]
            value = functional.pad(value.reshape(*shape, *heads), (0, padding)).reshape(*shape, -1)
        if padding and short == "output_kernel":  # the rows are
            layers, members, _, width = value.shape
            split = value.reshape(layers, members, *heads, width)
            value = functional.pad(split, (0, 0, 0, padding)).reshape(layers, members, -1, width)
        ready[short] = value

    return [{name: value[i] for name, value in ready.items()} for i in range(config.num_layers)]


def _norm(
    config: ViTConfig, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor
) -> torch.Tensor:
    """LayerNorm of (N, B, T, d) in float32, given in the type of x; gamma and beta (N, d)."""
    y = functional.layer_norm(x.float(), x.shape[-1:], eps=config.layer_norm_epsilon)
    return (y * gamma[:, None, None] + beta[:, None, None]).to(x.dtype)
