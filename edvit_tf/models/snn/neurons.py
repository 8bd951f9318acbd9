"""The leaky integrate-and-fire neuron (LIF) of spikingjelly 0.0.0.0.14 as EC-SNN sets it, and the
layers of Keras that a spiking net has.

Each step t with the input x_t, from v = 0:

    v = v + (x_t - v) / tau         tau = 4/3, decay_input
    s_t = [v >= 1]
    v = v - s_t                     soft reset, not differentiated

The surrogate of ds/dv is that of ATan with alpha = 2: 1 / (1 + (pi (v - 1))^2). EC-SNN's paper
writes a hard reset (its Eq. 3); its code resets softly (v_reset None), and the code is followed.
"""

import math

import keras
import tensorflow as tf

TAU = 4 / 3

_register = keras.saving.register_keras_serializable(package="edvit_tf")


@tf.custom_gradient
def spike(v):
    """1 where v >= 1, else 0; its gradient is ATan's."""

    def slope(upstream):
        return upstream / (1 + tf.square(math.pi * (v - 1)))

    return tf.cast(v >= 1, v.dtype), slope


def lif(x, steps: int):
    """Spikes (T B, ...) of inputs (T B, ...), step after step on the first axis."""
    v = 0.0
    spikes = []
    for current in tf.split(x, steps, axis=0):
        v = v + (current - v) / TAU
        spikes.append(spike(v))
        v = v - tf.stop_gradient(spikes[-1])
    return tf.concat(spikes, axis=0)


class _Stepped(keras.layers.Layer):
    """A layer that knows T."""

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


@_register
class RepeatSteps(_Stepped):
    """The same input at each step: (B, ...) -> (T B, ...)."""

    def call(self, x):
        return tf.tile(x, [self.steps] + [1] * (len(x.shape) - 1))

    def compute_output_shape(self, shape):
        return (None, *shape[1:])


@_register
class LIF(_Stepped):
    """Leaky integrate-and-fire neurons: (T B, ...) -> spikes (T B, ...)."""

    def call(self, x):
        return lif(x, self.steps)

    def compute_output_shape(self, shape):
        return shape


@_register
class EachStep(_Stepped):
    """(T B, n) -> (B, T, n)."""

    def call(self, x):
        return tf.transpose(tf.reshape(x, (self.steps, -1, x.shape[-1])), (1, 0, 2))

    def compute_output_shape(self, shape):
        return (None, self.steps, shape[-1])


@_register
class StepNormalization(keras.layers.BatchNormalization):
    """Batch normalisation of each step by itself, as the net runs step by step in training: (T B,
    ...) -> (T B, ...). Its running statistics are one set, moved at each step.
    """

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training)
        parts = tf.split(inputs, self.steps, axis=0)
        return tf.concat(
            [super(StepNormalization, self).call(part, training=True) for part in parts], axis=0
        )

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}
