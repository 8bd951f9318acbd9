"""How large a sub-model's answers are: measured at export on real inputs, so that an aggregator
sees answers that no input gives, such as zeros or 3e38.

Three figures of each answer are kept, over all samples the least and the most: its values, their
root mean square, and their spread (standard deviation) within one answer. The first two tell
numbers that are too large or too small, the last an answer of equal numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# How far beyond the measured an answer may lie. The samples are some hundred of the data, with made
# ones at their edges (black, white, noise). Features end in a LayerNorm: black pictures move their
# root mean square by less than 1 %, a flavour of lower precision by less than 20 %. Logits may be
# near to each other in an input of no class.
REACH = 1.0  # of values: so many times the measured width beyond either end
FEATURES_SCALE = 2.0  # of root mean square and spread: a factor either way
LOGITS_SCALE = 16.0


@dataclass(frozen=True)
class TensorRange:
    """The least and the most over samples of one output, and of each sample's figures."""

    values: tuple[float, float]
    rms: tuple[float, float]
    spread: tuple[float, float]

    def why_not(self, answer: np.ndarray, scale: float) -> str | None:
        """Why an answer (1, d) of float32 is far from all that were measured, for people; None
        where it is not. `scale` is the factor that root mean square and spread may be off.
        """
        if not answer.size or not np.isfinite(answer).all():
            return "numbers that are none; expected finite ones"

        reach = REACH * (self.values[1] - self.values[0])
        least, most = self.values[0] - reach, self.values[1] + reach
        wide = answer.astype(np.float64)  # the square of 3e38 is no float32
        if wide.min() < least or wide.max() > most:
            return f"{wide.min():.3g} to {wide.max():.3g}; expected {least:.3g} to {most:.3g}"

        figures = (
            ("a root mean square", _rms(wide), self.rms),
            ("a spread", float(wide.std()), self.spread),
        )
        for words, found, measured in figures:
            low, high = measured[0] / scale, measured[1] * scale
            if not low <= found <= high:
                return f"{words} of {found:.3g}; expected {low:.3g} to {high:.3g}"

        return None

    def to_dict(self) -> dict[str, list[float]]:
        """As the manifest has it."""
        return {
            "values": list(self.values),
            "rms": list(self.rms),
            "spread": list(self.spread),
        }


@dataclass(frozen=True)
class AnswerRanges:
    """The ranges of a sub-model's two outputs, and how many samples they are of."""

    samples: int
    features: TensorRange
    logits: TensorRange

    def why_not(self, features: np.ndarray, logits: np.ndarray | None) -> str | None:
        """Why an answer is far from all that were measured, for people; None where it is not."""
        why = self.features.why_not(features, FEATURES_SCALE)
        if why is not None:
            return f"features: got {why}"

        if logits is not None:
            why = self.logits.why_not(logits, LOGITS_SCALE)
            if why is not None:
                return f"logits: got {why}"

        return None

    def to_dict(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {
            "samples": self.samples,
            "features": self.features.to_dict(),
            "logits": self.logits.to_dict(),
        }


def answer_ranges(features: np.ndarray, logits: np.ndarray) -> AnswerRanges:
    """The ranges of answers: features (n, d), logits (n, classes), n of 1 or more."""
    return AnswerRanges(len(features), _tensor_range(features), _tensor_range(logits))


def _tensor_range(answers: np.ndarray) -> TensorRange:
    wide = answers.astype(np.float64)
    rms = [_rms(row) for row in wide]
    spread = wide.std(axis=1)
    return TensorRange(
        values=(float(wide.min()), float(wide.max())),
        rms=(min(rms), max(rms)),
        spread=(float(spread.min()), float(spread.max())),
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
