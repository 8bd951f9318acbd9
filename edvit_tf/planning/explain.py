"""Why nothing fits, in words: which constraint, by how much, and what would make it fit."""

from edvit_tf.planning.greedy import Stuck, greedy
from edvit_tf.planning.problem import Problem


def certain(problem: Problem) -> str | None:
    """Why no method can place these sub-models (one is too big, or all together are), or None.

    Memory and compute are looked at in turn; where both fail, both are named.
    """
    reasons = [_lacking(problem, *resource) for resource in _resources(problem)]
    return " ".join(reason for reason in reasons if reason) or None


def explain(problem: Problem, method: str) -> str:
    """The message of the PlanError when nothing fits: constraint, amount, what would make it
    fit.
    """
    reason = certain(problem)
    if reason:
        return f"No assignment fits. {reason}"
    stuck = greedy(problem)
    assert isinstance(stuck, Stuck)  # what greedy places is used, by either method
    j, free = stuck.index, [i for i in range(len(problem.devices)) if i not in stuck.used]
    parts, needed = [], []
    for (what, unit, needs, _), left in zip(
        _resources(problem), (stuck.memory, stuck.compute), strict=True
    ):
        needed.append(f"{_exact(needs[j], unit)} of {what}")
        lacking = [i for i in free if left[i] < needs[j]]
        if lacking:
            i = max(lacking, key=left.__getitem__)
            reserve = problem.devices[i].reserve_bytes if what == "memory" else 0
            beside = f" beside its reserve of {_show(reserve, unit)}" if reserve else ""
            parts.append(
                f"{what}: it needs {_show(needs[j], unit)}, {problem.devices[i].name} has "
                f"{_show(left[i], unit)} left{beside}: {_show(needs[j] - left[i], unit)} short"
            )
    copy = f" (copy {len(stuck.used) + 1} of {problem.replicas})" if problem.replicas > 1 else ""
    hint = (
        'assignment "optimal" may find a tighter packing'
        if method == "greedy"
        else "the solver found no other packing either"
    )
    return (
        f"No assignment fits. The totals would do, but sub-model {j}{copy} finds no device for "
        "itself: "
        f"{'; '.join(parts)}. Add a device with {' and '.join(needed)}, raise a limit by what is "
        "short, or use "
        f"smaller sub-models; {hint}."
    )


def _lacking(
    problem: Problem, what: str, unit: str, needs: tuple[int, ...], limits: list[float]
) -> str | None:
    """The sentence on one resource, if there is not enough of it whatever goes where."""
    r, count = problem.replicas, len(problem.devices)
    j = max(range(len(needs)), key=needs.__getitem__)
    best = sorted(range(count), key=limits.__getitem__, reverse=True)[r - 1]
    device, reserve = (
        problem.devices[best],
        problem.devices[best].reserve_bytes if what == "memory" else 0,
    )
    if needs[j] > limits[best]:
        enough = sum(v >= needs[j] for v in limits)
        kept = (
            f" ({_show(device.memory_bytes, unit)} less a reserve of {_show(reserve, unit)})"
            if reserve
            else ""
        )
        return (
            f"{what}: sub-model {j} needs {_show(needs[j], unit)} on {r} of {count} devices; "
            f"{enough} offer as "
            f"much, the next, {device.name} with {_show(limits[best], unit)}{kept}, is "
            f"{_show(needs[j] - limits[best], unit)} short. Give it "
            f"{_exact(needs[j] + reserve, unit)} of {what}"
            f"{' (its reserve included)' if reserve else ''}, add a device that offers "
            f"{_exact(needs[j], unit)}, "
            "or use smaller sub-models."
        )
    short = r * sum(needs) - sum(limits)
    if short <= 0:
        return None
    reserves = sum(d.reserve_bytes for d in problem.devices) if what == "memory" else 0
    kept = f" beside {_show(reserves, unit)} of reserve" if reserves else ""
    return (
        f"{what}: {len(needs)} sub-models on {r} device{'s' * (r > 1)} each need "
        f"{_show(r * sum(needs), unit)} in "
        f"all; {count} device{'s offer' if count > 1 else ' offers'} "
        f"{_show(sum(limits), unit)}{kept}, "
        f"{_show(short, unit)} short. Add {_exact(short, unit)} of {what} in all, or use smaller "
        "sub-models"
        f"{' or fewer replicas' * (r > 1)}."
    )


def _resources(problem: Problem) -> tuple:
    """(name, unit, need per sub-model, limit per device) of memory and compute."""
    return (
        ("memory", "MiB", problem.sizes, problem.memory),
        ("compute", "GMAC", problem.demands, problem.compute),
    )


def _show(value: float, unit: str) -> str:
    """Bytes in MiB or MACs in G, with digits enough not to hide a small difference."""
    scaled = value / (2**20 if unit == "MiB" else 1e9)
    return f"{scaled:.2f} {unit}" if scaled >= 1 or value == 0 else f"{scaled:.3g} {unit}"


def _exact(value: float, unit: str) -> str:
    """`_show`, and the bytes or MACs to the last: what a limit must be set to."""
    return f"{_show(value, unit)} ({value:.0f} {'bytes' if unit == 'MiB' else 'MACs'})"
