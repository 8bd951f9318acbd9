"""What a Vision Transformer costs, from its config alone: parameters, multiply-accumulates (MACs), bytes.

Conventions. One fused multiply-add is one MAC. T = patches + 1 tokens, p patch size, C channels, L blocks,
d hidden_dim, a = num_heads * head_dim, c mlp_dim, n head rows, w = d (pool "cls") or 2 d ("cls_mean").

    params = (p p C + 1) d + d + T d + L (4 d + 3 (d + 1) a + (a + 1) d + (d + 1) c + (c + 1) d) + 2 d + (w + 1) n
    macs   = (T - 1) p p C d + L T (4 d a + 2 d c) + w n
    full   = macs + L 2 T T a

`macs` is the paper's convention: patch embedding, the four projections of attention, the MLP and the head count; the
products Q K^T and A V do not (ViT-Base 16.85 G against the paper's 16.86 G); `macs_full` adds them. Bias additions,
LayerNorm, softmax, GELU, the input normalisation and residual additions count in neither. The blocks run on all T
tokens; the head runs once.

Limits: bytes are those of the weights; a .tflite file adds its graph (about 1 % of a small sub-model).
"""

from collections.abc import Mapping

from edvit_tf.config import ViTConfig


def params(config: ViTConfig) -> int:
    """Number of trained weights: class token, positions (of the class token too), biases everywhere, final LayerNorm.

    Source: Dosovitskiy et al. 2021; formula above. ViT-Base with 1,000 classes: 86,567,656.
    """
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    embedding = (_patch_values(config) + 1) * d + d + config.num_tokens * d  # patches, class token, positions
    block = 2 * 2 * d + 3 * (d + 1) * a + (a + 1) * d + (d + 1) * c + (c + 1) * d
    return embedding + config.num_layers * block + 2 * d + (_pooled_dim(config) + 1) * config.num_classes


def macs(config: ViTConfig) -> int:
    """MACs of one sample as the paper counts them: no attention products. ViT-Base with 10 classes: 16.85 G."""
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    embedding = config.num_patches * _patch_values(config) * d
    blocks = config.num_layers * config.num_tokens * (4 * d * a + 2 * d * c)
    return embedding + blocks + _pooled_dim(config) * config.num_classes


def macs_full(config: ViTConfig) -> int:
    """MACs of one sample with Q K^T and A V. ViT-Base with 10 classes: 17.56 G."""
    return macs(config) + config.num_layers * 2 * config.num_tokens**2 * config.attention_dim


def size_bytes(config: ViTConfig, bytes_per_weight: int = 4) -> int:
    """Bytes of the weights: 4 a weight for float32, 2 for float16, 1 for int8 (scales and the graph not counted)."""
    return params(config) * bytes_per_weight


def cost_table(configs: Mapping[str, ViTConfig]) -> str:
    """The costs of named configs as a text table: parameters in millions, MACs in G, float32 weights in MiB.

    Example:

        model          d  heads     c  params M  MACs G  full G      MiB
        vit_base     768     12  3072     85.81   16.85   17.56   327.33
    """
    width = max([len("model"), *map(len, configs)])
    lines = [f"{'model':<{width}}  {'d':>4}  heads     c  params M  MACs G  full G      MiB"]
    for name, cfg in configs.items():
        lines.append(
            f"{name:<{width}}  {cfg.hidden_dim:>4}  {cfg.num_heads:>5}  {cfg.mlp_dim:>4}  {params(cfg) / 1e6:>8.2f}  "
            f"{macs(cfg) / 1e9:>6.2f}  {macs_full(cfg) / 1e9:>6.2f}  {size_bytes(cfg) / 2**20:>7.2f}"
        )
    return "\n".join(lines)


def _patch_values(config: ViTConfig) -> int:
    """Values in one patch: p p C."""
    return config.patch_size**2 * config.image_shape[2]


def _pooled_dim(config: ViTConfig) -> int:
    """Columns of the head: d, or 2 d where the mean of the patch tokens stands beside the class token."""
    return config.hidden_dim * (2 if config.pool == "cls_mean" else 1)
