"""RandAugment (Cubuk et al. 2020) by keras-cv, called so that a seed gives the same pictures every
time.

keras_cv.layers.RandAugment over a batch maps over the pictures in parallel, and its random
operations share one state: the second batch differed from run to run. One picture after the other,
in a graph with a seed of its own, it repeats.
"""

from collections.abc import Callable

import numpy as np

from edvit_tf.errors import ConfigError


def randaugment(seed: int, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """A function that varies a batch (B, H, W, C) of `shape`, uint8 0..255, C being 1 or 3; the
    type is kept.

    Three operations a picture at keras-cv's default strength: contrast, equalisation, solarisation,
    colour, brightness, shears, translations. The n-th call draws the n-th numbers that follow from
    `seed`, whatever else the process has drawn. Raises ConfigError for other channels.
    """
    import tensorflow as tf
    from keras_cv.layers import RandAugment

    channels = shape[3]
    if channels not in (1, 3):
        raise ConfigError(
            f"TrainConfig.augment is 'randaugment' and the pictures have {channels} channels; it "
            'needs 1 or 3. Take "shift_flip".'
        )

    # Layers within RandAugment get no seed from it.
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    layer = RandAugment(value_range=(0, 255), seed=seed)

    @tf.function(input_signature=[tf.TensorSpec((*shape[:3], 3), tf.uint8)])
    def varied(x):
        tf.compat.v1.set_random_seed(seed)  # of this graph alone: the process's seed stays as it is
        x = tf.cast(x, tf.float32)
        y = tf.map_fn(lambda image: layer(image, training=True), x, parallel_iterations=1)
        return tf.cast(tf.round(tf.clip_by_value(y, 0.0, 255.0)), tf.uint8)

    def vary(x: np.ndarray) -> np.ndarray:
        # keras-cv takes RGB alone: grey is given three times, and taken back once.
        coloured = np.repeat(x, 3 // channels, axis=3)
        return varied(coloured).numpy()[..., :channels]

    return vary
