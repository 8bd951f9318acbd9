"""Whether probabilities mean what they say, and one temperature that mends them (Guo et al. 2017).
Numpy alone.
"""

import numpy as np

from edvit_tf.training.recordings import per_recording

BINS = 15
# Temperatures between which the search goes, and how many it looks at before it closes in.
LOW = 0.1
HIGH = 10.0
GRID = 33


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> float:
    """ECE, 0..1: samples in `bins` equal intervals of the highest probability (n, classes); the
    mean distance between confidence and accuracy of an interval, weighted by its samples.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # A confidence of 1 belongs to the last interval.
    places = np.minimum((confidence * bins).astype(int), bins - 1)

    distance = 0.0
    for place in np.unique(places):
        inside = places == place
        # |mean confidence - accuracy| of the interval, times its samples
        distance += abs(confidence[inside].sum() - right[inside].sum())
    return float(distance / len(labels))


def calibration_figures(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """{"ece", "nll"}: expected calibration error, and the mean negative log-likelihood in nats."""
    # The floor keeps a probability of 0 from an infinite loss.
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "nll": float(-np.log(likelihood).mean()),
    }


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T): the same order of the classes, flatter for T above 1."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    # The largest becomes 0, so that no exponential overflows.
    e = np.exp(logs - logs.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def best_temperature(
    probabilities: np.ndarray,
    labels: np.ndarray,
    recordings: np.ndarray | None = None,
    low: float = LOW,
    high: float = HIGH,
) -> float:
    """T in `low`..`high` with the least negative log-likelihood of `labels` (n,), by recording: a
    recording's probabilities are the mean of its windows', each at T. `recordings` None: each
    window is one.

    Not below 1 where all windows are named right: the likelihood then grows to T = 0, however few
    samples say so. `bound_of` tells of a search that ended where it was not allowed to go on.
    """
    if recordings is None:
        recordings = np.arange(len(labels))
    if (probabilities.argmax(axis=1) == labels).all():
        low = max(low, 1.0)

    def loss(log_temperature: float) -> float:
        p = tempered(probabilities, float(np.exp(log_temperature)))
        return calibration_figures(*per_recording(p, labels, recordings))["nll"]

    # A mean of several windows may have more than one minimum: around the best of a grid.
    grid = np.linspace(np.log(low), np.log(high), GRID)
    best = int(np.argmin([loss(one) for one in grid]))
    left = grid[max(0, best - 1)]
    right = grid[min(GRID - 1, best + 1)]

    # Each step keeps the part of the interval that has the minimum.
    ratio = (5**0.5 - 1) / 2
    for _ in range(30):
        a = right - ratio * (right - left)
        b = left + ratio * (right - left)
        if loss(a) <= loss(b):
            right = b
        else:
            left = a
    return float(np.exp((left + right) / 2))


def bound_of(temperature: float, probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """The bound at which the search of `best_temperature` ended, or None: the likelihood grows on
    beyond it, so the data are too few, or all alike, to say where it ends.
    """
    bounds = [LOW, HIGH]
    if (probabilities.argmax(axis=1) == labels).all():
        bounds.append(1.0)

    for bound in bounds:
        if abs(np.log(temperature / bound)) < 1e-3:
            return bound
    return None
