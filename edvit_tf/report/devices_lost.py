"""What lost devices leave of an answer that several give together."""

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

# Sets of lost devices that are looked at, of each size.
MOST_SETS = 300


@dataclass(frozen=True)
class LostAt:
    """Accuracy 0..1 with so many devices lost, over `sets` of them that were looked at."""

    lost: int
    mean: float
    worst: float
    sets: int


def with_devices_lost(
    held: Sequence[Collection[str]], score: Callable[[tuple[int, ...]], float | None]
) -> tuple[LostAt, ...]:
    """For 1 to all but one lost: `held` are the devices of each member, `score` the accuracy
    without the members of these numbers (None: not measured; the set is left out).

    A member that another device holds too is not missing. Every set of devices, or MOST_SETS drawn
    where there are more.
    """
    devices = sorted({device for own in held for device in own})
    found = []
    for size in range(1, len(devices)):
        shares = []
        for gone in _sets(devices, size):
            missing = tuple(j for j, own in enumerate(held) if gone.issuperset(own))
            share = score(missing)
            if share is not None:
                shares.append(share)
        if shares:
            mean = sum(shares) / len(shares)
            found.append(LostAt(size, mean, min(shares), len(shares)))
    return tuple(found)


def _sets(devices: Sequence[str], size: int) -> list[set[str]]:
    if math.comb(len(devices), size) <= MOST_SETS:
        return [set(gone) for gone in itertools.combinations(devices, size)]

    # the same ones each time
    rng = np.random.default_rng([len(devices), size])
    return [set(rng.choice(devices, size, replace=False).tolist()) for _ in range(MOST_SETS)]
