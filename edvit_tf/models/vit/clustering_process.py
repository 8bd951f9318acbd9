"""The process behind `clustering.py`: python clustering_process.py FOLDER. Imports nothing of ours:
Keras 3 may not be in here, since tensorflow-model-optimization needs Keras 2 (the package
tf_keras).

Reads FOLDER/settings.json, weights.npz, x.npy, outputs.npz; writes clustered.npz and report.json.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

TWIN_ERROR = 1e-4  # of max |a - b| / max |b|: float32, another order of sums
BATCH_SIZE = 32
OUTPUTS = ("features", "logits")  # in the order of the twin's outputs


class ClassToken(keras.layers.Layer):
    """One learned token before the patch tokens."""

    def build(self, shape):
        self.token = self.add_weight("token", (1, 1, shape[-1]))

    def call(self, tokens):
        return tf.concat([tf.tile(self.token, [tf.shape(tokens)[0], 1, 1]), tokens], axis=1)


class PositionEmbedding(keras.layers.Layer):
    """One learned vector for each position."""

    def build(self, shape):
        self.embedding = self.add_weight("embedding", (1, *shape[1:]))

    def call(self, tokens):
        return tokens + self.embedding


class DotProductAttention(keras.layers.Layer):
    """softmax(q k^T / sqrt(head_dim)) v for every head."""

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def call(self, inputs):
        tokens, width = inputs[0].shape[1:]
        q, k, v = (
            tf.transpose(
                tf.reshape(x, (-1, tokens, self.num_heads, width // self.num_heads)), (0, 2, 1, 3)
            )
            for x in inputs
        )

        scores = tf.matmul(q, k, transpose_b=True) * (width // self.num_heads) ** -0.5
        return tf.reshape(
            tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3)), (-1, tokens, width)
        )

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


def build(c: dict) -> keras.Model:
    """The twin of `edvit_tf.models.vit.keras_model.build_vit`, layer by layer of the same name: ->
    [features, logits].
    """
    layers = keras.layers
    d = c["hidden_dim"]
    inputs = keras.Input(c["image_shape"])
    std = np.array(c["input_std"], np.float32)
    x = layers.Rescaling(
        1 / std, offset=-np.array(c["input_mean"], np.float32) / std, name="normalise"
    )(inputs)

    x = layers.Conv2D(d, c["patch_size"], strides=c["patch_size"], name="patch_embedding")(x)
    x = layers.Reshape((-1, d))(x)
    x = PositionEmbedding(name="position_embedding")(ClassToken(name="class_token")(x))

    for i in range(c["num_layers"]):
        name = f"block_{i:02d}"
        width = c["num_heads"] * c["head_dim"]
        y = layers.LayerNormalization(
            epsilon=c["layer_norm_epsilon"], name=f"{name}.attention.norm"
        )(x)
        qkv = [
            layers.Dense(width, name=f"{name}.attention.{part}")(y)
            for part in ("query", "key", "value")
        ]
        y = DotProductAttention(c["num_heads"], name=f"{name}.attention.heads")(qkv)
        x = layers.Add()([x, layers.Dense(d, name=f"{name}.attention.output")(y)])

        y = layers.LayerNormalization(epsilon=c["layer_norm_epsilon"], name=f"{name}.mlp.norm")(x)
        y = layers.Dense(c["mlp_dim"], activation="gelu", name=f"{name}.mlp.expand")(y)
        x = layers.Add()([x, layers.Dense(d, name=f"{name}.mlp.contract")(y)])

    x = layers.LayerNormalization(epsilon=c["layer_norm_epsilon"], name="norm")(x)
    features = layers.Flatten(name="features")(layers.Cropping1D((0, x.shape[1] - 1))(x))
    return keras.Model(inputs, [features, layers.Dense(c["num_classes"], name="head")(features)])


def variables(model: keras.Model) -> dict:
    """Variables by "layer.weight", as the weights are named."""
    return {
        f"{layer.name}.{v.name.split('/')[-1].split(':')[0]}": v
        for layer in model.layers
        for v in layer.weights
    }


def clustered(model: keras.Model, clusters: int, min_values: int) -> keras.Model:
    """The model with the matrices of `min_values` values or more tied to `clusters` centroids
    each.
    """
    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS

    def wrap(layer):
        matrix = isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
        if not matrix or np.prod(layer.kernel.shape) < min_values:
            return layer

        return tfmot.clustering.keras.cluster_weights(
            layer, number_of_clusters=clusters, cluster_centroids_init=start
        )

    return keras.models.clone_model(model, clone_function=wrap)


def main(folder: Path) -> None:
    started = time.perf_counter()
    settings = json.loads((folder / "settings.json").read_text())
    keras.utils.set_random_seed(settings["seed"])
    weights = np.load(folder / "weights.npz")
    wanted = np.load(folder / "outputs.npz")

    # inputs may be larger than memory: rows are read as they are needed
    x = np.load(folder / "x.npy", mmap_mode="r")

    model = build(settings["config"])
    for name, variable in variables(model).items():
        variable.assign(weights[name])

    # the twin must be the model: otherwise its clusters are of something else
    error = twin_error(model, x[:8], wanted)
    if not error <= TWIN_ERROR:
        raise SystemExit(
            f"the twin answers {error:.1e} off the model, beyond {TWIN_ERROR:g}; nothing was "
            "clustered"
        )

    model = clustered(model, settings["clusters"], settings["min_values"])
    losses = trained(model, x, wanted, settings)
    model = tfmot.clustering.keras.strip_clustering(model)
    np.savez(folder / "clustered.npz", **{name: v.numpy() for name, v in variables(model).items()})

    report = {
        "twin_error": error,
        "loss": losses,
        "seconds": round(time.perf_counter() - started, 1),
    }
    (folder / "report.json").write_text(json.dumps(report))


def twin_error(model: keras.Model, x: np.ndarray, wanted) -> float:
    """Largest relative error of the twin's answers to the first few inputs."""
    worst = 0.0
    for name, answer in zip(OUTPUTS, model(np.asarray(x, np.float32)), strict=True):
        said = wanted[name][: len(x)]
        worst = max(worst, float(np.abs(answer.numpy() - said).max() / np.abs(said).max()))
    return worst


def trained(model: keras.Model, x: np.ndarray, wanted, settings: dict) -> list[float]:
    """Trains towards the answers `wanted`, in place; the mean loss of each epoch."""

    def distil(truth, answer):  # cross-entropy with the model's own soft answers
        return tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(truth), answer)

    # features and logits count alike: the squares are taken relative to the features' own size
    scale = 1 / float(np.mean(np.square(wanted["features"])))
    model.compile(
        keras.optimizers.Adam(settings["learning_rate"]),
        loss=[lambda truth, answer: scale * tf.reduce_mean(tf.square(truth - answer), -1), distil],
    )

    rng = np.random.default_rng(settings["seed"])
    losses = []
    for _ in range(settings["epochs"]):
        # whole batches alone: one shape, one trace
        order = rng.permutation(len(x))
        order = order[: len(order) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)

        # ascending rows, since `x` lies on disk
        seen = []
        for rows in map(np.sort, order):
            goals = [wanted[name][rows] for name in OUTPUTS]
            seen.append(model.train_on_batch(np.asarray(x[rows], np.float32), goals)[0])

        losses.append(float(np.mean(seen)))

    return losses


if __name__ == "__main__":
    main(Path(sys.argv[1]))
