"""How different the members of a fleet are, by what each answers alone: members that err on the
same inputs tell no more than one of them.
"""

import itertools
from collections.abc import Sequence

import numpy as np

OTHER = -1  # no class of the member's own group


def disagreement(logits: Sequence[np.ndarray], groups: Sequence[Sequence[int]]) -> float | None:
    """Mean over all pairs of members of the share of inputs that the two name differently; None of
    fewer than two members, and without inputs.

    `logits` are the members' own, each (n, |C_j| + 1), or (n, |C_j|) of a member of all classes;
    `groups` the classes C_j of each. "Other" contradicts nobody: two members of different groups
    differ where both claim the input. So of a class split it tells how often members quarrel, and
    of members of all classes how much more several know than one.
    """
    named = [_named(own, group) for own, group in zip(logits, groups, strict=True)]
    pairs = list(itertools.combinations(named, 2))
    if not pairs or not len(named[0]):
        return None

    shares = []
    for one, other in pairs:
        both = (one != OTHER) & (other != OTHER)
        shares.append(np.mean(both & (one != other)))
    return float(np.mean(shares))


def _named(logits: np.ndarray, group: Sequence[int]) -> np.ndarray:
    """(n,): the class that a member names, by its number among all classes; OTHER."""
    classes = np.array([*group, OTHER])
    return classes[logits.argmax(axis=1)]
