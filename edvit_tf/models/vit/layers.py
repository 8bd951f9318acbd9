"""The layers of a ViT that Keras has no stock layer for, one of them in training alone.

They are registered so that `.keras` files load, and imported by `edvit_tf.models.vit.keras_model`;
a stranger who opens a `.keras` file imports that module first.
"""

import keras

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
