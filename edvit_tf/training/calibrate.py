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
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[places == b].sum() - right[places == b].sum()) for b in np.unique(places)
    ]
    return float(sum(gaps) / len(labels))


def calibration_figures(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """{"ece", "nll"}: expected calibration error, and the mean negative log-likelihood in nats."""
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "nll": float(-np.log(likelihood).mean()),
    }


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T): the same order of the classes, flatter for T above 1."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
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
    ratio = (5**0.5 - 1) / 2
    if (probabilities.argmax(axis=1) == labels).all():
        low = max(low, 1.0)
    left, right = np.log(low), np.log(high)

    def loss(log_temperature):
        return calibration_figures(tempered(probabilities, float(np.exp(log_temperature))), labels)[
            "nll"
        ]

    for _ in range(40):
        a, b = right - ratio * (right - left), left + ratio * (right - left)
        left, right = (left, b) if loss(a) <= loss(b) else (a, right)
    return float(np.exp((left + right) / 2))
