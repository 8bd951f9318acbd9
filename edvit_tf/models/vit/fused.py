"""The two parts of a ViT that a training step computes faster than with Keras's layers: GELU, and
the patch embedding.

Same weights, same function up to rounding (tests hold values and gradients against Keras's layers);
for training, and for a teacher's answers in bfloat16: these layers are in no saved model. An exact
GELU of TensorFlow is a dozen passes over the widest tensor of a block, and in bfloat16 each
converts; here XLA makes one loop forward and one backward, and only what enters is kept. A
convolution whose stride is its kernel is one matrix product, and so is its gradient by the weights.
"""

import keras
import numpy as np
import tensorflow as tf

_HALF_ROOT, _DENSITY = 2**-0.5, (2 * np.pi) ** -0.5


@tf.function(jit_compile=True)
def _gelu(x):
    wide = tf.cast(x, tf.float32)
    return tf.cast(0.5 * wide * (1 + tf.math.erf(wide * _HALF_ROOT)), x.dtype)


@tf.function(jit_compile=True)
def _gelu_gradient(x, upstream):
    wide = tf.cast(x, tf.float32)
    # d/dx x Phi(x) = Phi(x) + x phi(x)
    slope = 0.5 * (1 + tf.math.erf(wide * _HALF_ROOT)) + wide * _DENSITY * tf.exp(
        -0.5 * tf.square(wide)
    )
    return tf.cast(tf.cast(upstream, tf.float32) * slope, x.dtype)


@tf.custom_gradient
def gelu(x):
    """x Phi(x), exact, computed in float32 and given in the type of `x`; float32 or bfloat16 of any
    shape.
    """
    return _gelu(x), lambda upstream: _gelu_gradient(x, upstream)


class FusedGelu(keras.layers.Layer):
    """`gelu` as a layer, in the place of Activation("gelu")."""

    def call(self, x):
        return gelu(x)

    def compute_output_shape(self, input_shape):
        return input_shape


class PatchProduct(keras.layers.Conv2D):
    """A Conv2D whose stride is its kernel, as a product: (B, H, W, C) -> (B, H / p, W / p, d)."""

    def call(self, x):
        size, (height, width, channels) = self.kernel_size[0], x.shape[1:]

        # by rows and columns of patches, each laid flat: (B, H/p, W/p, p, p, C)
        rows = height // size
        columns = width // size
        x = tf.transpose(
            tf.reshape(x, (-1, rows, size, columns, size, channels)), (0, 1, 3, 2, 4, 5)
        )

        kernel = tf.cast(tf.reshape(self.kernel, (-1, self.filters)), x.dtype)
        out = tf.matmul(tf.reshape(x, (-1, size * size * channels)), kernel) + tf.cast(
            self.bias, x.dtype
        )
        return tf.reshape(out, (-1, rows, columns, self.filters))
