"""The faster layers of a training step against Keras's own: values, gradients, and whole models by
their weights.
"""

import numpy as np
import pytest


def with_gradients(function, variables):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(variables)
        out = function()
        loss = tf.reduce_sum(
            tf.cast(out, tf.float32) * tf.reshape(tf.linspace(-1.0, 2.0, tf.size(out)), out.shape)
        )
    return [
        np.asarray(tf.cast(value, tf.float32)) for value in (out, *tape.gradient(loss, variables))
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_gelu_and_its_gradient_are_the_exact_ones(dtype, tolerance):
    import tensorflow as tf

    from edvit_tf.models.vit.fused import gelu

    x = np.concatenate([np.linspace(-12, 12, 2001), [0.0, -40.0, 40.0]]).astype(np.float32)
    exact = tf.constant(tf.cast(tf.cast(x, dtype), tf.float64))
    expected = with_gradients(lambda: tf.nn.gelu(exact, approximate=False), [exact])
    given = tf.cast(x, dtype)
    found = with_gradients(lambda: gelu(given), [given])
    assert gelu(given).dtype == given.dtype
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(12, 8, 3), (8, 8, 1)])
def test_a_patch_product_is_the_convolution(shape):
    import keras
    import tensorflow as tf

    from edvit_tf.models.vit.fused import PatchProduct

    x = tf.constant(np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32))
    layers = [kind(6, 4, strides=4) for kind in (keras.layers.Conv2D, PatchProduct)]
    for layer in layers:
        layer.build(x.shape)
    layers[0].bias.assign(np.arange(6.0))
    layers[1].set_weights(layers[0].get_weights())
    expected, found = (
        with_gradients(lambda layer=layer: layer(x), [layer.kernel.value, layer.bias.value, x])
        for layer in layers
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kept", [None, 3])
def test_a_model_of_fused_layers_is_the_stock_one(kept):
    """Same names of weights, same answers, same gradients of every weight."""
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import set_weights
    from tests.support.tiny_vit import CONFIG, random_inputs, random_weights

    weights, x = random_weights(), random_inputs()
    if kept:
        x = {"input": x, "kept": np.tile(np.arange(kept, dtype=np.int32), (len(x), 1))}
    results = []
    for fused in (False, True):
        model = build_vit(CONFIG, kept_patches=kept, fused=fused)
        set_weights(model, weights)  # raises on a name or a shape that differs
        results.append(
            with_gradients(
                lambda m=model: m(x)["logits"], [v.value for v in model.trainable_variables]
            )
        )
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(other).max()))
