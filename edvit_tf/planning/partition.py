"""Class groups: which sub-model answers for which classes (Algorithm 1, lines 3-5)."""

from collections.abc import Sequence

import numpy as np

from edvit_tf.config import STRATEGIES
from edvit_tf.errors import PlanError


def partition(
    num_classes: int,
    num_groups: int,
    strategy: str = "random",
    seed: int = 0,
    similarity: Sequence[Sequence[float]] | np.ndarray | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Splits the classes 0..num_classes-1 into `num_groups` sorted groups whose sizes differ by one
    at most.

    `random` (the paper's) shuffles by `seed`. `similar` puts classes that resemble each other into
    one group, `dissimilar` keeps them apart; both read `similarity` (num_classes, num_classes), for
    instance the base model's confusions (symmetrised here, diagonal ignored), fill one group after
    another greedily, and do not use `seed`; ties go to the lower class index.

    Raises PlanError for another strategy, for groups outside 1..num_classes, for a similarity that
    is missing, of another shape or not finite. Source: ED-ViT, Algorithm 1, lines 3-5.
    """
    if not 1 <= num_groups <= num_classes:
        raise PlanError(
            f"{num_groups} groups were asked for {num_classes} classes; each group needs at least "
            f"one class of its own. Ask for 1 to {num_classes} groups (sub-models): --groups, or "
            "as many devices; or take --fleet copies or joint, whose sub-models know all classes."
        )
    if strategy not in STRATEGIES:
        raise PlanError(
            f"strategy is {strategy!r}; it must be one of: {', '.join(STRATEGIES)}. Choose one of "
            "them."
        )

    # each strategy ends in groups whose sizes differ by one at most
    if strategy == "random":
        order = np.random.default_rng(seed).permutation(num_classes)
        groups = [np.sort(group).tolist() for group in np.array_split(order, num_groups)]
        return tuple(tuple(group) for group in groups)

    affinity = _affinity(num_classes, strategy, similarity)
    if strategy == "dissimilar":
        affinity = -affinity
    return _greedy_groups(affinity, num_groups)


def _affinity(num_classes: int, strategy: str, similarity) -> np.ndarray:
    """The symmetric part of `similarity` with a zero diagonal, (num_classes, num_classes); checks
    it.
    """
    if similarity is None:
        raise PlanError(
            f"strategy {strategy!r} got no similarity; it needs a ({num_classes}, {num_classes}) "
            "array. Pass the base model's confusions, or use strategy 'random'."
        )

    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.shape != (num_classes, num_classes):
        raise PlanError(
            f"similarity has the shape {matrix.shape}; it must be ({num_classes}, {num_classes}), "
            "one row and one column a class. Pass the confusions of all classes."
        )
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise PlanError(
            f"similarity[{row}, {column}] is {matrix[row, column]}; every value must be finite. "
            "Look for a class without samples."
        )

    # a confused with b counts as b with a; a class resembles itself in no way that matters
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _greedy_groups(affinity: np.ndarray, num_groups: int) -> tuple[tuple[int, ...], ...]:
    """Fills groups in turn: first the free class closest to all free ones, then the one closest to
    the group.
    """
    num_classes = len(affinity)
    free = list(range(num_classes))
    groups = []
    for index in range(num_groups):
        # the first groups take what does not divide evenly
        size = num_classes // num_groups + (index < num_classes % num_groups)
        group: list[int] = []

        # affinity to the group so far; while it is empty, to all free classes
        while len(group) < size:
            near = affinity[np.ix_(free, group or free)].sum(axis=1)  # (free,)
            group.append(free.pop(int(near.argmax())))

        groups.append(tuple(sorted(group)))
    return tuple(groups)
