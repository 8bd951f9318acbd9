"""All-class members of a fleet trained together, each with its own view of every sample, each
missing at random.

The loss is (1 - own_weight) * cross-entropy of the mean of the logits of those that are present +
own_weight * the mean of the members' own; with `feature_distillation` also the distance between the
base's features and the mean of the members' mapped ones.

It is `joint.py` without class groups and without a fusion of its own to fit; a fit of hours goes on
from its checkpoint.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.view import View
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.models.keras_settings import pinned
from edvit_tf.training import stacks
from edvit_tf.training.batches import member_batches, steps_an_epoch
from edvit_tf.training.finite import check_weights
from edvit_tf.training.fuse import drawn_presence
from edvit_tf.training.optimizers import optimizer
from edvit_tf.training.precision import resolved
from edvit_tf.training.steps import CHECKPOINT_SECONDS, Checkpoint, digest_of, graph_of, run_steps
from edvit_tf.training.train import Weights, history_of, map_rows, standardised

TITLE = "together"


@pinned()
def fit_together(
    configs: Sequence[ModelConfig],
    weights: Sequence[Mapping[str, np.ndarray]],
    inputs: np.ndarray,
    targets: np.ndarray,
    views: Sequence[View],
    train: TrainConfig,
    *,
    own_weight: float,
    missing_rate: float,
    epoch_indices: Callable[[int], np.ndarray],
    seed: int,
    features: np.ndarray | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    title: str = TITLE,
) -> tuple[list[Weights], dict]:
    """Trains N models of all classes, of one width or several, on `targets` (n, classes); returns
    their weights and a history as `train.fit` gives it.

    "samples" counts inputs, each of which passes through every member. `features` (n, f) are the
    base's, for train.feature_distillation. `checkpoint` is a file that is written every so many
    seconds and in the end: a killed fit goes on from it, with the weights of an unbroken one; who
    stored the weights removes it. `title` names the fit in what is printed. Raises TrainingError as
    soon as a loss is no number.
    """
    precision = resolved(train.precision)
    if train.epochs == 0:
        history = history_of([], [], samples=0, seconds=0.0, precision=precision)
        return [dict(own) for own in weights], history
    patches = architecture(configs[0]).kept_patches(configs[0], train.patch_dropout)
    distilled = train.feature_distillation > 0 and features is not None

    goals = [np.asarray(targets, np.float32)]
    variables = stacks.variables_of(configs, weights)
    if distilled:
        goals.append(standardised(features))
        rows = map_rows(epoch_indices, seed)
        x = inputs[rows]
        # N times as large: of each member it is a map by itself, and their mean is that of all
        variables |= stacks.feature_map(
            configs, weights, goals[-1][rows], lambda j: views[j].applied(x), times=len(configs)
        )

    trained = list(variables.values())
    chosen = optimizer(train.optimizer, train.weight_decay, train.ema, precision)
    chosen.stacked = frozenset(id(v) for name, v in variables.items() if stacks.is_stacked(name))
    chosen.build(trained)

    kept_up = None
    if checkpoint is not None:
        settings = {"own_weight": own_weight, "missing_rate": missing_rate, "seed": seed}
        about = _about(configs, views, train, precision, settings, [*trained, *goals])
        kept_up = Checkpoint(checkpoint, about, checkpoint_seconds)

    def loss_of(*batch):
        values = stacks.values_of(variables, precision)
        weight = train.feature_distillation if distilled else 0.0
        return loss(configs, values, *batch, own_weight, weight)

    step = graph_of(loss_of, trained, chosen)

    def one(number: int, batch: tuple) -> tuple[float, float]:
        x, places, truth = batch
        rng = np.random.default_rng([seed, 1, number])
        present = drawn_presence(rng, train.batch_size, len(configs), missing_rate)
        return step(x, places, present, truth)

    history = run_steps(
        one,
        member_batches(inputs, tuple(goals), epoch_indices, views, train, seed, patches),
        trained,
        chosen,
        train,
        steps_an_epoch(len(epoch_indices(0)), train.batch_size),
        title=title,
        note=f"{len(configs)} members" if len(configs) > 1 else "one model",
        precision=precision,
        checkpoint=kept_up,
    )
    fitted = stacks.weights_of(configs, variables, weights)
    for own in fitted:
        check_weights(own, title, train, precision)
    return fitted, history


def _about(
    configs: Sequence[ModelConfig],
    views: Sequence[View],
    train: TrainConfig,
    precision: str,
    settings: Mapping,
    arrays: Sequence,
) -> str:
    """Digest of the fit that a checkpoint is of."""
    described = {
        "configs": [config.to_dict() for config in configs],
        "views": [dataclasses.asdict(view) for view in views],
        "train": dataclasses.asdict(train),
        "precision": precision,
        **settings,
    }
    return digest_of(described, [np.asarray(value) for value in arrays])


def loss(
    configs: Sequence[ModelConfig],
    values: Mapping,
    x,
    places,
    present,
    truth,
    own_weight: float,
    feature_weight: float,
):
    """The loss (a scalar) and the fused logits (B, classes) of inputs (N, B, *input_shape), with
    `present` (B, N) of 0 and 1 and `truth` (targets (B, classes)[, the base's features]).
    """
    seen = stacks.features_of(configs, values, x, places, apart=True)
    logits = tf.stack(stacks.logits_of(values, seen))  # (N, B, classes)
    share = present / tf.reduce_sum(present, axis=1, keepdims=True)  # (B, N)

    fused = tf.einsum("nbc,bn->bc", logits, share)
    entropy = tf.nn.softmax_cross_entropy_with_logits
    own = tf.reduce_mean(entropy(tf.broadcast_to(truth[0], tf.shape(logits)), logits))
    total = (1 - own_weight) * tf.reduce_mean(entropy(truth[0], fused)) + own_weight * own

    if feature_weight:
        parts = [part * share[:, j : j + 1] for j, part in enumerate(seen)]
        apart = stacks.feature_distance(values, tf.concat(parts, axis=1), truth[1])
        total += feature_weight * apart
    return total, fused
