"""The two layers of the fusion that Keras has no stock layer for.

They are registered so that `fusion.keras` loads (`load_fusion`): who opens one imports this module
first.
"""

from pathlib import Path

import keras
import numpy as np

from edvit_tf.models.keras_settings import pinned

_register = keras.saving.register_keras_serializable(package="edvit_tf")


@_register
class PresenceMask(keras.layers.Layer):
    """Zeros the features of missing sub-models: (B, sum d_j) and `present` (B, N) of 0 or 1 -> (B,
    sum d_j).
    """

    def __init__(self, widths: list[int], **kwargs):
        super().__init__(**kwargs)
        self.widths = list(widths)

    def call(self, features, present):
        spread = []
        for j, width in enumerate(self.widths):
            # (B, d_j): the sub-model's one number beside each of its features
            spread.append(keras.ops.repeat(present[:, j : j + 1], width, axis=1))

        return features * keras.ops.concatenate(spread, axis=1)

    def compute_output_shape(self, features_shape, present_shape):
        return features_shape

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}


@_register
class SoftmaxAverage(keras.layers.Layer):
    """Mean of the class probabilities of the sub-models present: (B, sum d_j) and `present` (B, N)
    -> (B, classes).

    Each sub-model's own head (kernel_j, bias_j) makes logits of its features; what its softmax
    gives "other" is spread evenly over the classes outside its group. With `temperature` T the
    mean's logarithm is divided by T and normalised again. The same as
    `edvit_tf.training.fuse.average` at T = 1.
    """

    def __init__(self, widths: list[int], groups: list[list[int]], num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.widths = list(widths)
        self.groups = [list(group) for group in groups]
        self.num_classes = num_classes

    def build(self, *_):
        self.heads = []
        for j, (width, group) in enumerate(zip(self.widths, self.groups, strict=True)):
            rows = len(group) + (len(group) < self.num_classes)  # "other" where there are others
            kernel = self.add_weight(name=f"kernel_{j:02d}", shape=(width, rows))
            bias = self.add_weight(name=f"bias_{j:02d}", shape=(rows,))
            self.heads.append((kernel, bias))

        self.temperature = self.add_weight(name="temperature", shape=(1,), initializer="ones")

    def call(self, features, present):
        total, start = 0.0, 0
        for j, (kernel, bias) in enumerate(self.heads):
            logits = keras.ops.matmul(features[:, start : start + self.widths[j]], kernel) + bias
            # (B, |C_j| + 1) -> (B, classes)
            spread = spread_matrix(self.groups[j], self.num_classes)
            total += present[:, j : j + 1] * keras.ops.matmul(keras.ops.softmax(logits), spread)
            start += self.widths[j]

        mean = total / keras.ops.sum(present, axis=1, keepdims=True)
        # p^(1/T), normalised; the floor keeps a class without any share finite.
        return keras.ops.softmax(keras.ops.log(keras.ops.maximum(mean, 1e-30)) / self.temperature)

    def compute_output_shape(self, features_shape, present_shape):
        return (features_shape[0], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "widths": self.widths,
            "groups": self.groups,
            "num_classes": self.num_classes,
        }


def spread_matrix(group: list[int], num_classes: int) -> np.ndarray:
    """(|C_j| + 1, classes), or (classes, classes) for a group of all: each own class to its place,
    "other" evenly over the classes outside the group.
    """
    rest = [c for c in range(num_classes) if c not in group]
    spread = np.zeros((len(group) + bool(rest), num_classes), np.float32)
    spread[np.arange(len(group)), list(group)] = 1.0
    if rest:
        spread[-1, rest] = 1 / len(rest)
    return spread


def load_fusion(path: Path) -> keras.Model:
    """The fusion in a bundle's `fusion.keras`, uncompiled."""
    with pinned():
        return keras.models.load_model(path, compile=False)
