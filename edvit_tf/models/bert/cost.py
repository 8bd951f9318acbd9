"""What a BERT costs, from its config alone: parameters, multiply-accumulates (MACs), bytes.

Conventions as in `models/vit/cost.py`: `macs` are those of all Dense layers over `length` tokens,
`macs_full` adds the products Q K^T and A V; looking up a row costs none. L blocks, T = length, d
hidden_dim, a = num_heads * head_dim, c mlp_dim, n head rows, V pieces, P positions:

    params = (V + P + types) d + 2 d + L (2 * 2 d + 3 (d + 1) a + (a + 1) d + (d + 1) c + (c + 1) d)
             [+ (d + 1) d for the pooler] + (d + 1) n
    macs   = L T (4 d a + 2 d c) [+ d d] + d n

A file holds the rows of the positions that are read, and one type: fewer numbers than `params`.
"""

from edvit_tf.config import FLAVOURS, INT8_MIN_VALUES
from edvit_tf.errors import ConfigError
from edvit_tf.models.bert.config import BertConfig

# Graph of a file (operators, shapes, names), bytes, and more a block, rounded up from what
# TensorFlow 2.21 writes.
GRAPH_BYTES = 10_240
BLOCK_BYTES = {"float32": 9_216, "float16": 11_264, "int8": 9_728}
CHANNEL_BYTES = 12  # int8: scale and zero point of each output channel of a matrix


def params(config: BertConfig) -> int:
    """Number of trained weights."""
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    tables = (config.vocab_size + config.num_positions + config.num_types) * d + 2 * d
    block = 2 * 2 * d + 3 * (d + 1) * a + (a + 1) * d + (d + 1) * c + (c + 1) * d
    pooler = (d + 1) * d if config.pool == "cls" else 0
    return tables + config.num_layers * block + pooler + (d + 1) * config.num_classes


def macs(config: BertConfig) -> int:
    """MACs of one text without the products of attention."""
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    blocks = config.num_layers * config.length * (4 * d * a + 2 * d * c)
    pooler = d * d if config.pool == "cls" else 0
    return blocks + pooler + d * config.num_classes


def macs_full(config: BertConfig) -> int:
    """MACs of one text with Q K^T and A V."""
    return macs(config) + config.num_layers * 2 * config.length**2 * config.attention_dim


def training_macs(config: BertConfig, patch_dropout: float, samples: int) -> int:
    """MACs of a fit on `samples`: three forward passes each (forward and backward)."""
    return 3 * samples * macs(config)


def size_bytes(config: BertConfig, flavour: str = "float32") -> int:
    """Bytes of the weights in a flavour. int8: matrices of 1,024 values or more take 1 byte a
    value; the tables stay float32, as do biases and LayerNorms. ConfigError for another flavour.
    """
    if flavour not in FLAVOURS:
        raise ConfigError(
            f"flavour is {flavour!r}; it must be one of: {', '.join(FLAVOURS)}. Choose one of them."
        )
    if flavour == "float16":
        return 2 * params(config)
    quantised = sum(n for n, _ in _matrices(config) if n >= INT8_MIN_VALUES)
    return 4 * params(config) - (3 * quantised if flavour == "int8" else 0)


def file_bytes(config: BertConfig, flavour: str = "float32") -> int:
    """Bytes that the .tflite file takes on a device, at most: weights and graph."""
    channels = 0
    if flavour == "int8":
        channels = CHANNEL_BYTES * sum(out for n, out in _matrices(config) if n >= INT8_MIN_VALUES)
    one = 2 if flavour == "float16" else 4
    unread = (config.num_positions - config.length + config.num_types - 1) * config.hidden_dim
    graph = GRAPH_BYTES + config.num_layers * BLOCK_BYTES[flavour]
    return size_bytes(config, flavour) - one * unread + graph + channels


def _matrices(config: BertConfig) -> list[tuple[int, int]]:
    """Values and output channels of each weight matrix that is no table."""
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    block = [(d * a, a), (d * a, a), (d * a, a), (a * d, d), (d * c, c), (c * d, d)]
    pooler = [(d * d, d)] if config.pool == "cls" else []
    return [
        *config.num_layers * block,
        *pooler,
        (d * config.num_classes, config.num_classes),
    ]
