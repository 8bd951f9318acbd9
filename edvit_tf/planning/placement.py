"""What is to be placed on which devices, in whole numbers; what a placement leaves; and Algorithm
3, which finds one, with the retry that its print forgets (a sub-model that does not fit tries the
next device) and, if asked, with empty devices first.

A device with memory M_i, reserve R_i and compute E_i may hold the sub-models whose bytes sum to at
most M_i - R_i and whose demand, samples * MACs (L of Eq. 1), sums to at most E_i. Its remaining
energy is E_i minus that demand. Where Eq. 1 takes joules, E_i is in joules and what a sub-model
spends differs from device to device; a limit in MACs holds beside it.
"""

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from edvit_tf.config import ASSIGNMENTS, DeviceSpec
from edvit_tf.errors import PlanError

Placement = tuple[tuple[int, ...], ...]  # device indices per sub-model, one a replica, ascending


class Joules(NamedTuple):
    """What Eq. 1 takes in the place of MACs, in whole picojoules."""

    work: tuple[int, ...]  # of each sub-model: samples * MACs, products of attention too
    per_mac: tuple[int, ...]  # of each device
    limits: tuple[int | None, ...]  # E_i of each device; None: no limit


class Problem(NamedTuple):
    """Sub-models and devices, checked by `make_problem`; limits that are left out are infinite."""

    sizes: tuple[int, ...]  # bytes
    demands: tuple[int, ...]  # samples * MACs
    devices: tuple[DeviceSpec, ...]
    replicas: int
    joules: Joules | None = None  # None: Eq. 1 is in MACs

    def spent(self, j: int, i: int) -> int:
        """What sub-model j takes of device i's energy: MACs, or picojoules."""
        if self.joules is None:
            return self.demands[j]
        return self.joules.work[j] * self.joules.per_mac[i]

    def fits(self, j: int, i: int) -> bool:
        """Whether device i could hold sub-model j alone."""
        device = self.devices[i]
        if self.sizes[j] > _or_unlimited(device.usable_bytes):
            return False
        if self.demands[j] > _or_unlimited(device.compute_macs):
            return False
        return self.joules is None or self.spent(j, i) <= _or_unlimited(self.joules.limits[i])

    @property
    def memory(self) -> list[float]:
        """Bytes that each device offers: its memory less its reserve."""
        return [_or_unlimited(device.usable_bytes) for device in self.devices]

    @property
    def compute(self) -> list[float]:
        """The MACs that each device may spend; where Eq. 1 is in MACs, these are E_i."""
        return [_or_unlimited(device.compute_macs) for device in self.devices]


def _or_unlimited(limit: int | None) -> float:
    if limit is None:
        return math.inf
    return limit


def make_problem(
    sizes_bytes: Sequence[int],
    macs: Sequence[int],
    devices: Sequence[DeviceSpec],
    samples: int = 1,
    replicas: int = 1,
    method: str = "spread",
    joules: Joules | None = None,
) -> Problem:
    """The problem of these arguments. Raises PlanError for one that is out of range."""
    devices = tuple(devices)
    names = [device.name for device in devices]
    twice = [repr(name) for name, times in sorted(Counter(names).items()) if times > 1]

    _require(
        method in ASSIGNMENTS,
        f"method is {method!r}",
        f"it must be one of: {', '.join(ASSIGNMENTS)}",
    )
    _require(samples >= 1, f"samples is {samples}", "it must be at least 1")
    _require(replicas >= 1, f"replicas is {replicas}", "it must be at least 1")
    _require(
        len(sizes_bytes) == len(macs) > 0,
        f"{len(sizes_bytes)} sizes and {len(macs)} MAC counts were given",
        "there must be one of each for every sub-model",
    )
    _require(len(devices) > 0, "no devices were given", "a plan needs at least one")
    _require(
        not twice,
        f"the device names {', '.join(twice)} come more than once",
        "each must be unique",
    )
    _require(
        replicas <= len(devices),
        f"number of devices: {len(devices)} for {replicas} replicas of each sub-model",
        f"two replicas are never on one device, so {replicas - len(devices)} more devices are "
        f"needed, or {len(devices)} replicas at most",
    )

    sizes = tuple(int(size) for size in sizes_bytes)
    demands = tuple(samples * int(count) for count in macs)
    return Problem(sizes, demands, devices, replicas, joules)


def _require(ok: bool, seen: str, rule: str) -> None:
    if not ok:
        raise PlanError(f"{seen}; {rule}. Change it where the plan is asked for.")


