"""How a training budget is divided between the one model and the fleet. The unit is an epoch of the
one model: all training samples through it once.
"""

from dataclasses import dataclass

from edvit_tf.config import RunConfig
from edvit_tf.planning.fleets import BREAK_EVEN_EPOCHS

# Of a budget for members that are trained together from the one model: its own part.
SINGLES_PART = 0.5


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


def divided(
    config: RunConfig, epochs: float, num_classes: int, num_cuts: int, members: int, splits: bool
) -> Division:
    """The configuration with fits that take `epochs` of the one model in all; one epoch of each at
    least.

    A class split (`splits`) gives its sub-models the fits that are configured, and the shared
    training the rest. Copies give all of it to the one model. `members` that are trained together
    get half of it, if that is enough for them to win over the one model by.
    """
    if splits:
        return Division(_of_split(config, epochs, num_classes, num_cuts), 0.0)

    each = (1 - SINGLES_PART) * epochs / members
    if config.fleet != "joint" or each < BREAK_EVEN_EPOCHS:
        member_epochs = each if config.fleet == "joint" else 0.0
        return Division(_of_single(config, epochs, num_cuts), member_epochs)

    training = config.fleet_training or config.stage_training
    config = config.replace(fleet_training=training.replace(epochs=round(each)))
    return Division(_of_single(config, SINGLES_PART * epochs, num_cuts), each)


def _of_single(config: RunConfig, epochs: float, num_cuts: int) -> RunConfig:
    """The one model gets all of it: in one fit, or in one after each cut."""
    if config.shared_training is None:
        # a fleet that is trained together keeps the fit that it would have had
        fleet_training = config.fleet_training or config.stage_training
        training = config.stage_training.replace(epochs=_whole(epochs / num_cuts))
        return config.replace(stage_training=training, fleet_training=fleet_training)

    training = config.shared_training.replace(epochs=_whole(epochs))
    return config.replace(shared_training=training)


def _of_split(config: RunConfig, epochs: float, num_classes: int, num_cuts: int) -> RunConfig:
    """Each sub-model sees its classes and as much of "other" as of one."""
    own = config.stage_training
    share = (num_classes + config.group_count * own.other_weight) / num_classes
    if config.shared_training is None:
        return config.replace(
            stage_training=own.replace(epochs=_whole(epochs / (num_cuts * share)))
        )

    left = epochs - own.epochs * share
    return config.replace(shared_training=config.shared_training.replace(epochs=_whole(left)))


def _whole(epochs: float) -> int:
    return max(1, round(epochs))
