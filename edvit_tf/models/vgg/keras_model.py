"""VGG as one flat, named Functional model; base and sub-models alike."""

import keras
import numpy as np

from edvit_tf.models.vgg.config import VGGConfig, conv_name, dense_names, norm_name

# PyTorch's batch normalisation, which the published code has: Keras's momentum is one less theirs.
NORM = {"momentum": 0.9, "epsilon": 1e-5}
DROPOUT = 0.5


def build_vgg(
    config: VGGConfig, name: str = "vgg", kept_patches: None = None, fused: bool = False
) -> keras.Model:
    """A Keras model: (B, H, W, C), 0..255 -> {"features": (B, F), "logits": (B, num_classes)}.

    `features` are the flattened maps after the last pool. `fused` changes nothing.
    """
    layers = keras.layers
    inputs = keras.Input(config.image_shape, name="input")

    # the normalisation is in the model, so that whoever opens it gives raw values
    x = rescaling(config)(inputs)
    for number, (_, _, _, is_pooled) in enumerate(config.convolutions()):
        x = layers.Conv2D(config.filters[number], 3, padding="same", name=conv_name(number))(x)
        x = layers.BatchNormalization(name=norm_name(number), **NORM)(x)
        x = layers.ReLU(name=f"relu_{number:02d}")(x)
        if is_pooled:
            x = layers.MaxPooling2D(2, name=f"pool_{number:02d}")(x)

    features = layers.Flatten(name="features")(x)  # (B, F)
    logits = dense_layers(config, features)
    return keras.Model(inputs, {"features": features, "logits": logits}, name=name)


def rescaling(config: VGGConfig) -> keras.layers.Rescaling:
    """(x - mean) / std, per channel."""
    mean, std = np.array(config.input_mean), np.array(config.input_std)
    return keras.layers.Rescaling((1 / std).tolist(), (-mean / std).tolist(), name="normalise")


def dense_layers(config: VGGConfig, x):
    """Logits (B, num_classes) of features (B, F): Dense layers, no activation between them.

    Dropout comes before each of several; a sub-model's (`fit_dense`) reads the features whole.
    """
    layers = keras.layers
    widths = (*config.dense, config.num_classes)
    for place, (name, width) in enumerate(zip(dense_names(config), widths, strict=True)):
        if config.dense and (place or config.dense != config.fit_dense):
            x = layers.Dropout(DROPOUT, name=f"dropout_{place}")(x)
        # As PyTorch begins them, which the published code has: under so much dropout Keras's own
        # start gives logits of a deviation of 4, and hundreds of steps that learn nothing.
        start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        has_bias = config.has_biases or name == "head"
        x = layers.Dense(width, use_bias=has_bias, kernel_initializer=start, name=name)(x)
    return x


def config_of(model: keras.Model) -> VGGConfig:
    """The VGGConfig that a model of `build_vgg` was made from, read off its layers (UNSHOWN fields
    as they are by default); ValueError for another model.
    """
    return VGGConfig(**fields_of(model, "relu_00"))


def fields_of(model: keras.Model, sign: str) -> dict:
    """Fields of a config that the layers show; ValueError for a model without the layer `sign`."""
    names = [layer.name for layer in model.layers]
    if not {"normalise", "conv_00", "norm_00", "features", "head", sign} <= set(names):
        raise ValueError(
            f"the model {model.name} has no layers named normalise, conv_00, norm_00, {sign}, "
            "features and head"
        )

    convolutions = [name for name in names if name.startswith("conv_")]
    pools = [int(name.removeprefix("pool_")) + 1 for name in names if name.startswith("pool_")]
    rescale = model.get_layer("normalise")
    std = 1 / np.atleast_1d(rescale.scale)
    return {
        "image_shape": tuple(model.input_shape[1:]),
        "blocks": tuple(int(n) for n in np.diff([0, *pools])),
        "filters": tuple(model.get_layer(name).filters for name in convolutions),
        "dense": tuple(model.get_layer(name).units for name in names if name.startswith("dense_")),
        "num_classes": model.get_layer("head").units,
        "input_mean": tuple(float(v) for v in -np.atleast_1d(rescale.offset) * std),
        "input_std": tuple(float(v) for v in std),
    }
