"""One ViT as plain functions of its weights, in torch: the twin of `edvit_tf.models.vit.functions`,
whose names and arithmetic it has (a test holds that).
"""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from edvit_tf.models.vit.config import ViTConfig

Weights = dict[str, torch.Tensor]
# (y (B, T, units), name) -> y with removed units set to zero
Cut = Callable[[torch.Tensor, str], torch.Tensor]


def no_cut(y: torch.Tensor, name: str) -> torch.Tensor:
    """The mask that removes nothing."""
    return y


def patches(config: ViTConfig, x: torch.Tensor) -> torch.Tensor:
    """Normalised patches (B, T - 1, p p C) of pictures (B, H, W, C)."""
    mean = torch.tensor(config.input_mean, device=x.device)
    std = torch.tensor(config.input_std, device=x.device)
    x = (x.float() - mean) / std

    height, width, channels = config.image_shape
    p = config.patch_size
    x = x.reshape(-1, height // p, p, width // p, p, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(len(x), config.num_patches, p * p * channels)


def dense(weights: Mapping, y: torch.Tensor, name: str) -> torch.Tensor:
    """y @ kernel + bias."""
    return y @ weights[f"{name}.kernel"] + weights[f"{name}.bias"]


def norm(config: ViTConfig, weights: Mapping, y: torch.Tensor, name: str) -> torch.Tensor:
    """LayerNorm over the last axis."""
    y = functional.layer_norm(y, y.shape[-1:], eps=config.layer_norm_epsilon)
    return y * weights[f"{name}.gamma"] + weights[f"{name}.beta"]


def embed(config: ViTConfig, weights: Mapping, x: torch.Tensor, cut: Cut = no_cut) -> torch.Tensor:
    """Tokens (B, T, d) of patches (B, T - 1, p p C)."""
    kernel = weights["patch_embedding.kernel"]
    y = x @ kernel.reshape(-1, kernel.shape[-1]) + weights["patch_embedding.bias"]
    token = weights["class_token.token"].expand(len(y), -1, -1)
    return cut(torch.cat([token, y], 1) + weights["position_embedding.embedding"], "residual")


def attended(
    config: ViTConfig, weights: Mapping, block: str, x: torch.Tensor, cut: Cut = no_cut
) -> torch.Tensor:
    """What the output matrix of a block ("block_03") reads: (B, T, d) -> (B, T, h * hd)."""
    y = cut(norm(config, weights, x, f"{block}.attention.norm"), "residual")

    def heads(part: torch.Tensor) -> torch.Tensor:  # (B, T, h * hd) -> (B, h, T, hd)
        return part.reshape(*part.shape[:2], config.num_heads, config.head_dim).transpose(1, 2)

    query = heads(cut(dense(weights, y, f"{block}.attention.query"), f"{block}.qk"))
    key = heads(dense(weights, y, f"{block}.attention.key"))
    value = heads(cut(dense(weights, y, f"{block}.attention.value"), f"{block}.v"))

    scores = query @ key.transpose(-1, -2) * config.head_dim**-0.5
    joined = (scores.softmax(-1) @ value).transpose(1, 2)
    return joined.reshape(*x.shape[:2], config.attention_dim)


def attention(
    config: ViTConfig, weights: Mapping, block: str, x: torch.Tensor, cut: Cut = no_cut
) -> torch.Tensor:
    """The attention branch of a block, the addition not done."""
    read = attended(config, weights, block, x, cut)
    return cut(dense(weights, read, f"{block}.attention.output"), "residual")


def hidden(
    config: ViTConfig, weights: Mapping, block: str, x: torch.Tensor, cut: Cut = no_cut
) -> torch.Tensor:
    """The FFN's hidden activations of a block, after GELU: (B, T, d) -> (B, T, c)."""
    y = cut(norm(config, weights, x, f"{block}.mlp.norm"), "residual")
    return cut(functional.gelu(dense(weights, y, f"{block}.mlp.expand")), f"{block}.ffn")


def mlp(
    config: ViTConfig, weights: Mapping, block: str, x: torch.Tensor, cut: Cut = no_cut
) -> torch.Tensor:
    """The FFN branch of a block, the addition not done."""
    read = hidden(config, weights, block, x, cut)
    return cut(dense(weights, read, f"{block}.mlp.contract"), "residual")


def features(
    config: ViTConfig, weights: Mapping, x: torch.Tensor, cut: Cut = no_cut
) -> torch.Tensor:
    """(B, d) of patches, or (B, 2 d) with pool="cls_mean": what the head reads."""
    x = embed(config, weights, x, cut)
    for block in blocks(config):
        x = x + attention(config, weights, block, x, cut)
        x = x + mlp(config, weights, block, x, cut)

    x = cut(norm(config, weights, x, "norm"), "residual")
    if config.pool == "cls_mean":
        return torch.cat([x[:, 0], x[:, 1:].mean(1)], -1)
    return x[:, 0]


def blocks(config: ViTConfig) -> list[str]:
    """Names of the blocks, in order."""
    return [f"block_{i:02d}" for i in range(config.num_layers)]
