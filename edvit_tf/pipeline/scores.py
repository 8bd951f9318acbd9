"""Scores of probabilities on a split, by window and by recording, alone and against another's."""

import numpy as np

from edvit_tf.evaluation.accuracy import accuracy, per_recording
from edvit_tf.evaluation.paired import paired
from edvit_tf.pipeline.inputs import Split


def score(split: Split, probabilities: np.ndarray) -> dict:
    """Accuracy of probabilities (n, classes) on a split (`accuracy`)."""
    return accuracy(probabilities, split.labels, split.recordings)


def paired_answers(p: np.ndarray, reference: np.ndarray, test: Split) -> dict:
    """Probabilities (n, classes) against others, by what they name each recording (`paired`)."""
    one, truth = per_recording(p, test.labels, test.recordings)
    other, _ = per_recording(reference, test.labels, test.recordings)
    return paired(one.argmax(axis=1), other.argmax(axis=1), truth)
