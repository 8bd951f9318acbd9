"""The inputs of a run, stored once: every window is decoded into a memory map a split, from which
all fits read.
"""

from pathlib import Path

import numpy as np

from edvit_tf.evaluation.evaluate import SPLITS, materialise
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import Stages


def store_inputs(run: Run, folder: Path, dataset) -> dict:
    """Writes train.npy, validation.npy, test.npy and index.npz (labels and recordings of each);
    returns counts, mean and standard deviation by channel of the training inputs.
    """
    counts = {}
    index = {}
    for split in SPLITS:
        # Labels and recordings are small and stay in memory; the inputs do not.
        _, labels, recordings = materialise(dataset, split, folder)
        index[f"{split}_labels"] = labels
        index[f"{split}_recordings"] = recordings
        counts[split] = len(labels)
    np.savez(folder / "index.npz", **index)

    # numbers of pieces are names, and have no mean
    mean, std = np.zeros(1), np.ones(1)
    if not dataset.spec.is_text:
        mean, std = _moments(np.load(folder / "train.npy", mmap_mode="r"))
    return {
        "windows": counts,
        "description": dataset.describe(),
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by channel of (n, H, W, C), a piece of it in memory at a time."""
    sums = np.zeros(x.shape[-1])
    squares = np.zeros(x.shape[-1])

    # In float64: a sum over millions of pixels loses digits in float32.
    for start in range(0, len(x), 1024):
        piece = np.asarray(x[start : start + 1024], np.float64)
        sums += piece.sum(axis=(0, 1, 2))
        squares += np.square(piece).sum(axis=(0, 1, 2))

    total = x[..., 0].size
    mean = sums / total
    # The floor keeps a channel that never changes from a division by zero.
    return mean, np.sqrt(np.maximum(squares / total - mean**2, 1e-6))


class Split:
    """Stored inputs of a split: x (n, H, W, C) is a memory map, labels (n,) and recordings (n,) are
    arrays.
    """

    def __init__(self, stages: Stages, split: str):
        index = stages.arrays("data", "index.npz")
        self.x = stages.array("data", f"{split}.npy")
        self.labels = index[f"{split}_labels"]
        self.recordings = index[f"{split}_recordings"]
