"""A spiking VGG as one flat, named Functional model; T stands on the batch axis."""

from functools import partial

import keras

from edvit_tf.models.snn.config import SNNConfig
from edvit_tf.models.snn.neurons import LIF, EachStep, RepeatSteps, StepNormalization
from edvit_tf.models.vgg import bases
from edvit_tf.models.vgg.config import conv_name, norm_name
from edvit_tf.models.vgg.keras_model import NORM, dense_layers, fields_of, rescaling


def build_snn(
    config: SNNConfig, name: str = "snn", kept_patches: None = None, fused: bool = False
) -> keras.Model:
    """A Keras model: (B, H, W, C), 0..255 -> {"features": (B, F), "logits": (B, num_classes)}, both
    means over the steps. For a fit (`fused`) it also gives "step_logits" (B, T, num_classes), each
    of which learns.

    The first convolution sees the same picture at each step, and is computed once.
    """
    layers = keras.layers
    inputs = keras.Input(config.image_shape, name="input")
    x = rescaling(config)(inputs)

    for number, (_, _, _, is_pooled) in enumerate(config.convolutions()):
        x = layers.Conv2D(
            config.filters[number], 3, padding="same", use_bias=False, name=conv_name(number)
        )(x)
        steps = config.steps if number else 1
        x = StepNormalization(steps, name=norm_name(number), **NORM)(x)
        if not number:
            x = RepeatSteps(config.steps, name="steps")(x)  # (T B, H, W, filters)
        x = LIF(config.steps, name=f"lif_{number:02d}")(x)
        if is_pooled:
            x = layers.AveragePooling2D(2, name=f"pool_{number:02d}")(x)

    spikes = layers.Flatten(name="spikes")(x)  # (T B, F)
    each = EachStep(config.steps, name="each_step")(spikes)  # (B, T, F)
    features = layers.GlobalAveragePooling1D(name="features")(each)  # (B, F)

    logits = EachStep(config.steps, name="logits_each_step")(dense_layers(config, spikes))
    mean = layers.GlobalAveragePooling1D(name="mean_logits")(logits)
    outputs = {"features": features, "logits": mean}
    if fused:
        outputs["step_logits"] = logits
    return keras.Model(inputs, outputs, name=name)


def config_of(model: keras.Model) -> SNNConfig:
    """The SNNConfig that a model of `build_snn` was made from, read off its layers (UNSHOWN fields
    as they are by default); ValueError for another model.
    """
    fields = fields_of(model, "lif_00")
    return SNNConfig(**fields, steps=model.get_layer("lif_00").steps)


load_base = partial(bases.load_base, read=config_of)
