"""Sub-models and tower MLP trained together (Table 3, "entire retrain"): loss = fused cross-entropy
+ the mean of the sub-models' own, so that exported logits stay valid; with `feature_distillation`
also the distance between the base's features and a linear map of all features side by side.
Sub-models of one width run as one (`stacks.py`).
"""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.models.keras_settings import pinned
from edvit_tf.models.weights import get_weights
from edvit_tf.training import stacks
from edvit_tf.training.batches import batches, steps_an_epoch
from edvit_tf.training.finite import check_weights
from edvit_tf.training.fuse import drawn_presence
from edvit_tf.training.optimizers import optimizer
from edvit_tf.training.precision import resolved
from edvit_tf.training.steps import graph_of, run_steps
from edvit_tf.training.train import Weights, map_rows, standardised


@pinned()
def fit_joint(
    configs: Sequence[ModelConfig],
    weights: Sequence[Mapping[str, np.ndarray]],
    fusion: keras.Model,
    inputs: np.ndarray,
    targets: np.ndarray,
    group_targets: Sequence[np.ndarray],
    train: TrainConfig,
    missing_rate: float,
    *,
    epoch_indices: Callable[[int], np.ndarray],
    seed: int,
    features: np.ndarray | None = None,
) -> tuple[list[Weights], dict]:
    """Trains N sub-models and `fusion` (of `fuse.build_fusion`, changed in place) on `targets` (n,
    classes) of the fused answer and `group_targets[j]` (n, |C_j| + 1) of each sub-model. Each is
    missing at random, `missing_rate`.

    `features` (n, f) are the base's, for train.feature_distillation. train.precision is that of the
    sub-models' blocks; heads, fusion and loss are computed in float32. Returns the sub-models'
    weights and a history as `train.fit` gives it; "samples" counts inputs, each of which passes
    through every sub-model. Raises TrainingError as soon as a loss is no number.
    """
    precision = resolved(train.precision)
    patches = architecture(configs[0]).kept_patches(configs[0], train.patch_dropout)
    distilled = train.feature_distillation > 0 and features is not None

    goals = [np.asarray(target, np.float32) for target in (targets, *group_targets)]
    variables = stacks.variables_of(configs, weights)
    if distilled:
        goals.append(standardised(features))
        rows = map_rows(epoch_indices, seed)
        x = inputs[rows]
        variables |= stacks.feature_map(configs, weights, goals[-1][rows], lambda j: x)

    trained = [*variables.values(), *fusion.trainable_variables]
    chosen = optimizer(train.optimizer, train.weight_decay, train.ema, precision)
    # "0/<name>" is N models' in one: each is clipped by itself, as where it is fitted alone.
    chosen.stacked = frozenset(id(v) for name, v in variables.items() if stacks.is_stacked(name))
    chosen.build(trained)
    feature_weight = train.feature_distillation if distilled else 0.0

    def loss_of(*batch):
        values = stacks.values_of(variables, precision)
        return _loss(configs, values, fusion, *batch, feature_weight)

    step = graph_of(loss_of, trained, chosen)
    steps = steps_an_epoch(len(epoch_indices(0)), train.batch_size)
    stream = batches(
        inputs,
        tuple(goals),
        epoch_indices,
        train.batch_size,
        train.augment,
        seed,
        patches,
        train.mix,
    )
    rng = np.random.default_rng([seed, 1])

    def one(number: int, batch: tuple) -> tuple[float, float]:
        x, truth = batch
        x, places = (x, None) if patches is None else (x["input"], x["kept"])
        present = drawn_presence(rng, train.batch_size, len(configs), missing_rate)
        return step(x, places, present, truth)

    history = run_steps(
        one,
        stream,
        trained,
        chosen,
        train,
        steps,
        title="joint",
        note=f"{len(configs)} sub-models",
        precision=precision,
    )
    fitted = stacks.weights_of(configs, variables, weights)
    for own in (*fitted, get_weights(fusion)):
        check_weights(own, "joint", train, precision)
    return fitted, history


def _loss(configs, values: Mapping, fusion, x, places, present, truth, feature_weight: float):
    """The loss (a scalar) and the fused probabilities (B, classes)."""
    own = stacks.features_of(configs, values, x, places, apart=False)
    side_by_side = tf.concat(own, axis=1)  # (B, sum d_j)

    fused = fusion({"features": side_by_side, "present": present})
    loss = tf.reduce_mean(keras.losses.categorical_crossentropy(truth[0], fused))

    for j, logits in enumerate(stacks.logits_of(values, own)):
        entropy = tf.nn.softmax_cross_entropy_with_logits(truth[1 + j], logits)
        loss += tf.reduce_mean(entropy) / len(configs)

    if feature_weight:
        loss += feature_weight * stacks.feature_distance(values, side_by_side, truth[-1])
    return loss, fused
