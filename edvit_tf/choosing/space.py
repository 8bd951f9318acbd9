"""What `--tune` searches: settings of the base's fit, around those of the table."""

from dataclasses import dataclass

from edvit_tf.config import TrainConfig
from edvit_tf.errors import ConfigError

# Ways of augmenting that are tried in the place of the table's: none mirrors what it does not.
AUGMENTED = {
    "shift_flip": ("shift_flip", "shift", "none"),
    "shift": ("shift", "none"),
    "affine": ("affine", "shift", "none"),
    "mask": ("mask", "shift", "none"),
}
RATE_FACTOR = 4.0  # of the table's, either way


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn evenly, or evenly in their logarithm."""

    low: float
    high: float
    is_log: bool = True


# field of a TrainConfig -> what it may be
Space = dict[str, Range | tuple[str, ...]]


def space_of(fit: TrainConfig) -> Space:
    """What may be tried in the place of the fit that the table says; its epochs and batches stay,
    so that every trial costs the same.
    """
    return {
        "learning_rate": Range(fit.learning_rate / RATE_FACTOR, fit.learning_rate * RATE_FACTOR),
        "weight_decay": Range(0.005, 0.5),
        "label_smoothing": Range(0.0, 0.2, is_log=False),
        **_varied(fit),
    }


def _varied(fit: TrainConfig) -> Space:
    """How inputs may be varied; texts are trained on as they are."""
    if fit.augment == "none":
        return {}
    return {
        "augment": AUGMENTED.get(fit.augment, (fit.augment, "none")),
        "mix": ("none", "mixup"),
    }


def check_tunable(minutes: float) -> None:
    """Raises ConfigError where optuna is missing, or for minutes that are none."""
    if not 0 < minutes < float("inf"):
        raise ConfigError(f"--tune is {minutes:g} minutes; it must be more than 0.")
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--tune searches with optuna, which is not installed. Run pip install "
            "optuna (or, in a clone of edvit_tf: pip install -e '.[tune]'), or leave --tune out."
        ) from error
