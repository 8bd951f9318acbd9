"""Seconds of greedy planning at scale, and how far greedy is from optimal; with warm-up, median and
spread.

Everything runs in this process, greedy in one thread; the MILP solver (HiGHS) decides for itself.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import ConfigError
from edvit_tf.models import architecture, preset
from edvit_tf.planning.explain import certain
from edvit_tf.planning.optimal import Optimum, optimal
from edvit_tf.planning.placement import (
    Problem,
    Stuck,
    energies,
    greedy,
    least_remaining,
    make_problem,
)
from edvit_tf.planning.plan import plan

WARM_UP = 3  # runs that are not counted
MAX_DEVICES = 12  # of the random instances


def bench_plan(
    num_sub_models: int = 1000,
    num_devices: int = 1000,
    runs: int = 20,
    instances: int = 200,
    seed: int = 0,
) -> dict:
    """Seconds of greedy planning at scale, and how far greedy is from optimal on random instances;
    plain JSON.

    "scale": greedy (Algorithm 3) on sub-models of ViT-Base over devices whose limits leave a third
    free or more ("usual"), over devices of which nine in ten have the most energy and no room, so
    that each sub-model tries them all in vain ("crowded"), and the whole of Algorithm 1 over
    devices without limits ("plan"; one class a sub-model).

    "gap": an instance has 2 to 12 devices (all equal in every other instance) and 1 to 2 sub-models
    a device, of ViT-Base with 1 to 4 heads; the limits sum to at least 1.05 to 2 times what is
    needed. With least = the smallest E_i - MACs over all devices that can hold something, idle ones
    too (planning.assign.least_remaining_energy), and where both place everything,
    gap = (least_optimal - least_greedy) / least_optimal: 0 is as good, 1 leaves some device
    nothing; it is 0 too where the optimum itself is 0. Instances that nothing can place are drawn
    again and counted ("neither"). Optima that the solver did not prove before its deadline are
    counted and still compared. Raises ConfigError for a count below 1.
    """
    counts = {
        "sub_models": num_sub_models,
        "devices": num_devices,
        "runs": runs,
        "instances": instances,
    }
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1. Give a larger number.")

    # One class a sub-model: as many classes as sub-models.
    base = preset("vit_base", (224, 224, 3), num_sub_models)
    usual = _instance(np.random.default_rng(seed), num_sub_models, num_devices)
    crowded = _crowded(usual)

    one_class_each = [(j,) for j in range(num_sub_models)]
    unlimited = [DeviceSpec(device.name) for device in usual.devices]

    scale = {
        "usual": _timed(lambda: greedy(usual), runs),
        "crowded": _timed(lambda: greedy(crowded), runs),
        "plan": _timed(lambda: plan(base, one_class_each, unlimited), runs),
    }

    gap = _gap(np.random.default_rng([seed, 1]), instances)
    return {"seed": seed, **counts, "scale": scale, "gap": gap}


def plan_text(result: dict) -> str:
    """What `bench_plan` found, as text."""
    lines = [
        f"greedy planning, {result['sub_models']} sub-models on {result['devices']} devices; "
        f"seconds, one thread, {result['runs']} runs after {WARM_UP} to warm up:",
        f"  {'':<10}{'median':>9}{'min':>9}{'max':>9}  placed",
    ]
    for name, row in result["scale"].items():
        lines.append(
            f"  {name:<10}{row['median']:>9.4f}{row['min']:>9.4f}{row['max']:>9.4f}  "
            f"{'all' if row['placed'] else 'NOT all'}"
        )

    gap = result["gap"]
    lines += [
        "  usual: limits leave a third free; crowded: nine devices in ten have the most energy "
        "and no room;",
        "  plan: the whole of Algorithm 1, devices without limits",
        "",
        f"greedy against optimal, {result['instances']} random instances of 2 to {MAX_DEVICES} "
        f"devices, seed {result['seed']} ({gap['neither']} more had no placement):",
        f"  both place all sub-models      {gap['both']:>5}",
        f"  optimal alone                  {gap['optimal_only']:>5}",
        f"  optimum not proven in time     {gap['unproven']:>5}",
        f"  greedy as good, where both do  {gap['equal']:>5}",
    ]

    if gap["mean"] is not None:
        lines.append(
            f"  gap in least remaining energy: mean {100 * gap['mean']:.2f} %, median "
            f"{100 * gap['median']:.2f} %, worst {100 * gap['worst']:.2f} % (of the optimum's)"
        )

    for name in ("greedy", "optimal"):
        row = gap["seconds"][name]
        lines.append(
            f"  {name:<8} seconds an instance: median {row['median']:.5f}, worst {row['max']:.5f}, "
            f"all {row['sum']:.2f}"
        )
    return "\n".join(lines)


def _timed(work: Callable, runs: int) -> dict:
    """Seconds of `work`: median, min, max of `runs` after WARM_UP, and whether it placed
    everything.
    """
    for _ in range(WARM_UP):
        result = work()

    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)

    return {
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "placed": not isinstance(result, Stuck),
    }


def _instance(
    rng: np.random.Generator,
    num_sub_models: int,
    num_devices: int,
    slack: float = 1.5,
    spread: float = 0.5,
) -> Problem:
    """Sub-models of ViT-Base with 1 to 4 heads kept, and devices whose limits sum to `slack` times
    what they need.

    Limits of single devices lie within `spread` of their mean either way (0.5: up to threefold
    apart; 0: all equal), but not below 0.9 to 1.3 times what the largest sub-model takes.
    """
    base = preset("vit_base", (224, 224, 3), 10)
    # Of few sizes, as a plan makes them.
    kinds = [base.pruned(heads, 2) for heads in (1, 2, 3, 4)]
    chosen = [kinds[i] for i in rng.integers(0, len(kinds), num_sub_models)]

    cost = architecture(base)
    sizes = [cost.file_bytes(config) for config in chosen]
    macs = [cost.macs(config) for config in chosen]

    def limits(needs):
        # Shares of the sum, so that the slack is what was asked for.
        shares = rng.uniform(1 - spread, 1 + spread, num_devices)
        # Equal devices draw one number between them.
        least = max(needs) * rng.uniform(0.9, 1.3, num_devices if spread else 1)
        return np.maximum(slack * sum(needs) * shares / shares.sum(), least)

    devices = []
    for i, (memory, compute) in enumerate(zip(limits(sizes), limits(macs), strict=True)):
        devices.append(DeviceSpec(f"device-{i:04d}", int(memory), int(compute)))
    return make_problem(sizes, macs, devices)


def _crowded(problem: Problem) -> Problem:
    """Nine devices in ten hold no sub-model and rank first; the tenth part holds everything."""
    all_bytes = sum(problem.sizes)
    all_macs = sum(problem.demands)
    # Nine in ten are tried first, in vain: they have most energy, and no room.
    too_small = min(problem.sizes) - 1

    devices = []
    for i, device in enumerate(problem.devices):
        if i % 10 == 0:
            devices.append(DeviceSpec(device.name, all_bytes, all_macs))
        else:
            devices.append(DeviceSpec(device.name, too_small, 2 * all_macs))
    return make_problem(problem.sizes, problem.demands, devices)


def _gap(rng: np.random.Generator, instances: int) -> dict:
    """Greedy and optimal on seeded random instances: who places everything, and the gap where both
    do.
    """
    seconds: dict[str, list[float]] = {"greedy": [], "optimal": []}
    counts = dict.fromkeys(("both", "optimal_only", "neither", "unproven", "equal"), 0)
    gaps = []
    drawn = 0
    while counts["both"] + counts["optimal_only"] < instances:
        drawn += 1
        problem = _drawn(rng, equal_devices=drawn % 2 == 0)

        start = time.perf_counter()
        quick = greedy(problem)
        between = time.perf_counter()
        # What is certain to fail needs no solver.
        best = Optimum(None, True) if certain(problem) else optimal(problem, least_only=True)
        end = time.perf_counter()

        if best.placement is None:
            counts["neither"] += 1
            continue

        # Times count of instances alone that can be placed.
        seconds["greedy"].append(between - start)
        seconds["optimal"].append(end - between)
        counts["unproven"] += not best.proven
        if isinstance(quick, Stuck):
            counts["optimal_only"] += 1
            continue

        counts["both"] += 1
        most = least_remaining(problem, best.placement)
        reached = least_remaining(problem, quick)
        # An optimum is no worse than greedy, and no device gains energy.
        assert max(energies(problem)) >= most >= reached
        counts["equal"] += reached == most
        gaps.append((most - reached) / most if most > 0 else 0.0)

    return {
        **counts,
        "mean": statistics.fmean(gaps) if gaps else None,
        "median": statistics.median(gaps) if gaps else None,
        "worst": max(gaps, default=None),
        "seconds": {name: _summary(values) for name, values in seconds.items()},
    }


def _drawn(rng: np.random.Generator, equal_devices: bool) -> Problem:
    """A random instance of 2 to MAX_DEVICES devices, with 1 to 2 sub-models a device."""
    num_devices = int(rng.integers(2, MAX_DEVICES + 1))
    num_sub_models = int(rng.integers(num_devices, 2 * num_devices + 1))
    slack = rng.uniform(1.05, 2.0)
    return _instance(rng, num_sub_models, num_devices, slack, spread=0.0 if equal_devices else 0.5)


def _summary(values: list[float]) -> dict:
    return {"median": statistics.median(values), "max": max(values), "sum": sum(values)}
