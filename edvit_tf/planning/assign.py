"""Sub-models onto devices: greedy (Algorithm 3, with the retry that its print forgets) or optimal (MILP).

A device with memory M_i and compute E_i may hold the sub-models whose bytes sum to at most M_i and whose demand,
samples * MACs (L of Eq. 1), sums to at most E_i. Its remaining energy is E_i minus that demand.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import PlanError

METHODS = ("greedy", "optimal")
SECONDS = 20.0  # the MILP solver's deadline; what it has found by then is used

Placement = tuple[tuple[int, ...], ...]  # device indices per sub-model, one a replica, ascending


class Problem(NamedTuple):
    """What is to be placed, checked by `make_problem`; limits that are left out are infinite."""

    sizes: tuple[int, ...]  # bytes
    demands: tuple[int, ...]  # samples * MACs
    devices: tuple[DeviceSpec, ...]
    replicas: int

    @property
    def memory(self) -> list[float]:
        return [math.inf if d.memory_bytes is None else d.memory_bytes for d in self.devices]

    @property
    def compute(self) -> list[float]:
        return [math.inf if d.compute_macs is None else d.compute_macs for d in self.devices]


class _Stuck(NamedTuple):
    """Where greedy stopped: the sub-model, what the devices had left, and the devices it is on already."""

    index: int
    memory: list[float]
    compute: list[float]
    used: tuple[int, ...]


def assign(
    sizes_bytes: Sequence[int],
    macs: Sequence[int],
    devices: Sequence[DeviceSpec],
    samples: int = 1,
    method: str = "greedy",
    replicas: int = 1,
) -> tuple[tuple[str, ...], ...]:
    """Device names of each sub-model, `replicas` of them, never two replicas on one device.

    `greedy` is Algorithm 3: sub-models by size, descending, each onto the device with the most remaining energy where
    it fits; ties and devices without a limit go by memory left, then fewest sub-models placed, then order. `optimal`
    maximises the least remaining energy by a MILP (scipy); see `least_remaining_energy`.

    Raises PlanError when nothing fits (it names the constraint, the amount, and what would make it fit) or when an
    argument is out of range. Greedy may miss a packing that `optimal` finds. Source: ED-ViT, Algorithm 3 and Eq. 1.
    """
    task = make_problem(sizes_bytes, macs, devices, samples, method, replicas)
    placement = place(task, method)
    if placement is None:
        raise PlanError(explain(task, method))
    return tuple(tuple(task.devices[i].name for i in chosen) for chosen in placement)


def least_remaining_energy(
    placement: Sequence[Sequence[str]], macs: Sequence[int], devices: Sequence[DeviceSpec], samples: int = 1
) -> int:
    """The smallest E_i - L * MACs over the devices, in MACs: what `optimal` maximises.

    A device without a compute limit counts as one with the largest limit among the devices, or with the whole demand
    if that is more; with no limits at all this balances the MACs placed.
    """
    replicas = max(map(len, placement))
    problem = Problem((0,) * len(macs), tuple(samples * m for m in macs), tuple(devices), replicas)
    order = {device.name: i for i, device in enumerate(problem.devices)}
    return _least(problem, tuple(tuple(order[name] for name in names) for names in placement))


def place(problem: Problem, method: str) -> Placement | None:
    """Device indices per sub-model, or None if nothing fits."""
    if method == "greedy":
        found = _greedy(problem)
        return None if isinstance(found, _Stuck) else found
    return None if _certain(problem) else _optimal(problem)


def make_problem(sizes_bytes, macs, devices, samples, method, replicas) -> Problem:
    """Checks the arguments of `assign`."""
    devices = tuple(devices)
    names = [d.name for d in devices]
    for ok, seen, rule in (
        (method in METHODS, f"method is {method!r}", f"it must be one of: {', '.join(METHODS)}"),
        (samples >= 1, f"samples is {samples}", "it must be at least 1"),
        (replicas >= 1, f"replicas is {replicas}", "it must be at least 1"),
        (len(sizes_bytes) == len(macs) > 0, f"{len(sizes_bytes)} sizes and {len(macs)} MAC counts were given",
         "there must be one of each for every sub-model"),
        (len(devices) > 0, "no devices were given", "a plan needs at least one"),
        (len(set(names)) == len(names), f"the device names are {names}", "each must be unique"),
        (replicas <= len(devices), f"number of devices: {len(devices)} for {replicas} replicas of each sub-model",
         f"two replicas are never on one device, so {replicas - len(devices)} more devices are needed, or "
         f"{len(devices)} replicas at most"),
    ):
        if not ok:
            raise PlanError(f"{seen}; {rule}. Change it where the plan is asked for.")
    return Problem(tuple(map(int, sizes_bytes)), tuple(samples * int(m) for m in macs), devices, replicas)


def _greedy(problem: Problem) -> Placement | _Stuck:
    """Algorithm 3 with retry: O(sub-models * log devices) where most sub-models fit the first device tried."""
    memory, compute, placed = problem.memory, problem.compute, [0] * len(problem.devices)

    def entry(i: int) -> tuple:
        return (-compute[i], -memory[i], placed[i], i)  # the heap's head: most energy, memory, fewest placed, order

    heap = [entry(i) for i in range(len(problem.devices))]
    heapq.heapify(heap)
    placement: list[tuple[int, ...]] = [()] * len(problem.sizes)
    for j in sorted(range(len(problem.sizes)), key=lambda j: (-problem.sizes[j], j)):
        size, demand, seen = problem.sizes[j], problem.demands[j], []
        chosen: list[int] = []
        while heap and len(chosen) < problem.replicas:
            i = heapq.heappop(heap)[-1]
            seen.append(i)
            if size <= memory[i] and demand <= compute[i]:
                chosen.append(i)
        if len(chosen) < problem.replicas:
            return _Stuck(j, memory, compute, tuple(chosen))
        for i in chosen:
            memory[i], compute[i], placed[i] = memory[i] - size, compute[i] - demand, placed[i] + 1
        for i in seen:
            heapq.heappush(heap, entry(i))
        placement[j] = tuple(sorted(chosen))
    return tuple(placement)


def _energies(problem: Problem) -> list[int]:
    """E_i, with a stand-in for the devices without a limit (see `least_remaining_energy`)."""
    limits = [d.compute_macs for d in problem.devices if d.compute_macs is not None]
    free = max([problem.replicas * sum(problem.demands), *limits])
    return [free if d.compute_macs is None else d.compute_macs for d in problem.devices]


def _least(problem: Problem, placement: Placement) -> int:
    """The smallest remaining energy of a placement, exactly."""
    left = _energies(problem)
    for demand, chosen in zip(problem.demands, placement, strict=True):
        for i in chosen:
            left[i] -= demand
    return min(left)


def _optimal(problem: Problem) -> Placement | None:
    """max t, t <= E_i - sum_j demand_j x_ij, sum_i x_ij = replicas, memory and compute rows, x binary.

    The solver works in floats to a tolerance: a device that comes out over its limit gets an exact cut (not all of
    these sub-models on it) and the solver runs again; greedy's answer stands where the solver finds nothing better.
    """
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        raise PlanError(
            'assignment "optimal" needs scipy, which is not installed; the [host] extra has it. '
            'Install edvit-tf[host], or use "greedy".'
        ) from error
    num_sub, num_dev = len(problem.sizes), len(problem.devices)
    largest, byte_unit = max(*problem.demands, 1), max(*problem.sizes, 1)
    ceilings = np.array(_energies(problem)) / largest
    # Variables: x (num_sub, num_dev) row by row, then t in units of the largest demand.
    once = sparse.kron(sparse.eye_array(num_sub), np.ones((1, num_dev)))
    load = sparse.kron(np.array([problem.demands]) / largest, sparse.eye_array(num_dev))
    held = sparse.kron(np.array([problem.sizes]) / byte_unit, sparse.eye_array(num_dev))

    def rows(matrix, t: float, low, high):
        column = np.full((matrix.shape[0], 1), t)
        return optimize.LinearConstraint(sparse.hstack([sparse.csr_array(matrix), column], format="csr"), low, high)

    # t >= 0 keeps every limited device within E_i; the stand-ins of the others never bind.
    constraints = [
        rows(once, 0, problem.replicas, problem.replicas),
        rows(load, 1, -np.inf, ceilings),
        rows(held, 0, -np.inf, np.array(problem.memory) / byte_unit),
    ]
    is_x = np.append(np.ones(num_sub * num_dev), 0.0)
    greedy = _greedy(problem)
    best = None if isinstance(greedy, _Stuck) else greedy
    for _ in range(20):
        for presolve in (True, False):
            result = optimize.milp(
                is_x - 1, integrality=is_x, bounds=(0, np.where(is_x, 1, ceilings.min())), constraints=constraints,
                options={"time_limit": SECONDS, "mip_rel_gap": 1e-6, "presolve": presolve},
            )
            if result.status != 4:  # "solve error": HiGHS's presolve can end 1e-6 off a bound; without it, it does not
                break
        if result.x is None:
            return best
        x = np.round(result.x[:-1]).astype(int).reshape(num_sub, num_dev)
        over = _over_limits(problem, x)
        if not over:
            found = tuple(tuple(int(i) for i in np.flatnonzero(row)) for row in x)
            return found if best is None or _least(problem, found) > _least(problem, best) else best
        for i in over:
            together = np.zeros((num_sub, num_dev))
            together[:, i] = x[:, i]
            constraints.append(rows(together.reshape(1, -1), 0, -np.inf, together.sum() - 1))
    return best


def _over_limits(problem: Problem, x: np.ndarray) -> list[int]:
    """Devices whose memory or compute the placement x (num_sub, num_dev) exceeds, in exact integers."""
    return [
        i for i in range(x.shape[1])
        if sum(s for s, on in zip(problem.sizes, x[:, i], strict=True) if on) > problem.memory[i]
        or sum(d for d, on in zip(problem.demands, x[:, i], strict=True) if on) > problem.compute[i]
    ]


def _certain(problem: Problem) -> str | None:
    """Why no method can place these sub-models (one is too big, or all together are), or None."""
    r, count = problem.replicas, len(problem.devices)
    for what, unit, needs, limits in _resources(problem):
        j = max(range(len(needs)), key=needs.__getitem__)
        limit = sorted(limits, reverse=True)[r - 1]
        if needs[j] > limit:
            enough = sum(v >= needs[j] for v in limits)
            return (f"{what}: sub-model {j} needs {_show(needs[j], unit)} on {r} of {count} devices; {enough} offer as "
                    f"much, the next is {_show(needs[j] - limit, unit)} short. Give it "
                    f"{_show(needs[j], unit)} of {what}, add such a device, or use smaller sub-models.")
        short = r * sum(needs) - sum(limits)
        if short > 0:
            return (f"{what}: {len(needs)} sub-models on {r} devices each need {_show(r * sum(needs), unit)} in all; "
                    f"the {count} devices offer {_show(sum(limits), unit)}, {_show(short, unit)} short. Add "
                    f"{_show(short, unit)} of {what} in all, or use smaller sub-models.")
    return None


def explain(problem: Problem, method: str) -> str:
    """The message of the PlanError when nothing fits: constraint, amount, what would make it fit."""
    certain = _certain(problem)
    if certain:
        return f"No assignment fits. {certain}"
    stuck = _greedy(problem)  # stuck for certain: `place` returns what greedy finds
    j, free = stuck.index, [i for i in range(len(problem.devices)) if i not in stuck.used]
    parts = []
    for (what, unit, needs, _), left in zip(_resources(problem), (stuck.memory, stuck.compute), strict=True):
        lacking = [i for i in free if left[i] < needs[j]]
        if lacking:
            i = max(lacking, key=left.__getitem__)
            parts.append(f"{what}: it needs {_show(needs[j], unit)}, {problem.devices[i].name} has "
                         f"{_show(max(left[i], 0), unit)} left: {_show(needs[j] - left[i], unit)} short")
    hint = ('assignment "optimal" may find a tighter packing' if method == "greedy"
            else "the solver found no other packing either")
    return (f"No assignment fits. The totals would do, but sub-model {j} finds no device for itself: "
            f"{'; '.join(parts)}. Raise that limit, add a device, or use smaller sub-models; {hint}.")


def _resources(problem: Problem) -> tuple:
    """(name, unit, need per sub-model, limit per device) of memory and compute."""
    return (("memory", "MiB", problem.sizes, problem.memory), ("compute", "GMAC", problem.demands, problem.compute))


def _show(value: float, unit: str) -> str:
    """Bytes in MiB or MACs in G, with digits enough not to hide a small difference."""
    scaled = value / (2**20 if unit == "MiB" else 1e9)
    return f"{scaled:.2f} {unit}" if scaled >= 1 or value == 0 else f"{scaled:.3g} {unit}"
