"""The inputs of a run, stored once: every window decoded once into a memory map a split, from which
all fits read.
"""

from pathlib import Path

import numpy as np

from edvit_tf.pipeline.store import Stages


def store_inputs(folder: Path, dataset) -> dict:
    from edvit_tf.evaluation.evaluate import materialise

    counts, index = {}, {}
    for split in ("train", "validation", "test"):
        _, index[f"{split}_labels"], index[f"{split}_recordings"] = materialise(
            dataset, split, folder
        )
        counts[split] = len(index[f"{split}_labels"])
    np.savez(folder / "index.npz", **index)
    train = np.load(folder / "train.npy", mmap_mode="r")
    sums, squares = np.zeros(train.shape[-1]), np.zeros(train.shape[-1])
    for start in range(0, len(train), 1024):
        piece = np.asarray(train[start : start + 1024], np.float64)
        sums += piece.sum(axis=(0, 1, 2))
        squares += np.square(piece).sum(axis=(0, 1, 2))
    total = train[..., 0].size
    mean = sums / total
    std = np.sqrt(np.maximum(squares / total - mean**2, 1e-6))
    return {
        "windows": counts,
        "description": dataset.describe(),
        "mean": [float(v) for v in mean],
        "std": [float(v) for v in std],
    }


class Split:
    """Stored inputs of a split: x is a memory map, labels and recordings are arrays."""

    def __init__(self, stages: Stages, split: str):
        index = stages.arrays("data", "index.npz")
        self.x = np.load(stages.path("data", f"{split}.npy"), mmap_mode="r")
        self.labels, self.recordings = index[f"{split}_labels"], index[f"{split}_recordings"]
