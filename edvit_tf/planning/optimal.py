"""The placement whose least remaining energy is the largest, by a mixed-integer linear program
(scipy's HiGHS).
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edvit_tf.errors import PlanError
from edvit_tf.planning.placement import Placement, Problem, Stuck, energies, greedy, least_remaining

SECONDS = 20.0  # the solver's deadline a solve; what it has found by then is used
# HiGHS can end with a "solve error", 1e-6 off a bound, that other units or no presolve do not meet:
# (unit, presolve).
ATTEMPTS = ((1.0, True), (1.0, False), (0.01, True), (1.37, True))
SOLVE_ERROR = 4  # scipy's status
# solves at most: each but the first forbids a placement that was over a limit by the solver's
# tolerance
CUTS = 20


class Optimum(NamedTuple):
    """`placement` is None if none was found; `proven` says that no other is better (or that there
    is none).
    """

    placement: Placement | None
    proven: bool


def optimal(problem: Problem) -> Optimum:
    """max t, t <= E_i - sum_j demand_j x_ij, sum_i x_ij = replicas, memory and compute rows, x
    binary.

    The solver works in floats to a tolerance: a device that comes out over its limit gets an exact
    cut (not all of these sub-models on it) and the solver runs again; greedy's answer stands where
    the solver finds nothing better. Raises PlanError if scipy is not installed. Source: ED-ViT, Eq.
    1.
    """
    # stands where the solver finds nothing, or something worse
    quick = greedy(problem)
    best: Placement | None = None
    if not isinstance(quick, Stuck):
        best = quick

    cuts: list[np.ndarray] = []  # (num_sub, num_dev), 1 where not all of these may be
    for _ in range(CUTS):
        # one that ends in a solve error is asked again in other units
        for unit, presolve in ATTEMPTS:
            result = _solve(problem, cuts, unit, presolve)
            if result.status != SOLVE_ERROR:
                break

        if result.x is None:
            # 2: infeasible; then greedy has found nothing either
            return Optimum(best, proven=result.status == 2)

        # all but the last entry, t, which follows from x in whole numbers
        x = np.round(result.x[:-1]).astype(int).reshape(len(problem.sizes), len(problem.devices))
        over = _over_limits(problem, x)
        if not over:
            rows = []
            for row in x:
                rows.append(tuple(int(i) for i in np.flatnonzero(row)))
            found = tuple(rows)
            if best is None or least_remaining(problem, found) > least_remaining(problem, best):
                best = found
            return Optimum(best, proven=result.status == 0)

        # not all that it holds at once; any other placement stays possible
        for i in over:
            together = np.zeros(x.shape)
            together[:, i] = x[:, i]
            cuts.append(together)
    return Optimum(best, proven=False)


def _solve(problem: Problem, cuts: list[np.ndarray], unit: float, presolve: bool):
    """scipy's result over x (num_sub, num_dev), row by row, then t; MACs and bytes are in `unit` of
    their largest.
    """
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        raise PlanError(
            'assignment "optimal" needs scipy, which is not installed; the [host] extra has it. '
            'Install edvit-tf[host], or use "greedy".'
        ) from error

    # HiGHS wants numbers about 1: each unit is the largest of its kind
    num_sub = len(problem.sizes)
    num_dev = len(problem.devices)
    mac_unit = unit * max(*problem.demands, 1)
    byte_unit = unit * max(*problem.sizes, 1)
    ceilings = np.array(energies(problem)) / mac_unit

    # coefficients of x: replicas of a sub-model, MACs on a device, bytes on a device
    once = sparse.kron(sparse.eye_array(num_sub), np.ones((1, num_dev)))
    load = sparse.kron(np.array([problem.demands]) / mac_unit, sparse.eye_array(num_dev))
    held = sparse.kron(np.array([problem.sizes]) / byte_unit, sparse.eye_array(num_dev))

    def rows(matrix, t: float, low, high):
        # one side of the constraint has t, by a factor; the rest is x
        column = np.full((matrix.shape[0], 1), t)
        return optimize.LinearConstraint(
            sparse.hstack([sparse.csr_array(matrix), column], format="csr"), low, high
        )

    # t >= 0 keeps every limited device within E_i; the stand-ins of the others never bind.
    constraints = [
        rows(once, 0, problem.replicas, problem.replicas),
        rows(load, 1, -np.inf, ceilings),
        rows(held, 0, -np.inf, np.array(problem.memory) / byte_unit),
    ]
    for cut in cuts:
        constraints.append(rows(cut.reshape(1, -1), 0, -np.inf, cut.sum() - 1))

    # minimised is -t; x is binary, t is between 0 and the least of the energies
    is_x = np.append(np.ones(num_sub * num_dev), 0.0)
    with _mute():
        return optimize.milp(
            is_x - 1,
            integrality=is_x,
            bounds=(0, np.where(is_x, 1, ceilings.min())),
            constraints=constraints,
            options={"time_limit": SECONDS, "mip_rel_gap": 1e-6, "presolve": presolve},
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
        if size > problem.memory[i] or demand > problem.compute[i]:
            over.append(i)
    return over
