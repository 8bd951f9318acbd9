"""What a Vision Transformer costs, from its config alone: parameters, multiply-accumulates (MACs),
bytes, activations.

Conventions. One fused multiply-add is one MAC. T = patches + 1 tokens, p patch size, C channels, L
blocks, d hidden_dim, a = num_heads * head_dim, c mlp_dim, n head rows, w = d (pool "cls") or 2 d
("cls_mean").

    params   = (p p C + 1) d + d + T d + 2 d + (w + 1) n
               + L (4 d + 3 (d + 1) a + (a + 1) d + (d + 1) c + (c + 1) d)
    macs     = (T - 1) p p C d + L T (4 d a + 2 d c) + w n
    full     = macs + L 2 T T a
    deployed = full - (T - 1) (2 d a + 2 d c + 2 T a), and full for "cls_mean"

`macs` is the paper's convention: patch embedding, the four projections of attention, the MLP and
the head count; the products Q K^T and A V do not (ViT-Base 16.85 G against the paper's 16.86 G);
`macs_full` adds them, and is what Keras computes. `macs_deployed` is what an exported .tflite file
computes, operator by operator: its last block asks, projects and runs the MLP for the class token
alone, where nothing else is read. Bias additions, LayerNorm, softmax, GELU, the input normalisation
and residual additions count in none. In the first two the blocks run on all T tokens; the head runs
once.

Bytes. `size_bytes` are the weights, 4 bytes each, as the paper has them. `file_bytes` are what lies
on a device and what plans count: weights and graph, an upper bound of the exported file, 8 KiB over
at most. The deployment graph folds the blocks' LayerNorms into the layers that follow: a file holds
`params` - 4 d L + 5 numbers (the 5 are epsilon, the least root and three constants of GELU); a test
holds it to that. Target "litert" stores 3 fewer, and needs less memory.
"""

from edvit_tf.config import FLAVOURS, INT8_MIN_VALUES
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

# Graph of a file (operators, shapes, names), bytes: a constant, and more a block; measured on
# TensorFlow 2.21 for 1 to 12 blocks (4.6 kB + 5.10 kB a block in float32; float16 adds an operator
# a weight), rounded up.
GRAPH_BYTES = 6_144
BLOCK_BYTES = {"float32": 5_200, "float16": 6_600, "int8": 5_400}
CHANNEL_BYTES = 12  # int8: scale and zero point of each output channel of a matrix


def params(config: ViTConfig) -> int:
    """Number of trained weights: class token, positions (of the class token too), biases
    everywhere, final LayerNorm.

    Source: Dosovitskiy et al. 2021; formula above. ViT-Base with 1,000 classes: 86,567,656.
    """
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    # patches, class token, positions
    embedding = (_patch_values(config) + 1) * d + d + config.num_tokens * d
    # two norms, query/key/value, output, expand, contract
    block = 2 * 2 * d + 3 * (d + 1) * a + (a + 1) * d + (d + 1) * c + (c + 1) * d
    head = (config.feature_dim + 1) * config.num_classes
    return embedding + config.num_layers * block + 2 * d + head


def macs(config: ViTConfig) -> int:
    """MACs of one sample as the paper counts them: no attention products. ViT-Base with 10 classes:
    16.85 G.
    """
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    embedding = config.num_patches * _patch_values(config) * d
    blocks = config.num_layers * config.num_tokens * (4 * d * a + 2 * d * c)
    return embedding + blocks + config.feature_dim * config.num_classes


def macs_full(config: ViTConfig) -> int:
    """MACs of one sample with Q K^T and A V. ViT-Base with 10 classes: 17.56 G."""
    return macs(config) + config.num_layers * 2 * config.num_tokens**2 * config.attention_dim


def macs_deployed(config: ViTConfig) -> int:
    """MACs that the exported file executes on one sample: `macs_full`, the last block for what the
    head reads alone.
    """
    if config.pool == "cls_mean":
        return macs_full(config)

    # less what the last block does not do for the patch tokens: q and output, MLP, their scores
    d, a, c, tokens = config.hidden_dim, config.attention_dim, config.mlp_dim, config.num_tokens
    return macs_full(config) - (tokens - 1) * (2 * d * a + 2 * d * c + 2 * tokens * a)


def training_macs(config: ViTConfig, patch_dropout: float, samples: int) -> int:
    """MACs of a fit on `samples`: three forward passes each (forward and backward), for the share
    of the tokens that its steps keep.
    """
    kept = round(config.num_patches * (1 - patch_dropout)) + 1
    return round(3 * samples * macs(config) * kept / config.num_tokens)


