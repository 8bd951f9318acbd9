"""The layers that Keras has no stock layer for: four of the ViT (one in training alone), two of the
fusion.

They are registered so that `.keras` files load, and imported by `edvit_tf.models.vit.keras_model`;
a stranger who opens a `.keras` file imports that module first.
"""

import keras
import numpy as np

_register = keras.saving.register_keras_serializable(package="edvit_tf")


@_register
class ClassToken(keras.layers.Layer):
    """Puts one learned token before the patch tokens: (B, T - 1, d) -> (B, T, d)."""

    def build(self, input_shape):
        self.token = self.add_weight(
            name="token", shape=(1, 1, input_shape[-1]), initializer="zeros"
        )

    def call(self, tokens):
        batch = keras.ops.shape(tokens)[0]
        token = keras.ops.cast(self.token, tokens.dtype)
        return keras.ops.concatenate([keras.ops.repeat(token, batch, axis=0), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 1, input_shape[2])


@_register
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector to each position: (B, T, d) -> (B, T, d)."""

    def build(self, input_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(1, *input_shape[1:]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, tokens):
        return tokens + keras.ops.cast(self.embedding, tokens.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@_register
class KeptPatches(keras.layers.Layer):
    """The class token and some of the patch tokens: (B, T, d) and patch numbers (B, K) int32 -> (B,
    K + 1, d).
    """

    def call(self, tokens, kept):
        places = keras.ops.pad(kept + 1, ((0, 0), (1, 0)))  # the class token stands at 0
        return keras.ops.take_along_axis(tokens, places[..., None], axis=1)

    def compute_output_shape(self, tokens_shape, kept_shape):
        return (tokens_shape[0], kept_shape[1] + 1, tokens_shape[2])


@_register
class DotProductAttention(keras.layers.Layer):
    """softmax(q k^T / sqrt(head_dim)) v for every head, no weights: three (B, T, h * hd) -> (B, T,
    h * hd).

    The projections before and after it are Dense layers of their own, so that each width is in
    `model.summary()`.
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def call(self, query, key, value):
        def heads(x):  # (B, T, h * hd) -> (B, h, T, hd)
            shape = (-1, x.shape[1], self.num_heads, x.shape[2] // self.num_heads)
            return keras.ops.transpose(keras.ops.reshape(x, shape), (0, 2, 1, 3))

        q, k, v = heads(query), heads(key), heads(value)
        scale = (query.shape[2] // self.num_heads) ** -0.5
        weights = keras.ops.softmax(
            keras.ops.matmul(q * scale, keras.ops.transpose(k, (0, 1, 3, 2)))
        )  # (B, h, T, T)
        out = keras.ops.transpose(keras.ops.matmul(weights, v), (0, 2, 1, 3))  # (B, T, h, hd)
        return keras.ops.reshape(out, (-1, value.shape[1], value.shape[2]))

    def compute_output_shape(self, query_shape, key_shape, value_shape):
        return value_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@_register
class PresenceMask(keras.layers.Layer):
    """Zeros the features of missing sub-models: (B, sum d_j) and `present` (B, N) of 0 or 1 -> (B,
    sum d_j).
    """

    def __init__(self, widths: list[int], **kwargs):
        super().__init__(**kwargs)
        self.widths = list(widths)

    def call(self, features, present):
        spread = [
            keras.ops.repeat(present[:, j : j + 1], width, axis=1)
            for j, width in enumerate(self.widths)
        ]
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
        self.widths, self.groups, self.num_classes = (
            list(widths),
            [list(g) for g in groups],
            num_classes,
        )

    def build(self, *_):
        rows = [len(g) + (len(g) < self.num_classes) for g in self.groups]
        self.heads = [
            (
                self.add_weight(name=f"kernel_{j:02d}", shape=(width, count)),
                self.add_weight(name=f"bias_{j:02d}", shape=(count,)),
            )
            for j, (width, count) in enumerate(zip(self.widths, rows, strict=True))
        ]
        self.temperature = self.add_weight(name="temperature", shape=(1,), initializer="ones")

    def call(self, features, present):
        total, start = 0.0, 0
        for j, (kernel, bias) in enumerate(self.heads):
            logits = keras.ops.matmul(features[:, start : start + self.widths[j]], kernel) + bias
            spread = spread_matrix(self.groups[j], self.num_classes)
            total += present[:, j : j + 1] * keras.ops.matmul(keras.ops.softmax(logits), spread)
            start += self.widths[j]
        mean = total / keras.ops.sum(present, axis=1, keepdims=True)
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
