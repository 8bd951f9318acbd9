"""Several fits of models of one configuration at once, by JAX: a step of all of them is one
vectorised, compiled step. In the process of that backend (`backend_process.py`).

A small model leaves most of an accelerator idle. Its members' weights, moments and batches stand
side by side on a first axis of N, and `jax.vmap` makes one program of N steps. Each member has the
batches, the rates and the weights that it would have alone, up to rounding.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from edvit_tf.config import TrainConfig
from edvit_tf.models import ModelConfig
from edvit_tf.models.keras_settings import pinned
from edvit_tf.models.weights import get_weights
from edvit_tf.training.backend import Listed, check_fit_elsewhere, other_process
from edvit_tf.training.finite import check_loss, check_weights
from edvit_tf.training.optimizers import learning_rate
from edvit_tf.training.precision import resolved
from edvit_tf.training.train import Prepared, Weights, history_of, prepared
from edvit_tf.training.trainer import STEPS, losses_of
from edvit_tf.training.watched import tell_epoch

# Variables of a fit: (trained, other, of the optimizer), each a list of arrays.
State = tuple[list, list, list]


@pinned()
def fit_side_by_side(
    config: ModelConfig,
    weights: Sequence[Mapping[str, np.ndarray]],
    inputs: np.ndarray,
    targets: Sequence[np.ndarray],
    train: TrainConfig,
    *,
    epoch_indices: Sequence[Callable[[int], np.ndarray]],
    seeds: Sequence[int],
    features: np.ndarray | None = None,
    titles: Sequence[str],
) -> list[tuple[Weights, dict]]:
    """What `fit` gives for each of N models of `config`, which are fitted at once: (weights,
    history) of each.

    `inputs` (n, H, W, C) and `features` (n, f) are the same for all; member j has weights[j],
    targets[j] (n, num_classes), epoch_indices[j] and seeds[j], and ends with its own last epoch,
    however long the others' are. A history's seconds are those of all members together, divided by
    N. Raises as `fit` does.
    """
    process = other_process()
    if process is not None:
        check_fit_elsewhere(config, process.backend, ())
        return process.call(
            "fit_side_by_side",
            config=config,
            weights=[dict(one) for one in weights],
            inputs=inputs,
            targets=list(targets),
            train=train,
            epoch_indices=[Listed(rows, train.epochs) for rows in epoch_indices],
            seeds=list(seeds),
            features=features,
            titles=list(titles),
        )

    started = time.perf_counter()
    precision = resolved(train.precision)
    readies, states = [], []
    for one, goal, rows, seed in zip(weights, targets, epoch_indices, seeds, strict=True):
        ready = prepared(config, one, inputs, goal, train, rows, seed, features, precision)
        readies.append(ready)
        # the next member takes the same model: what this one starts from is kept
        states.append(_state_of(ready.trainer))

    state, told = _fitted(readies, _stacked(states), train, titles, precision)
    seconds = (time.perf_counter() - started) / len(readies)
    found = []
    for j, (ready, title) in enumerate(zip(readies, titles, strict=True)):
        _put(ready.trainer, [[value[j] for value in part] for part in state])
        ready.trainer.optimizer.finalize_variable_values(ready.trainer.trainable_variables)
        fitted = ready.back(get_weights(ready.model))
        check_weights(fitted, title, train, precision)

        own = told[j].reshape(train.epochs, ready.steps, 2).mean(axis=1)
        history = history_of(
            own[:, 0],
            own[:, 1],
            samples=train.epochs * ready.steps * train.batch_size,
            seconds=seconds,
            precision=precision,
        )
        found.append((fitted, history))
    return found


def _fitted(
    readies: Sequence[Prepared],
    state: State,
    train: TrainConfig,
    titles: Sequence[str],
    precision: str,
) -> tuple[State, list[np.ndarray]]:
    """The state after all steps, and (steps, 2) loss and accuracy of each member's own."""
    step = step_of(readies[0].trainer, train.feature_distillation)
    totals = [train.epochs * ready.steps for ready in readies]
    streams = [ready.batches() for ready in readies]
    batch: list = [None] * len(readies)
    told: list[list] = [[] for _ in readies]
    begun = time.monotonic()

    for number in range(max(totals)):
        # a member that has ended steps on with its last batch, and what comes of it is dropped
        at_work = np.array([number < total for total in totals])
        for j in np.flatnonzero(at_work):
            batch[j] = _as_trained(readies[j], next(streams[j]))
        rates = [learning_rate(train, min(number, total - 1), total) for total in totals]
        x, goals = _stacked(batch)
        state, losses, shares = step(state, x, goals, np.array(rates, np.float32), at_work)

        losses, shares = np.asarray(losses), np.asarray(shares)  # all at once, from a GPU
        for j in np.flatnonzero(at_work):
            epoch, place = divmod(number, readies[j].steps)
            loss, share = float(losses[j]), float(shares[j])
            check_loss(loss, titles[j], epoch, place, train, precision)
            told[j].append((loss, share))
            if place + 1 == readies[j].steps:
                mean = np.mean(told[j][-readies[j].steps :], axis=0)
                spent = time.monotonic() - begun
                tell_epoch(titles[j], epoch, train.epochs, mean[0], mean[1], spent)
    return state, [np.array(one) for one in told]


