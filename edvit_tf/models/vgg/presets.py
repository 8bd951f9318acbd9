"""Widths of the named VGGs; no TensorFlow, so that plans need none."""

from edvit_tf.errors import ConfigError
from edvit_tf.models.vgg.config import VGGConfig

# Simonyan and Zisserman 2015 (configuration D); EC-SNN's VGG-9. Parameters and MACs with 10 classes
# at 32 x 32 x 3: both are literals of tests/models/test_vgg.py.
PRESETS: dict[str, dict] = {
    # 33,655,114; 332 M
    "vgg16": dict(
        blocks=(2, 2, 3, 3, 3),
        filters=(64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        dense=(4096, 4096),
    ),
    # 5,945,674; 195 M
    "vgg9": dict(blocks=(2, 2, 3), filters=(64, 64, 128, 128, 256, 256, 256), dense=(1024,)),
    # VGG-16 with half of every filter, and Dense layers of 512, which a few epochs can fit: a base
    # that two cores can train. A sub-model that is cut from it to a device's bytes is as wide as
    # one that is cut from the whole. 4,087,978; 79 M
    "vgg16_half": dict(
        blocks=(2, 2, 3, 3, 3),
        filters=(32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 256, 256, 256),
        dense=(512, 512),
    ),
    # for tests and smoke runs: seconds
    "vgg_smoke": dict(
        blocks=(1, 1), filters=(8, 12), dense=(24,), fit_dense=(16,), shares=4, min_filters=1
    ),
}


def vgg_config(preset: str, image_shape: tuple[int, ...], num_classes: int, **changes) -> VGGConfig:
    """The VGGConfig of a preset at an image shape (H, W, C); `changes` replace single fields.

    Raises ConfigError on an unknown preset or field, and for a picture smaller than the pools.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"there is no model preset {preset!r}; the presets are: {', '.join(PRESETS)}."
        )
    config = VGGConfig(image_shape=tuple(image_shape), num_classes=num_classes, **PRESETS[preset])
    return config.replace(**changes)
