"""Milliseconds of a sub-model before it is made: an estimate, from the work of its operators and a
calibration of one processor, runtime and number of threads.

    ms = sum over kinds of work of (how much of it) * (ms each)

How much of it an architecture counts (`latency_terms`); what each costs is fitted to files that
were timed (`edvit_tf.bench.calibrate`). So it holds for the processor that they were timed on, and
for a quiet one: what else runs there makes all of it slower.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.checked import Checked
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig, architecture

FORMAT = 1


@dataclass(frozen=True)
class Speed(Checked):
    """What each kind of work costs in one runtime, with one number of threads."""

    runtime: str
    threads: int
    target: str  # of the files that were timed, as of an export
    vector: int  # floats that are computed together, as fits best
    ms_each: Mapping  # kind of work -> milliseconds of one
    # of files that the fit has not seen, percent of their measured milliseconds
    mean_error_percent: float
    largest_error_percent: float
    held_out: int  # files

    def check(self) -> None:
        for name in ("threads", "vector"):
            self._require(getattr(self, name) >= 1, name, "it must be at least 1")
        sound = all(_is_cost(value) for value in self.ms_each.values())
        self._require(sound, "ms_each", "each must be a number, 0 or more")
        self._require(any(self.ms_each.values()), "ms_each", "one at least must be above 0")
        for name in ("mean_error_percent", "largest_error_percent"):
            self._require(0 <= getattr(self, name) < math.inf, name, "it must be finite, 0 or more")

    def milliseconds(self, config: ModelConfig) -> float | None:
        """Of one input; None for an architecture whose work nobody has counted.

        Raises ConfigError where the calibration lacks a kind of work that is counted now.
        """
        counted = getattr(architecture(config), "latency_terms", None)
        if counted is None:
            return None
        terms = counted(config, self.vector)
        missing = sorted(set(terms) - set(self.ms_each))
        if missing:
            raise ConfigError(
                f"the calibration of {self.runtime} tells no cost of {', '.join(missing)}; it is "
                "of another version. Run `edvit bench calibrate` again."
            )
        return sum(amount * self.ms_each[name] for name, amount in terms.items())


@dataclass(frozen=True)
class Calibration(Checked):
    """A processor, as it was timed: `edvit bench calibrate --out FILE` writes it."""

    processor: str
    speeds: tuple[Speed, ...]
    format: int = FORMAT

    def check(self) -> None:
        self._require(self.format == FORMAT, "format", f"this version reads {FORMAT}")
        self._require(bool(self.speeds), "speeds", "there must be one at least")


def _is_cost(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def read_calibration(path: Path) -> Calibration:
    """The file of a calibration. Raises ConfigError for one that is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ConfigError(f"it is a {type(values).__name__}, and not an object")
        return Calibration.from_dict(values)
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise ConfigError(
            f"{path} is no calibration of a processor: {error}. Make one with `edvit bench "
            "calibrate --out FILE` on that processor."
        ) from error