@functools.lru_cache(maxsize=4)  # each is compiled once for a number of members
def step_of(trainer: keras.Model, feature_weight: float) -> Callable:
    """A step of N fits: (state, inputs, goals, rates (N,), who is at work (N,)) -> state, losses
    (N,), shares of right answers (N,). All but the rates have a first axis of N.
    """
    import jax
    import jax.numpy as jnp

    optimizer = trainer.optimizer
    rate_at = [v.path for v in optimizer.variables].index(f"{optimizer.name}/learning_rate")
    losses, weights_of = losses_of(tuple(trainer.output), feature_weight)

    def loss_of(trained, other, x, goals):
        answers, other = trainer.stateless_call(trained, other, x, training=True)
        loss = 0.0
        for name, one in losses.items():
            value = jnp.mean(keras.losses.get(one)(goals[name], answers[name]))
            loss += (weights_of or {}).get(name, 1.0) * value
        right = jnp.argmax(answers["logits"], axis=-1) == jnp.argmax(goals["logits"], axis=-1)
        return loss, (other, jnp.mean(right.astype(jnp.float32)))

    def step(state, x, goals, rate, is_at_work):
        trained, other, moments = state
        moments = [rate if i == rate_at else value for i, value in enumerate(moments)]
        (loss, (after, share)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trained, other, x, goals
        )
        stepped, moved = optimizer.stateless_apply(moments, gradients, trained)
        new = (stepped, after, moved)
        kept = jax.tree.map(lambda a, b: jnp.where(is_at_work, a, b), new, state)
        return kept, loss, share

    return jax.jit(jax.vmap(step), donate_argnums=0)


def _state_of(trainer: keras.Model) -> State:
    return (
        [np.asarray(v.value) for v in trainer.trainable_variables],
        [np.asarray(v.value) for v in trainer.non_trainable_variables],
        [np.asarray(v.value) for v in trainer.optimizer.variables],
    )


def _put(trainer: keras.Model, state: Sequence[Sequence]) -> None:
    variables = (
        trainer.trainable_variables,
        trainer.non_trainable_variables,
        trainer.optimizer.variables,
    )
    for part, values in zip(variables, state, strict=True):
        for variable, value in zip(part, values, strict=True):
            variable.assign(value)


def _stacked(members: Sequence[Any]) -> Any:
    """Trees of one form, leaf by leaf on a first axis of N."""
    import jax

    return jax.tree.map(lambda *leaves: np.stack(leaves), *members)


def _as_trained(ready: Prepared, drawn: tuple) -> tuple:
    """A batch as the trainer takes it: inputs as float32, numbers of patches as they are, goals by
    output.
    """
    x, y = drawn
    if isinstance(x, dict):
        x = {"input": x["input"].astype(np.float32), "kept": x["kept"]}
    else:
        x = np.asarray(x, np.float32)
    goals = dict(zip(ready.goals, y, strict=True))
    if STEPS in ready.trainer.output:
        goals[STEPS] = goals["logits"]
    return x, goals