def size_bytes(config: ViTConfig, flavour: str = "float32") -> int:
    """Bytes of the weights in a flavour: "float32" 4 each, "float16" 2 each, "int8" as dynamic
    range stores them.

    int8: matrices (patch kernel, projections, MLP, head) of 1,024 values or more take 1 byte a
    value; smaller matrices, biases, LayerNorms, the class token and the position embeddings stay
    float32. Scales belong to the graph (`file_bytes`). Raises ConfigError for another flavour.
    ViT-Base with 10 classes, float32: 327.33 MiB.
    """
    _check_flavour(flavour)
    if flavour == "float16":
        return 2 * params(config)

    quantised = 0
    if flavour == "int8":
        quantised = sum(n for n, _ in _matrices(config) if n >= INT8_MIN_VALUES)

    return 4 * params(config) - 3 * quantised


def file_bytes(config: ViTConfig, flavour: str = "float32") -> int:
    """Bytes that the .tflite file takes on a device, at most: weights and graph. Raises ConfigError
    as `size_bytes`.

    ViT-Base, 2 of 12 heads kept, 10 classes: 10,062,332 (9.60 MiB); the exported file has
    10,059,592 (the paper: 9.6).
    """
    one = 2 if flavour == "float16" else 4
    weights = size_bytes(config, flavour) - one * _folded(config)

    channels = 0
    if flavour == "int8":
        channels = CHANNEL_BYTES * sum(out for n, out in _matrices(config) if n >= INT8_MIN_VALUES)

    return weights + GRAPH_BYTES + config.num_layers * BLOCK_BYTES[flavour] + channels


def peak_activation_bytes(config: ViTConfig, input_bytes: int = 1) -> int:
    """The most bytes of activations alive at once while the deployment graph runs one sample, in
    float32.

    The executor taken is the plainest: one operator after the other, in the file's order; each
    writes a tensor of its own (reshapes and transposes too, nothing in place); a tensor, the input
    included, lives from the operator that writes it to the last that reads it. Weights and scratch
    memory of kernels do not count. `input_bytes` a value: 1 for a uint8 picture, which is then
    cast, 4 for float32 mel. It equals the liveness count over an exported file.

    An interpreter differs. TFLite keeps the input to the end, rounds to 64 bytes, lets reshapes
    share their input, and unrolls the picture for the patch convolution (im2col): that is then its
    peak in a small sub-model. ViT-Base, 2 of 12 heads kept, 10 classes: 1,311,232 here.
    """
    d, a, c, tokens = config.hidden_dim, config.attention_dim, config.mlp_dim, config.num_tokens
    height, width, channels = config.image_shape
    values = height * width * channels
    scores = config.num_heads * tokens
    x = tokens * d
    patches = config.num_patches * d
    rows = tokens * a
    wide = tokens * c

    # values alive at each operator that may be the peak
    steps: list[float] = [
        values + patches,
        2 * patches,
        patches + x,  # convolution, reshape and positions, class token
        2 * x + tokens,  # LayerNorm: x, squared, mean
        2 * x + 3 * rows,  # the last block's keys and values
    ]
    if input_bytes < 4:
        steps.append(values + values * input_bytes / 4)  # the cast

    if config.num_layers > 1 or config.pool == "cls_mean":  # a block of all tokens
        steps += [
            x + 4 * rows,  # q, k, v beside x; one of them transposed
            x + 3 * rows + scores * tokens,
            x + rows + 2 * scores * tokens,  # Q K^T, softmax
            x + 2 * rows + scores * tokens,  # A V
            2 * x + rows,
            3 * x,
            2 * x + wide,
            x + 3 * wide,  # output projection, residual, MLP expanded, GELU
        ]

    return int(4 * max(steps))


def _patch_values(config: ViTConfig) -> int:
    """Values in one patch: p p C."""
    return config.patch_size**2 * config.image_shape[2]


def _check_flavour(flavour: str) -> None:
    if flavour not in FLAVOURS:
        raise ConfigError(
            f"flavour is {flavour!r}; it must be one of: {', '.join(FLAVOURS)}. Choose one of them."
        )


def _matrices(config: ViTConfig) -> list[tuple[int, int]]:
    """Values and output channels of each weight matrix: patch kernel, six a block, head."""
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    # query, key, value, output, expand, contract
    block = [(d * a, a), (d * a, a), (d * a, a), (a * d, d), (d * c, c), (c * d, d)]

    head = (config.feature_dim * config.num_classes, config.num_classes)
    return [(_patch_values(config) * d, d), *config.num_layers * block, head]


def _folded(config: ViTConfig) -> int:
    """Numbers that a file stores fewer than `params`: the blocks' LayerNorms, less five
    constants.
    """
    return 4 * config.hidden_dim * config.num_layers - 5
