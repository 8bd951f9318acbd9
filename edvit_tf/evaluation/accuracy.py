"""Accuracy of probabilities, by window and by recording, and of a model that knows a group of the
classes alone.
"""

import numpy as np

from edvit_tf.training.recordings import per_recording

__all__ = ["accuracy", "base_accuracy", "confusion", "group_accuracy", "per_recording"]


def accuracy(probabilities: np.ndarray, labels: np.ndarray, recordings: np.ndarray) -> dict:
    """{"window", "recording": accuracies, "windows", "recordings": counts}; a recording is the mean
    of its windows.
    """
    by_recording, truth = per_recording(probabilities, labels, recordings)
    return {
        "window": float((probabilities.argmax(axis=1) == labels).mean()),
        "windows": len(labels),
        "recording": float((by_recording.argmax(axis=1) == truth).mean()),
        "recordings": len(truth),
    }


def confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> list[list[int]]:
    """Counts, rows = true class, columns = predicted class."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (truth, predicted), 1)
    return counts.tolist()


def group_accuracy(logits: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]) -> dict:
    """{"group", "all"} of a sub-model's logits (n, |C_j| + 1), or (n, |C_j|) where the group is all
    classes.

    "group" is the share of the samples of the group's own classes that is named right (None: there
    are no such samples); "all" the mean recall over the group's classes and "other", into which all
    other classes fall.
    """
    rows = {label: row for row, label in enumerate(classes)}
    truth = np.array([rows.get(int(label), len(classes)) for label in labels])  # "other" last
    return _accuracies(truth, logits.argmax(axis=1), len(classes))


def base_accuracy(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]) -> dict:
    """The same of a model of all classes, (n, classes), its answers outside the group taken for
    "other".
    """
    # class -> its row in the group, or that of "other"
    rows = np.full(probabilities.shape[1], len(classes))
    rows[list(classes)] = np.arange(len(classes))
    return _accuracies(rows[labels], rows[probabilities.argmax(axis=1)], len(classes))


def _accuracies(truth: np.ndarray, answers: np.ndarray, group_size: int) -> dict:
    right = truth == answers
    inside = truth < group_size  # not "other"

    # Every class counts alike, however many samples it has.
    recalls = [right[truth == row].mean() for row in np.unique(truth)]
    return {
        "group": float(right[inside].mean()) if inside.any() else None,
        "all": float(np.mean(recalls)),
    }
