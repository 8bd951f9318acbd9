"""Who is trained on and who is tested on: seeded, stratified by label, and never through the middle
of a group.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from edvit_tf.errors import DataError


def split_groups(
    labels: Sequence[int], groups: Sequence[str], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """Split name of each recording: those of `fractions`, the rest "train"; a group goes to one
    split as a whole.

    Groups come in seeded random order; each goes to the first split that still has room for all of
    it in all of its labels, else to train. A split left without a label then takes train's smallest
    group of it, if train has two.
    """
    members = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    total = Counter(labels)
    room = {s: {c: max(1, round(f * n)) for c, n in total.items()} for s, f in fractions.items()}
    names = sorted(members)  # not the order in which files were listed
    result = ["train"] * len(labels)
    for k in np.random.default_rng(seed).permutation(len(names)):
        rows = members[names[k]]
        need = Counter(labels[i] for i in rows)
        for split, left in room.items():
            if all(left[c] >= n for c, n in need.items()):
                for c, n in need.items():
                    left[c] -= n
                for i in rows:
                    result[i] = split
                break
    for split in fractions:
        for label in sorted(total):
            have = {
                s: {groups[i] for i in range(len(labels)) if (labels[i], result[i]) == (label, s)}
                for s in (split, "train")
            }
            if not have[split] and len(have["train"]) > 1:
                for i in members[min(have["train"], key=lambda g: (len(members[g]), g))]:
                    result[i] = split
    return result


def stratified_mask(labels: Sequence[int], count: int, seed: int) -> np.ndarray:
    """bool (n,): `count` rows chosen at random, each label in proportion (largest remainders get
    the odd ones).
    """
    labels = np.asarray(labels)
    classes, totals = np.unique(labels, return_counts=True)
    exact = totals * (count / len(labels))
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    mask = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for label, n in zip(classes, quota, strict=True):
        mask[rng.permutation(np.flatnonzero(labels == label))[:n]] = True
    return mask


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
                f"{where}; "
                "every class is needed. Add recordings (three a class at least), or change the "
                "fractions "
                "or lists."
            )
        if empty:
            notes.append(f"no recordings of {', '.join(empty)} in {split}")


def check_disjoint(splits: Mapping[str, Sequence], where: str) -> None:
    """DataError if a group (a speaker, a track with its repeats) is in two splits."""
    side = {}
    for split, recordings in splits.items():
        for r in recordings:
            if side.setdefault(r.group, split) != split:
                raise DataError(
                    f"{r.group!r} is both in the {side[r.group]} and in the {split} split of "
                    f"{where} "
                    f"(e.g. {r.id}); one side only is honest. Correct the lists, or remove them to "
                    "have "
                    "the split drawn."
                )


def limit_per_class(recordings: Sequence, maximum: int, seed: int) -> tuple:
    """At most `maximum` recordings a class: the first of a seeded permutation, in their old
    order.
    """
    taken, kept = Counter(), []
    for i in np.random.default_rng(seed).permutation(len(recordings)):
        if taken[recordings[i].label] < maximum:
            taken[recordings[i].label] += 1
            kept.append(i)
    return tuple(recordings[i] for i in sorted(kept))
