"""A BERT as one flat, named Functional Keras model; base and sub-models alike."""

import keras

from edvit_tf.models.bert.config import BertConfig
from edvit_tf.models.bert.layers import MaskedAttention, PieceNumbers, Rows, TokenMask, TokenMean


def build_bert(
    config: BertConfig,
    name: str = "bert",
    kept_patches: None = None,
    fused: bool = False,
) -> keras.Model:
    """A Keras model: numbers of pieces (B, length), 0 behind the text -> {"features": (B, d),
    "logits": (B, num_classes)}.
    """
    layers = keras.layers
    inputs = keras.Input(config.input_shape, name="input")
    numbers = PieceNumbers(name="piece_numbers")(inputs)
    mask = TokenMask(name="token_mask")(numbers)  # (B, T)

    x = layers.Embedding(
        config.vocab_size,
        config.hidden_dim,
        embeddings_initializer=_init(),
        name="token_embedding",
    )(numbers)  # (B, T, d)
    x = Rows(config.num_positions, name="position_embedding")(x)
    x = Rows(config.num_types, first=True, name="type_embedding")(x)
    x = _norm(config, "embedding_norm")(x)

    for index in range(config.num_layers):
        x = _block(x, mask, config, f"block_{index:02d}")

    if config.pool == "mean":
        features = TokenMean(name="features")(x, mask)  # (B, d)
    else:
        first = layers.Cropping1D((0, config.length - 1), name="first_token_only")(x)
        first = layers.Flatten(name="first_token")(first)
        pooled = _dense(config.hidden_dim, "pooler")(first)
        features = layers.Activation("tanh", name="features")(pooled)

    logits = _dense(config.num_classes, "head")(features)
    return keras.Model(inputs, {"features": features, "logits": logits}, name=name)


def _block(x, mask, config: BertConfig, name: str):
    """One post-LN encoder block, (B, T, d) -> (B, T, d)."""
    layers = keras.layers
    qkv = [
        _dense(config.attention_dim, f"{name}.attention.{part}")(x)
        for part in ("query", "key", "value")
    ]
    y = MaskedAttention(config.num_heads, name=f"{name}.attention.heads")(*qkv, mask)
    y = _dense(config.hidden_dim, f"{name}.attention.output")(y)
    x = layers.Add(name=f"{name}.attention.add")([x, y])
    x = _norm(config, f"{name}.attention.norm")(x)

    y = _dense(config.mlp_dim, f"{name}.mlp.expand")(x)
    y = layers.Activation("gelu", name=f"{name}.mlp.gelu")(y)
    y = _dense(config.hidden_dim, f"{name}.mlp.contract")(y)
    x = layers.Add(name=f"{name}.mlp.add")([x, y])
    return _norm(config, f"{name}.mlp.norm")(x)


def config_of(model: keras.Model) -> BertConfig:
    """The BertConfig that a model of `build_bert` was made from; ValueError for another model."""
    names = {layer.name for layer in model.layers}
    if not {"piece_numbers", "token_embedding", "features", "head"} <= names:
        raise ValueError(
            f"the model {model.name} has no layers named piece_numbers, token_embedding, features "
            "and head"
        )
    table = model.get_layer("token_embedding")
    heads = model.get_layer("block_00.attention.heads").num_heads
    return BertConfig(
        length=model.input_shape[1],
        vocab_size=table.input_dim,
        num_positions=model.get_layer("position_embedding").count,
        num_layers=sum(name.endswith(".mlp.add") for name in names),
        hidden_dim=table.output_dim,
        num_heads=heads,
        head_dim=model.get_layer("block_00.attention.query").units // heads,
        mlp_dim=model.get_layer("block_00.mlp.expand").units,
        num_classes=model.get_layer("head").units,
        pool="cls" if "pooler" in names else "mean",
        num_types=model.get_layer("type_embedding").count,
        layer_norm_epsilon=model.get_layer("embedding_norm").epsilon,
    )


def _norm(config: BertConfig, name: str) -> keras.layers.LayerNormalization:
    return keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name=name)


def _dense(width: int, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(width, name=name, kernel_initializer=_init())


def _init():
    return keras.initializers.TruncatedNormal(stddev=0.02)
