"""What may be expected of so many files: said before hours of training, not after."""

import math
from collections.abc import Sequence

from edvit_tf.data.folder import Survey

FEW_FILES = 20  # of a class to train on; with fewer its own accuracy cannot be told
LOPSIDED = 5  # times as many files in the largest class as in the smallest
LIKELY = 0.85  # accuracy for which the width of an interval is told
NORMAL_95 = 1.96


def expectations(found: Survey, dataset) -> list[str]:
    """A sentence each on small classes, unbalanced ones, and a small test split."""
    said = []
    trained = _per_class(dataset, "train")
    few = [label for label in found.labels if trained[label] < FEW_FILES]
    if few:
        said.append(
            f"{_named(few, trained)} {'has' if len(few) == 1 else 'have'} fewer than {FEW_FILES} "
            f"{found.items} to train on: from scratch expect little of "
            f"{'it' if len(few) == 1 else 'them'}; a pretrained base needs fewer, and 50 help."
        )

    counts = found.per_class
    largest = max(counts, key=lambda label: counts[label])
    smallest = min(counts, key=lambda label: counts[label])
    if counts[largest] > LOPSIDED * counts[smallest]:
        share = counts[largest] / sum(counts.values())
        said.append(
            f"{largest!r} has {found.counted(counts[largest])}, {smallest!r} {counts[smallest]}: "
            f"always answering {largest!r} would be right in {share:.0%}, and answers lean to it. "
            "Look at the accuracy of each class."
        )

    tested = len(dataset.recordings("test"))
    points = 100 * interval(LIKELY, tested)
    said.append(
        f"The test split has {found.counted(tested)}: an accuracy of {LIKELY:.0%} on it is "
        f"known to +-{points:.0f} points."
    )
    return said


def interval(accuracy: float, count: int) -> float:
    """Half the width of a 95 % interval of an accuracy on `count` files (normal approximation)."""
    return NORMAL_95 * math.sqrt(accuracy * (1 - accuracy) / max(count, 1))


def _per_class(dataset, split: str) -> dict[str, int]:
    counts = dict.fromkeys(dataset.labels, 0)
    for recording in dataset.recordings(split):
        counts[dataset.labels[recording.label]] += 1
    return counts


def _named(labels: Sequence[str], counts: dict[str, int]) -> str:
    shown = ", ".join(f"{label!r} ({counts[label]})" for label in labels[:5])
    more = len(labels) - 5
    return f"{shown} and {more} more classes" if more > 0 else shown