def energies(problem: Problem) -> list[int]:
    """E_i in MACs (or picojoules); a device without a limit counts as one with the largest limit,
    or the whole demand if that is more.
    """
    limits: list[int | None] = [device.compute_macs for device in problem.devices]
    demand = sum(problem.demands)
    if problem.joules is not None:
        limits = list(problem.joules.limits)
        demand = sum(problem.joules.work) * max(problem.joules.per_mac)

    # what a device without a limit may spend: never less than all that there is to do
    free = max([problem.replicas * demand, *(limit for limit in limits if limit is not None)])
    return [free if limit is None else limit for limit in limits]


def holders(problem: Problem) -> list[int]:
    """The devices that can hold at least one of the sub-models, in order; all where none can.

    What the others have left says nothing about a placement: it is the same in each.
    """
    # sub-models that take the same are asked about once: a thousand devices times as many
    # sub-models would be a million questions
    kinds = {}
    for j, kind in enumerate(zip(problem.sizes, problem.demands, strict=True)):
        kinds[kind if problem.joules is None else (*kind, problem.joules.work[j])] = j

    able = []
    for i in range(len(problem.devices)):
        if any(problem.fits(j, i) for j in kinds.values()):
            able.append(i)
    return able or list(range(len(problem.devices)))


def remaining(problem: Problem, placement: Placement) -> list[int]:
    """E_i - demand of the `holders` (idle ones too) under a placement, in MACs (or picojoules),
    exactly, the least first.

    Of two placements the better is the one whose list is the larger: by its least, by the next
    where those are equal, and so on (lexicographic max-min).
    """
    left = energies(problem)
    for j, chosen in enumerate(placement):
        for i in chosen:
            left[i] -= problem.spent(j, i)
    return sorted(left[i] for i in holders(problem))


def least_remaining(problem: Problem, placement: Placement) -> int:
    """The smallest of `remaining`."""
    return remaining(problem, placement)[0]


class Stuck(NamedTuple):
    """Where greedy stopped: the sub-model, what the devices had left, and the devices that it is on
    already.
    """

    sub_model: int
    memory: list[float]  # bytes
    compute: list[float]  # MACs
    used: tuple[int, ...]
    energy: list[float] | None = None  # picojoules, where Eq. 1 takes joules


def spread(problem: Problem) -> Placement | Stuck:
    """`greedy`, but that empty devices come before all others: one sub-model a device first, as far
    as they fit, and then by Eq. 1. Where that leaves a sub-model without a place: `greedy`.
    """
    spread_out = _greedy(problem, empty_first=True)
    if isinstance(spread_out, Stuck):
        return greedy(problem)
    return spread_out


def greedy(problem: Problem) -> Placement | Stuck:
    """Sub-models by size, descending, each onto the device with the most remaining energy where it
    fits.

    Ties, and devices without a compute limit, go by memory left, then fewest sub-models placed,
    then order. A thousand sub-models on a thousand devices take milliseconds (`edvit bench plan`).
    Source: ED-ViT, Algorithm 3.
    """
    return _greedy(problem, empty_first=False)


def _greedy(problem: Problem, empty_first: bool) -> Placement | Stuck:
    # what is left of each device
    memory = problem.memory
    compute = problem.compute
    placed = [0] * len(problem.devices)
    # in MACs devices without a limit are alike; in joules one that draws more is to hold less
    energy: list[float] = compute
    if problem.joules is not None:
        energy = list(energies(problem))

    def entry(i: int) -> tuple:  # first: empty, if asked; most energy, memory, fewest placed, order
        taken = empty_first and placed[i] > 0
        return (taken, -energy[i], -memory[i], placed[i], i)

    # all devices in the order in which a sub-model asks them, kept sorted as they fill
    ranked = sorted(map(entry, range(len(problem.devices))))
    placement: list[tuple[int, ...]] = [()] * len(problem.sizes)

    # the largest first, while there is room; equals in their own order
    by_size = sorted(range(len(problem.sizes)), key=lambda j: (-problem.sizes[j], j))

    for j in by_size:
        size = problem.sizes[j]
        demand = problem.demands[j]

        # the first that take it, one a replica
        ranks: list[int] = []  # of the devices that take it
        for rank, (_, left, room, _, i) in enumerate(ranked):
            if size > -room or demand > compute[i]:
                continue
            if problem.joules is None or problem.spent(j, i) <= -left:
                ranks.append(rank)
                if len(ranks) == problem.replicas:
                    break
        else:
            used = tuple(ranked[rank][-1] for rank in ranks)
            return Stuck(j, memory, compute, used, None if problem.joules is None else energy)

        # from the back, so that the ranks before stay right
        chosen = [ranked.pop(rank)[-1] for rank in reversed(ranks)]

        # back into the order, with what they have left
        for i in chosen:
            memory[i] -= size
            compute[i] -= demand
            if problem.joules is not None:
                energy[i] -= problem.spent(j, i)
            placed[i] += 1
            bisect.insort(ranked, entry(i))

        placement[j] = tuple(sorted(chosen))

    return tuple(placement)
