"""Whether probabilities mean what they say, and one temperature that mends them (Guo et al. 2017).
Numpy alone.
"""

import numpy as np

BINS = 15


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
    probabilities: np.ndarray, labels: np.ndarray, low: float = 0.1, high: float = 10.0
) -> float:
    """T in `low`..`high` with the least negative log-likelihood of `labels` (n,): golden section
    over log T.

    Not below 1 where all labels are named right: the likelihood then grows to T = 0, however few
    samples say so.
    """
    if (probabilities.argmax(axis=1) == labels).all():
        low = max(low, 1.0)

    def loss(log_temperature):
        p = tempered(probabilities, float(np.exp(log_temperature)))
        return calibration_figures(p, labels)["nll"]

    # Each step keeps the part of the interval that has the minimum.
    ratio = (5**0.5 - 1) / 2
    left, right = np.log(low), np.log(high)
    for _ in range(40):
        a = right - ratio * (right - left)
        b = left + ratio * (right - left)
        if loss(a) <= loss(b):
            right = b
        else:
            left = a
    return float(np.exp((left + right) / 2))
