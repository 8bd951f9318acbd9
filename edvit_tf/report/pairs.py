"""Two ways to use the devices, recording by recording where their answers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from edvit_tf.evaluation.paired import paired
from edvit_tf.evaluation.predictions import FUSED, stored_top1
from edvit_tf.report.entries import Comparison
from edvit_tf.report.figures import difference
from edvit_tf.report.options import Way
from edvit_tf.report.results import Results


class Pairs:
    """Comparisons of any two ways that were measured, by what a bundle's folder stores."""

    def __init__(self, results: Results, folder: Path | None = None):
        self._results = results
        self._named: dict[str, np.ndarray] = {}
        self._labels = np.zeros(0, np.int64)
        if folder is not None:
            self._named, self._labels = stored_top1(folder)

    def compare(self, first: Way, second: Way) -> Comparison:
        """The first against the second: paired, or where their answers are not known by accuracies
        alone, as independent samples.
        """
        one, other = first.predictions, second.predictions
        if one in self._named and other in self._named:
            assert one is not None and other is not None
            return Comparison(**paired(self._named[one], self._named[other], self._labels))

        # What the run compared itself: the fused fleet with each of the others.
        stored = self._results.comparisons
        if one == FUSED and other in stored:
            return stored[other]
        if other == FUSED and one in stored:
            return _turned(stored[one])

        assert first.accuracy is not None and second.accuracy is not None
        a, b = first.accuracy.recording, second.accuracy.recording
        count = second.accuracy.recordings
        low, high = difference(a, b, count)
        return Comparison(count, a - b, low, high)


def _turned(found: Comparison) -> Comparison:
    """The second against the first."""
    return replace(
        found,
        difference=-found.difference,
        low=-found.high,
        high=-found.low,
        first_only=found.second_only,
        second_only=found.first_only,
    )
