"""The Vision Transformer (Dosovitskiy et al. 2021) as one flat, named Functional model; base and
sub-models alike.

One block = LayerNorm, q/k/v Dense, attention, output Dense, add, LayerNorm, Dense c, GELU, Dense d,
add. Layers are named `block_03.mlp.expand` (Keras allows no "/" in a name), so that
`model.summary()` is the size audit.
"""

import keras
import numpy as np

from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.fused import FusedGelu, PatchProduct
from edvit_tf.models.vit.layers import (
    ClassToken,
    DotProductAttention,
    KeptPatches,
    PositionEmbedding,
)


def build_vit(
    config: ViTConfig,
    name: str = "vit",
    batch_size: int | None = None,
    kept_patches: int | None = None,
    fused: bool = False,
) -> keras.Model:
    """A Keras model: (B, H, W, C), 0..255 or decibels -> {"features": (B, d), "logits": (B,
    num_classes)}.

    `features` is the class token after the final LayerNorm (with gamma and beta, not
    L2-normalised); for pool="cls_mean" the mean of the patch tokens stands beside it: (B, 2 d).
    With `kept_patches` K (training alone) the model takes a dictionary of `input` and `kept` (B,
    K), the numbers of the patches that the blocks see. `fused` (never for figures or saved models)
    takes the layers of `models.fused`: the same function and weights, faster.
    """
    layers = keras.layers
    inputs = keras.Input(config.image_shape, batch_size=batch_size, name="input")

    # the normalisation is in the model, so that whoever opens it gives raw values
    mean = np.array(config.input_mean)
    std = np.array(config.input_std)
    x = layers.Rescaling(_plain(1 / std), offset=_plain(-mean / std), name="normalise")(inputs)

    # tokens: (B, T - 1, d), then (B, T, d)
    patches = PatchProduct if fused else layers.Conv2D
    x = patches(
        config.hidden_dim,
        config.patch_size,
        strides=config.patch_size,
        name="patch_embedding",
        kernel_initializer=_init(),
    )(x)
    x = layers.Reshape((config.num_patches, config.hidden_dim), name="patch_tokens")(x)
    x = ClassToken(name="class_token")(x)
    x = PositionEmbedding(name="position_embedding")(x)

    # in a training step that drops patches the blocks see (B, K + 1, d)
    given = inputs
    count = config.num_patches
    if kept_patches is not None:
        kept = keras.Input((kept_patches,), batch_size=batch_size, dtype="int32", name="kept")
        x = KeptPatches(name="kept_patches")(x, kept)  # (B, K + 1, d)
        given = {"input": inputs, "kept": kept}
        count = kept_patches

    for index in range(config.num_layers):
        x = _block(x, config, f"block_{index:02d}", fused)
    x = layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="norm")(x)

    # what is read: the class token, and the mean of the patch tokens beside it
    class_token = layers.Cropping1D((0, count), name="class_token_only")(x)
    if config.pool == "cls":
        features = layers.Flatten(name="features")(class_token)  # (B, d)
    else:
        rest = layers.Cropping1D((1, 0), name="patch_tokens_only")(x)
        vector = layers.Flatten(name="class_token_vector")(class_token)
        mean_token = layers.GlobalAveragePooling1D(name="mean")(rest)
        features = layers.Concatenate(name="features")([vector, mean_token])  # (B, 2 d)

    logits = _dense(config.num_classes, "head")(features)
    return keras.Model(given, {"features": features, "logits": logits}, name=name)


def _block(x, config: ViTConfig, name: str, fused: bool):
    """One pre-norm encoder block, (B, T, d) -> (B, T, d)."""
    # attention
    layers = keras.layers
    epsilon = config.layer_norm_epsilon
    y = layers.LayerNormalization(epsilon=epsilon, name=f"{name}.attention.norm")(x)
    query = _dense(config.attention_dim, f"{name}.attention.query")(y)
    key = _dense(config.attention_dim, f"{name}.attention.key")(y)
    value = _dense(config.attention_dim, f"{name}.attention.value")(y)
    y = DotProductAttention(config.num_heads, name=f"{name}.attention.heads")(query, key, value)
    y = _dense(config.hidden_dim, f"{name}.attention.output")(y)
    x = layers.Add(name=f"{name}.attention.add")([x, y])

    # MLP
    y = layers.LayerNormalization(epsilon=epsilon, name=f"{name}.mlp.norm")(x)
    y = _dense(config.mlp_dim, f"{name}.mlp.expand")(y)
    if fused:
        y = FusedGelu(name=f"{name}.mlp.gelu")(y)
    else:
        y = layers.Activation("gelu", name=f"{name}.mlp.gelu")(y)

    y = _dense(config.hidden_dim, f"{name}.mlp.contract")(y)
    return layers.Add(name=f"{name}.mlp.add")([x, y])


def config_of(model: keras.Model) -> ViTConfig:
    """The ViTConfig that a model of `build_vit` was made from, read off its layers; ValueError for
    another model.
    """
    names = {layer.name for layer in model.layers}
    if not {"normalise", "patch_embedding", "features", "head"} <= names:
        raise ValueError(
            f"the model {model.name} has no layers named normalise, patch_embedding, features and "
            "head"
        )

    rescale = model.get_layer("normalise")
    patch = model.get_layer("patch_embedding")
    num_layers = sum(name.endswith(".mlp.add") for name in names)

    # Rescaling multiplies by 1/std and adds -mean/std
    std = 1 / np.atleast_1d(rescale.scale)
    heads = model.get_layer("block_00.attention.heads").num_heads
    return ViTConfig(
        image_shape=tuple(model.input_shape[1:]),
        patch_size=patch.kernel_size[0],
        num_layers=num_layers,
        hidden_dim=patch.filters,
        num_heads=heads,
        head_dim=model.get_layer("block_00.attention.query").units // heads,
        mlp_dim=model.get_layer("block_00.mlp.expand").units,
        num_classes=model.get_layer("head").units,
        pool="cls_mean" if "patch_tokens_only" in names else "cls",
        layer_norm_epsilon=model.get_layer("norm").epsilon,
        input_mean=tuple(float(v) for v in -np.atleast_1d(rescale.offset) * std),
        input_std=tuple(float(v) for v in std),
    )


def _plain(values: np.ndarray):
    """A float for one value, else a list: what Rescaling serialises."""
    return float(values[0]) if values.size == 1 else [float(v) for v in values]


def _dense(width: int, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(width, name=name, kernel_initializer=_init())


def _init():
    return keras.initializers.TruncatedNormal(stddev=0.02)
