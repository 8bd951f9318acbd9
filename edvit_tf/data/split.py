"""Who is trained on and who is tested on: seeded, stratified by label, and never through the middle
of a group.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from edvit_tf.errors import DataError

from .dataset import SPLITS, Recording


def split_groups(
    labels: Sequence[int], groups: Sequence[str], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """Split name of each recording: those of `fractions`, the rest "train"; a group goes to one
    split as a whole.

    Groups come in seeded random order; each goes to the first split that still has room for all of
    it in all of its labels, else to train. A split left without a label then takes train's smallest
    group of it, if train has two.
    """
    members: dict[str, list[int]] = defaultdict(list)  # group -> rows
    for i, group in enumerate(groups):
        members[group].append(i)
    total = Counter(labels)

    # At least one of each label, however few there are.
    room = {}  # split -> label -> recordings that it still takes
    for split, fraction in fractions.items():
        room[split] = {label: max(1, round(fraction * n)) for label, n in total.items()}

    names = sorted(members)  # not the order in which files were listed
    result = ["train"] * len(labels)
    for k in np.random.default_rng(seed).permutation(len(names)):
        rows = members[names[k]]
        # A speaker says several words: its recordings have several labels.
        need = Counter(labels[i] for i in rows)
        # To the first split with room for the whole group, in each of its labels; else to train.
        for split, left in room.items():
            if all(left[label] >= n for label, n in need.items()):
                for label, n in need.items():
                    left[label] -= n
                for i in rows:
                    result[i] = split
                break

    for split in fractions:
        for label in sorted(total):
            _fill(split, label, labels, groups, members, result)
    return result


def _fill(
    split: str,
    label: int,
    labels: Sequence[int],
    groups: Sequence[str],
    members: Mapping[str, list[int]],
    result: list[str],
) -> None:
    """Gives a split without a label train's smallest group of it, if train has two; changes
    `result`.
    """
    in_train = set()
    for i, group in enumerate(groups):
        if labels[i] != label:
            continue
        if result[i] == split:
            return
        if result[i] == "train":
            in_train.add(group)

    if len(in_train) > 1:
        # The one that train misses least; ties go by name, not by the order of files.
        smallest = min(in_train, key=lambda group: (len(members[group]), group))
        for i in members[smallest]:
            result[i] = split


def split_recordings(
    recordings: Sequence[Recording], fractions: Mapping[str, float], seed: int
) -> dict[str, tuple[Recording, ...]]:
    """`split_groups` of recordings, in their order."""
    labels = [r.label for r in recordings]
    groups = [r.group for r in recordings]
    sides = split_groups(labels, groups, fractions, seed)

    splits: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    for recording, side in zip(recordings, sides, strict=True):
        splits[side].append(recording)

    return {split: tuple(part) for split, part in splits.items()}


def stratified_mask(labels: Sequence[int] | np.ndarray, count: int, seed: int) -> np.ndarray:
    """bool (n,): `count` rows chosen at random, each label in proportion (largest remainders get
    the odd ones).
    """
    y = np.asarray(labels)
    classes, totals = np.unique(y, return_counts=True)

    # Rounded down; what is missing goes to the largest remainders.
    exact = totals * (count / len(y))
    quota = np.floor(exact).astype(int)
    by_remainder = np.argsort(quota - exact, kind="stable")
    quota[by_remainder[: count - quota.sum()]] += 1

    mask = np.zeros(len(y), bool)
    rng = np.random.default_rng(seed)
    for label, n in zip(classes, quota, strict=True):
        rows = np.flatnonzero(y == label)
        mask[rng.permutation(rows)[:n]] = True
    return mask


def split_stratified(
    recordings: Sequence[Recording], test: float, validation: float, seed: int
) -> dict[str, tuple[Recording, ...]]:
    """The test fraction of all, then the validation fraction of what is left; each recording is a
    group of its own.
    """
    rest, tested = _drawn(recordings, test, seed)
    # Another seed, or the same places would be drawn again.
    train, held = _drawn(rest, validation, seed + 1)
    return {"train": train, "validation": held, "test": tested}


def _drawn(
    recordings: Sequence[Recording], fraction: float, seed: int
) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """(the others, the fraction that was drawn), stratified by label, both in their old order."""
    count = round(fraction * len(recordings))
    mask = stratified_mask([r.label for r in recordings], count, seed)

    others = []
    drawn = []
    for recording, chosen in zip(recordings, mask, strict=True):
        if chosen:
            drawn.append(recording)
        else:
            others.append(recording)
    return tuple(others), tuple(drawn)


def check_classes(
    splits: Mapping[str, Sequence], labels: Sequence[str], where: str, notes: list[str]
) -> None:
    """DataError if a class is not in train, or a split is empty; a note if a class is not in
    validation or test.
    """
    for split, recordings in splits.items():
        have = {r.label for r in recordings}
        empty = [name for i, name in enumerate(labels) if i not in have]
        if empty and (split == "train" or not have):
            raise DataError(
                f"Class {', '.join(map(repr, empty))} has no recording in the {split} split of "
                f"{where}; every class is needed. Add recordings (three a class at least), or "
                "change the fractions or lists."
            )
        if empty:
            notes.append(f"no recordings of {', '.join(empty)} in {split}")


def check_disjoint(splits: Mapping[str, Sequence], where: str) -> None:
    """DataError if a group (a speaker, a track with its repeats) is in two splits."""
    side: dict[str, str] = {}  # group -> split
    for split, recordings in splits.items():
        for r in recordings:
            # The side on which the group was met first.
            if side.setdefault(r.group, split) != split:
                raise DataError(
                    f"{r.group!r} is both in the {side[r.group]} and in the {split} split of "
                    f"{where} (e.g. {r.id}); one side only is honest. Correct the lists, or remove "
                    "them to have the split drawn."
                )


def limit_per_class(recordings: Sequence, maximum: int, seed: int) -> tuple:
    """At most `maximum` recordings a class: the first of a seeded permutation, in their old
    order.
    """
    taken: Counter[int] = Counter()
    kept = []
    for i in np.random.default_rng(seed).permutation(len(recordings)):
        if taken[recordings[i].label] < maximum:
            taken[recordings[i].label] += 1
            kept.append(i)

    return tuple(recordings[i] for i in sorted(kept))
