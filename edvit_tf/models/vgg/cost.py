"""What a VGG costs, from its config alone: parameters, multiply-accumulates (MACs), bytes.

Conventions. One fused multiply-add is one MAC; convolutions and Dense layers count, padding as if
it were picture, and biases, batch normalisation, ReLU and pools do not. `params` are the weights of
the Keras model, with the four vectors of each batch normalisation. A file has fewer: batch
normalisation is folded into its convolution (`deployed.py`).
"""

import itertools

from edvit_tf.config import FLAVOURS, INT8_MIN_VALUES
from edvit_tf.errors import ConfigError
from edvit_tf.models.vgg.config import VGGConfig

# Graph of a file (operators, shapes, names), bytes: a constant, and more a layer; measured on
# TensorFlow 2.21 (test_vgg.py holds every flavour to it), rounded up.
GRAPH_BYTES = 4_096
LAYER_BYTES = {"float32": 1_200, "float16": 2_000, "int8": 1_400}
CHANNEL_BYTES = 12  # int8: scale and zero point of each output channel


def params(config: VGGConfig) -> int:
    """Number of weights, statistics of batch normalisation included. VGG-16 at 32 x 32 x 3 with 10
    classes: 33,655,114 (128.4 MiB).
    """
    biases = sum(out for _, out in _matrices(config)) if config.has_biases else config.num_classes
    return sum(n for n, _ in _matrices(config)) + biases + 4 * config.num_filters


def macs(config: VGGConfig) -> int:
    """MACs of one sample, of a spiking net over its steps: the first convolution once, the others
    at each step, the Dense layers once. VGG-16 at 32 x 32 x 3 with 10 classes: 332 M; VGG-9: 195 M.
    """
    total = 0
    for number, (height, width, read, _) in enumerate(config.convolutions()):
        steps = config.steps if number else 1
        total += steps * height * width * 9 * read * config.filters[number]
    return total + sum(n for n, _ in _dense(config))


def training_macs(config: VGGConfig, patch_dropout: float, samples: int) -> int:
    """MACs of a fit on `samples`: three forward passes each (forward and backward)."""
    return 3 * samples * macs(config)


def size_bytes(config: VGGConfig, flavour: str = "float32") -> int:
    """Bytes of the weights in a flavour. Raises ConfigError for an unknown one."""
    return _bytes(config, flavour, params(config))


def file_bytes(config: VGGConfig, flavour: str = "float32") -> int:
    """Bytes that the .tflite file takes on a device, at most: folded weights and graph. Raises
    ConfigError as `size_bytes`.
    """
    layers = len(config.filters) * _operators(config) + len(config.dense) + 1
    channels = 0
    if flavour == "int8":
        channels = CHANNEL_BYTES * sum(out for n, out in _matrices(config) if n >= INT8_MIN_VALUES)
    stored = params(config) - 4 * config.num_filters
    if not config.has_biases:
        stored += config.num_filters  # a convolution's bias is its batch normalisation's
    weights = _bytes(config, flavour, stored)
    return weights + channels + GRAPH_BYTES + layers * LAYER_BYTES[flavour]


def _operators(config: VGGConfig) -> int:
    """Times the room of a layer that a convolution needs: a neuron has five operators a step."""
    return 1 if config.steps == 1 and config.has_biases else 1 + config.steps


def _bytes(config: VGGConfig, flavour: str, count: int) -> int:
    """Of so many weights, the matrices among them in the flavour's width."""
    if flavour not in FLAVOURS:
        raise ConfigError(
            f"flavour is {flavour!r}; it must be one of: {', '.join(FLAVOURS)}. Choose one of them."
        )
    if flavour == "float16":
        return 2 * count
    quantised = 0
    if flavour == "int8":
        quantised = sum(n for n, _ in _matrices(config) if n >= INT8_MIN_VALUES)
    return 4 * count - 3 * quantised


def _matrices(config: VGGConfig) -> list[tuple[int, int]]:
    """Values and output channels of each kernel, in order."""
    convolutions = [
        (9 * read * config.filters[number], config.filters[number])
        for number, (_, _, read, _) in enumerate(config.convolutions())
    ]
    return convolutions + _dense(config)


def _dense(config: VGGConfig) -> list[tuple[int, int]]:
    """The same of the Dense layers."""
    widths = (config.feature_dim, *config.dense, config.num_classes)
    return [(read * out, out) for read, out in itertools.pairwise(widths)]
