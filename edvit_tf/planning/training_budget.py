"""How a training budget is divided between the one model and the fleet. The unit is an epoch of the
one model: all training samples through it once.
"""

import math
from dataclasses import dataclass

from edvit_tf.config import RunConfig
from edvit_tf.errors import ConfigError
from edvit_tf.planning.fleets import BREAK_EVEN_EPOCHS

# Of a budget for members that are trained together from the one model: its own part.
SINGLES_PART = 0.5
# For a joint training that is one of the ways of fusing to choose from, at most.
JOINT_PART = 0.25


@dataclass(frozen=True)
class Division:
    """A configuration whose fits take the budget, and the epochs that each member of a fleet that
    is trained together would get (0: none is to be trained).
    """

    config: RunConfig
    member_epochs: float


def in_epochs(budget: str, epoch_seconds: float | None = None) -> float:
    """Epochs of the one model that a budget like "16e" or "90m" allows; `epoch_seconds` is what one
    takes, which minutes need.
    """
    amount = float(budget[:-1])
    if budget.endswith("e"):
        return amount
    if epoch_seconds is None:
        raise ValueError(f"the budget is {budget}; the seconds of an epoch are needed.")
    return amount * 60 / epoch_seconds


@dataclass(frozen=True)
class Shares:
    """What an epoch of a class split's fits takes, in epochs of the one model."""

    own: float  # of every sub-model's own fit
    shared: float = 1.0  # of every model of all classes where these start, one a width
    joint: float = 1.0  # of all sub-models trained on together


def divided(
    config: RunConfig, epochs: float, num_cuts: int, members: int, shares: Shares | None
) -> Division:
    """The configuration with fits that take `epochs` of the one model in all, or a part of an epoch
    less; the one model has one at least.

    A class split, of which `shares` says what an epoch of its fits takes (None: the fleet is no
    class split), gives its sub-models the fits that are configured, or as many epochs of those as
    there is room for, and the shared training the rest: ConfigError where one each is too much.
    Copies give all of it to the one model. `members` that are trained together from the one model
    get half of it, if that is enough for them to win over the one model by; what their whole epochs
    leave is the one model's. Members that start from cuts owe the one model nothing: they get all
    of it, and so does the one model, which is their rival.
    """
    if shares is not None:
        return Division(_of_split(config, epochs, num_cuts, shares), 0.0)

    from_single = config.fleet_start == "model"
    each = (1 - SINGLES_PART if from_single else 1) * epochs / members
    if config.fleet != "joint" or each < BREAK_EVEN_EPOCHS:
        member_epochs = each if config.fleet == "joint" else 0.0
        return Division(_of_single(config, epochs, num_cuts), member_epochs)

    own = _whole(each)
    training = config.fleet_training or config.stage_training
    config = config.replace(fleet_training=training.replace(epochs=own))
    left = epochs - members * own if from_single else epochs
    return Division(_of_single(config, left, num_cuts), float(own))


def _of_single(config: RunConfig, epochs: float, num_cuts: int) -> RunConfig:
    """The one model gets all of it: in one fit, or in one after each cut."""
    if config.shared_training is None:
        # a fleet that is trained together keeps the fit that it would have had
        fleet_training = config.fleet_training or config.stage_training
        training = config.stage_training.replace(epochs=max(1, _whole(epochs / num_cuts)))
        return config.replace(stage_training=training, fleet_training=fleet_training)

    training = config.shared_training.replace(epochs=max(1, _whole(epochs)))
    return config.replace(shared_training=training)


def _of_split(config: RunConfig, epochs: float, num_cuts: int, shares: Shares) -> RunConfig:
    """The sub-models' own fits, and a shared training before them; first a joint training, where
    that is one of the ways of fusing to choose from.
    """
    own, shared = config.stage_training, config.shared_training
    if shared is None:
        least = num_cuts * shares.own
    else:
        least = shares.shared + (shares.own if own.epochs else 0)

    if epochs < least and not math.isclose(epochs, least):
        raise ConfigError(
            f"training_budget is {config.training_budget!r}, {epochs:.3g} epochs of the one model; "
            f"one epoch of each fit of this class split takes {least:.3g}. Give it "
            f'"{math.ceil(10 * least - 1e-6) / 10:g}e" or more, or take --fleet copies.'
        )
    config, epochs = _with_joint(config, epochs, least, shares)

    if shared is None:
        count = _whole(epochs / least)
        return config.replace(stage_training=own.replace(epochs=count))
    count = min(own.epochs, _whole((epochs - shares.shared) / shares.own))
    config = config.replace(stage_training=own.replace(epochs=count))
    left = max(1, _whole((epochs - count * shares.own) / shares.shared))
    return config.replace(shared_training=shared.replace(epochs=left))


def _with_joint(
    config: RunConfig, epochs: float, least: float, shares: Shares
) -> tuple[RunConfig, float]:
    """The configuration whose joint training, if it is there to choose from, takes JOINT_PART of
    the budget at most (none where that is not an epoch), and the epochs that are left.
    """
    if config.fusion != "auto" or config.joint_training is None:
        return config, epochs
    room = min(JOINT_PART * epochs, epochs - least)
    count = min(config.joint_training.epochs, _whole(room / shares.joint))
    if count < 1:
        return config.replace(joint_training=None), epochs
    joint = config.joint_training.replace(epochs=count)
    return config.replace(joint_training=joint), epochs - count * shares.joint


def _whole(epochs: float) -> int:
    """Whole epochs in so many, where 2.9999999 are 3."""
    return math.floor(epochs + 1e-6)
