"""The deployment graphs of the fusion: what the aggregator runs over the sub-models' features."""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.training.fusion_layers import spread_matrix


def fusion_graph(
    weights: Mapping[str, np.ndarray], widths: tuple[int, ...]
) -> tuple[Callable, list]:
    """The tower MLP, or what has no hidden units, over `features` (1, sum d_j) and `present` (1, N)
    -> {"probabilities": (1, classes)}.

    `weights` are those of `edvit_tf.training.fuse.build_fusion` or `build_linear`, by name.
    """
    spread = np.repeat(
        np.eye(len(widths), dtype=np.float32), widths, axis=1
    )  # (N, sum d_j): present -> one a feature

    def graph(features, present):
        # features of a sub-model that is not present become zeros, as in training
        x = features * tf.matmul(present, spread)
        if "tower.hidden.kernel" in weights:
            x = tf.nn.gelu(_dense(x, weights, "tower.hidden"), approximate=False)
        if "low_rank.kernel" in weights:
            x = tf.matmul(x, weights["low_rank.kernel"])

        return {"probabilities": tf.nn.softmax(_dense(x, weights, "probabilities"))}

    return graph, [
        tf.TensorSpec((1, sum(widths)), tf.float32, name="features"),
        tf.TensorSpec((1, len(widths)), tf.float32, name="present"),
    ]


def average_graph(
    weights: Mapping[str, np.ndarray],
    widths: tuple[int, ...],
    groups: list[tuple[int, ...]],
    num_classes: int,
) -> tuple[Callable, list]:
    """The softmax average with the inputs and output of `fusion_graph`; `weights` are those of
    `build_average`.
    """
    starts = np.cumsum([0, *widths])

    def graph(features, present):

        total = np.zeros((1, num_classes), np.float32)
        for j, group in enumerate(groups):
            own = tf.slice(features, [0, starts[j]], [1, widths[j]])
            logits = (
                tf.matmul(own, weights[f"average.kernel_{j:02d}"])
                + weights[f"average.bias_{j:02d}"]
            )

            # over all classes, the probability of "other" spread over those outside its group
            share = tf.nn.softmax(logits)
            spread = spread_matrix(list(group), num_classes)
            # of all classes nothing is spread, and the file holds no matrix for it
            if not np.array_equal(spread, np.eye(num_classes)):
                share = tf.matmul(share, spread)
            total = total + tf.slice(present, [0, j], [1, 1]) * share

        # over those that are present; the floor keeps the logarithm finite
        mean = total / tf.reduce_sum(present, axis=1, keepdims=True)
        cooled = tf.math.log(tf.maximum(mean, np.float32(1e-30))) / weights["average.temperature"]
        return {"probabilities": tf.nn.softmax(cooled)}

    return graph, [
        tf.TensorSpec((1, sum(widths)), tf.float32, name="features"),
        tf.TensorSpec((1, len(widths)), tf.float32, name="present"),
    ]


def _dense(x, w: Mapping, name: str):
    return tf.matmul(x, w[f"{name}.kernel"]) + w[f"{name}.bias"]
