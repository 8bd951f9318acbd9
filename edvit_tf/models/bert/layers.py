"""The layers of a BERT that Keras has no stock layer for; registered, so that `.keras` files
load.
"""

import keras

MASKED = -1e4  # added to the scores of what is no token; float16 has it too

_register = keras.saving.register_keras_serializable(package="edvit_tf")


@_register
class PieceNumbers(keras.layers.Layer):
    """Numbers of pieces as they come from a fit, float32 -> int32; never bfloat16, which has too
    few digits for them.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def call(self, numbers):
        return keras.ops.cast(numbers, "int32")

    def compute_output_spec(self, numbers):
        return keras.KerasTensor(numbers.shape, dtype="int32")

    def get_config(self):
        kept = super().get_config()
        kept.pop("dtype", None)
        return kept


@_register
class TokenMask(keras.layers.Layer):
    """1 where a piece is, 0 behind the text: (B, T) int32 -> (B, T) float."""

    def call(self, numbers):
        return keras.ops.cast(keras.ops.not_equal(numbers, 0), self.compute_dtype)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor(numbers.shape, dtype=self.compute_dtype)


@_register
class Rows(keras.layers.Layer):
    """Adds to each token the row of its place in a table, or with `first` the first row to all:
    (B, T, d) -> (B, T, d).
    """

    def __init__(self, count: int, first: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.first = first

    def build(self, input_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.count, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, tokens):
        read = 1 if self.first else tokens.shape[1]
        return tokens + keras.ops.cast(self.embedding[:read], tokens.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "count": self.count, "first": self.first}


@_register
class MaskedAttention(keras.layers.Layer):
    """softmax(q k^T / sqrt(head_dim)) v for every head, over the tokens that are `present` (B, T):
    three (B, T, h * hd) -> (B, T, h * hd).
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def call(self, query, key, value, present):
        def heads(x):  # (B, T, h * hd) -> (B, h, T, hd)
            shape = (-1, x.shape[1], self.num_heads, x.shape[2] // self.num_heads)
            return keras.ops.transpose(keras.ops.reshape(x, shape), (0, 2, 1, 3))

        scale = (query.shape[2] // self.num_heads) ** -0.5
        scores = keras.ops.matmul(
            heads(query) * scale, keras.ops.transpose(heads(key), (0, 1, 3, 2))
        )
        scores = scores + (1 - present[:, None, None, :]) * MASKED  # (B, h, T, T)
        out = keras.ops.matmul(keras.ops.softmax(scores), heads(value))
        out = keras.ops.transpose(out, (0, 2, 1, 3))  # (B, T, h, hd)
        return keras.ops.reshape(out, (-1, value.shape[1], value.shape[2]))

    def compute_output_shape(self, query_shape, key_shape, value_shape, present_shape):
        return value_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@_register
class TokenMean(keras.layers.Layer):
    """The mean of the tokens that are `present`, (B, T, d) and (B, T) -> (B, d); zeros where there
    are none.
    """

    def call(self, tokens, present):
        total = keras.ops.sum(tokens * present[..., None], axis=1)
        return total / keras.ops.maximum(keras.ops.sum(present, axis=1, keepdims=True), 1)

    def compute_output_shape(self, tokens_shape, present_shape):
        return (tokens_shape[0], tokens_shape[2])
