"""The placement that leaves the weakest device most, then the next weakest, and so on, by
mixed-integer linear programs (scipy's HiGHS).

Lexicographic max-min: of all placements those whose least remaining energy is the largest, of these
those whose two least sum to the most, then the three least ... The first alone would stop at the
first device that is weak and idle, whatever becomes of the others. That the k least of y_1 .. y_m
sum to at least s is linear: s <= k r - sum_i d_i with d_i >= r - y_i and d_i >= 0 (Ogryczak and
Sliwinski 2003).
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edvit_tf.errors import PlanError
from edvit_tf.planning.placement import (
    Placement,
    Problem,
    Stuck,
    energies,
    holders,
    remaining,
    spread,
)

SECONDS = 20.0  # the deadline of the first solve; what it has found by then is used
# That of all later ones together, and the part of the sum that they may miss: what they better is
# how evenly the strong devices are left, and to the last MAC that takes minutes.
LATER_SECONDS = 3.0
LATER_GAP = 1e-4
# HiGHS can end with a "solve error", 1e-6 off a bound, that other units or no presolve do not meet:
# (unit, presolve).
ATTEMPTS = ((1.0, True), (1.0, False), (0.01, True), (1.37, True))
SOLVE_ERROR = 4  # scipy's status
INFEASIBLE = 2
# Of 3,600 small problems one came out of presolve "optimal" and was not. So problems of at most
# this many binaries, which take milliseconds, are solved once more without it.
SOLVED_TWICE = 100
# solves at most: each but the first forbids a placement that was over a limit by the solver's
# tolerance
CUTS = 20


class Optimum(NamedTuple):
    """`placement` is None if none was found; `proven` says that no other is better (or that there
    is none).
    """

    placement: Placement | None
    proven: bool


class _Model(NamedTuple):
    """What a solve is of: the problem, placements that are forbidden, and what the k least of the
    remaining energies must sum to, for k = 1, 2 ...
    """

    problem: Problem
    able: list[int]  # devices that can hold something
    cuts: list[np.ndarray]  # (num_sub, num_dev) each, 1 where not all of these may be
    floors: list[int]  # in MACs, or picojoules


def optimal(problem: Problem, least_only: bool = False) -> Optimum:
    """The placement whose `remaining` is the largest: its least first, then the next, and so on;
    with `least_only` by the first alone, which is quicker.

    The solver works in floats to a tolerance: a device that comes out over its limit gets an exact
    cut (not all of these sub-models on it) and the solver runs again; the answer of `spread` stands
    where the solver finds nothing better. Raises PlanError if scipy is not installed. Source:
    ED-ViT, Eq. 1.
    """
    # stands where the solver finds nothing, or something worse
    quick = spread(problem)
    best: Placement | None = None
    if not isinstance(quick, Stuck):
        best = quick

    model = _Model(problem, holders(problem), [], [])
    found = _of_level(model, time.monotonic() + SECONDS)
    if found.placement is None:
        return Optimum(best, found.proven and best is None)

    best = _better(problem, found.placement, best)
    proven = found.proven

    # what all devices have left together is the same whatever goes where: the last level is known
    levels = 1 if least_only else len(model.able)
    deadline = time.monotonic() + LATER_SECONDS
    for level in range(1, levels):
        left = remaining(problem, best)
        if not proven or left[level] == left[-1]:  # out of time; or even, which none can better
            break

        model.floors.append(sum(left[:level]))
        found = _of_level(model, deadline)
        if found.placement is not None:
            best = _better(problem, found.placement, best)
        proven = found.proven and found.placement is not None

    return Optimum(best, proven)


def _better(problem: Problem, one: Placement, other: Placement | None) -> Placement:
    """The better of two placements, in whole numbers; `other` where they are equal."""
    if other is None or remaining(problem, one) > remaining(problem, other):
        return one
    return other


def _of_level(model: _Model, deadline: float) -> Optimum:
    """The placement with the largest sum of the k least remaining energies, k one more than there
    are floors. Small problems are solved twice, and what both say is proven.
    """
    first = _without_excess(model, deadline, ATTEMPTS)
    if len(model.problem.sizes) * len(model.problem.devices) > SOLVED_TWICE:
        return first

    second = _without_excess(model, deadline, ATTEMPTS[1:])
    if first.placement is None or second.placement is None:
        agreed = first.placement is second.placement
        return Optimum(first.placement or second.placement, agreed and second.proven)

    level = len(model.floors) + 1
    one = sum(remaining(model.problem, first.placement)[:level])
    two = sum(remaining(model.problem, second.placement)[:level])
    best = first.placement if one >= two else second.placement
    # The later word is believed: the other claim was false, if it was one.
    return Optimum(best, second.proven if two >= one else first.proven)


def _without_excess(
    model: _Model, deadline: float, attempts: tuple[tuple[float, bool], ...]
) -> Optimum:
    """A solve, repeated with an exact cut while it has a device over its limit."""
    problem = model.problem
    for _ in range(CUTS):
        # one that ends in a solve error is asked again in other units
        for unit, presolve in attempts:
            result = _solve(model, unit, presolve, max(0.01, deadline - time.monotonic()))
            if result.status != SOLVE_ERROR:
                break

        if result.x is None:
            return Optimum(None, proven=result.status == INFEASIBLE)

        # what is behind x follows from it in whole numbers
        count = len(problem.sizes) * len(problem.devices)
        x = np.round(result.x[:count]).astype(int).reshape(len(problem.sizes), -1)
        over = _over_limits(problem, x)
        if not over:
            rows = []
            for row in x:
                rows.append(tuple(int(i) for i in np.flatnonzero(row)))
            return Optimum(tuple(rows), proven=result.status == 0)

        # not all that it holds at once; any other placement stays possible
        for i in over:
            together = np.zeros(x.shape)
            together[:, i] = x[:, i]
            model.cuts.append(together)
    return Optimum(None, proven=False)


def _solve(model: _Model, unit: float, presolve: bool, seconds: float):
    """scipy's result over x (num_sub, num_dev), row by row, then for each level r and d (a device
    that can hold something each); what is spent and bytes are in `unit` of their largest.
    """
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        raise PlanError(
            'assignment "optimal" needs scipy, which is not installed; the [host] extra has it. '
            "Run, in a clone of edvit_tf: pip install -e '.[host]'. Or take the one named spread."
        ) from error

    # HiGHS wants numbers about 1: each unit is the largest of its kind
    problem = model.problem
    num_sub = len(problem.sizes)
    num_dev = len(problem.devices)
    mac_unit = unit * max(*problem.demands, 1)
    byte_unit = unit * max(*problem.sizes, 1)
    # of E_i: MACs, or picojoules
    spending, per_device = problem.demands, (1,) * num_dev
    if problem.joules is not None:
        spending, per_device = problem.joules.work, problem.joules.per_mac
    energy_unit = unit * max(*spending, 1) * max(per_device)
    ceilings = np.array(energies(problem)) / energy_unit

    # coefficients of x: replicas of a sub-model; energy, MACs and bytes on a device
    once = sparse.kron(sparse.eye_array(num_sub), np.ones((1, num_dev)))
    shares = sparse.diags_array(np.array(per_device) / max(per_device))
    load = sparse.csr_array(sparse.kron(np.array([spending]) / (unit * max(*spending, 1)), shares))
    macs = sparse.kron(np.array([problem.demands]) / mac_unit, sparse.eye_array(num_dev))
    held = sparse.kron(np.array([problem.sizes]) / byte_unit, sparse.eye_array(num_dev))

    # the levels' own variables stand behind x
    able = len(model.able)
    levels = len(model.floors) + 1
    behind = levels * (1 + able)

    def rows(of_x, of_levels, low, high):
        both = sparse.hstack([sparse.csr_array(of_x), sparse.csr_array(of_levels)], format="csr")
        return optimize.LinearConstraint(both, low, high)

    # Every limited device stays within E_i; the stand-ins of the others never bind.
    none = (num_dev, behind)
    constraints = [
        rows(once, (num_sub, behind), problem.replicas, problem.replicas),
        rows(load, none, -np.inf, ceilings),
        rows(held, none, -np.inf, np.array(problem.memory) / byte_unit),
    ]
    if problem.joules is not None:
        constraints.append(rows(macs, none, -np.inf, np.array(problem.compute) / mac_unit))
    for cut in model.cuts:
        constraints.append(rows(cut.reshape(1, -1), (1, behind), -np.inf, cut.sum() - 1))

    # level k: d_i >= r - (E_i - load_i), and k r - sum d at least its floor; the last is maximised
    for k in range(1, levels + 1):
        own = slice((k - 1) * (1 + able), k * (1 + able))
        below = np.zeros((able, behind))
        below[:, own] = np.hstack([np.ones((able, 1)), -np.eye(able)])
        constraints.append(rows(load[model.able], below, -np.inf, ceilings[model.able]))

        least = np.zeros((1, behind))
        least[0, own] = np.append(k, -np.ones(able))
        if k < levels:
            floor = model.floors[k - 1] / energy_unit
            slack = 1e-7 * max(1.0, abs(floor))  # what a float may lose of it
            constraints.append(rows((1, num_sub * num_dev), least, floor - slack, np.inf))

    gap = LATER_GAP if model.floors else 1e-6
    # x is binary; r and d are between 0 and the largest of the energies
    is_x = np.append(np.ones(num_sub * num_dev), np.zeros(behind))
    with _mute():
        return optimize.milp(
            np.append(np.zeros(num_sub * num_dev), -least),
            integrality=is_x,
            bounds=(0, np.where(is_x, 1, ceilings.max())),
            constraints=constraints,
            options={"time_limit": seconds, "mip_rel_gap": gap, "presolve": presolve},
        )


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """Nothing reaches the process's standard output: HiGHS prints there at times, whatever its
    options, and would spoil a command's --json."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (AttributeError, OSError):  # no standard output to spoil
        yield
        return

    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _over_limits(problem: Problem, x: np.ndarray) -> list[int]:
    """Devices whose memory or compute the placement x (num_sub, num_dev) exceeds, in exact
    integers.
    """
    # to the last byte, which a solver of floats cannot promise
    over = []
    for i in range(x.shape[1]):
        held = np.flatnonzero(x[:, i])
        size = sum(problem.sizes[j] for j in held)
        demand = sum(problem.demands[j] for j in held)
        too_much = size > problem.memory[i] or demand > problem.compute[i]
        energy = None if problem.joules is None else problem.joules.limits[i]
        if energy is not None:
            too_much |= sum(problem.spent(j, i) for j in held) > energy
        if too_much:
            over.append(i)
    return over
