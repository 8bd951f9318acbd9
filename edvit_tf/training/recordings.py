"""From windows to recordings: a recording's probabilities are the mean of its windows'."""

import numpy as np


def per_recording(
    probabilities: np.ndarray, labels: np.ndarray, recordings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities (recordings, classes) and labels (recordings,)."""
    # position: of each window the row of its recording
    _, first, position = np.unique(recordings, return_index=True, return_inverse=True)
    # Unbuffered: `sums[position] += ...` would count a recording once, however many its windows.
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, position.ravel(), probabilities)
    return sums / np.bincount(position.ravel())[:, None], labels[first]
