"""Why nothing fits, in words: which constraint, by how much, and what would make it fit."""

from edvit_tf.planning.greedy import Stuck, greedy
from edvit_tf.planning.problem import Problem


def certain(problem: Problem) -> str | None:
    """Why no method can place these sub-models (one is too big, or all together are), or None."""
    r, count = problem.replicas, len(problem.devices)
    for what, unit, needs, limits in _resources(problem):
        j = max(range(len(needs)), key=needs.__getitem__)
        ranked = sorted(range(count), key=limits.__getitem__, reverse=True)
        best = ranked[r - 1]
        if needs[j] > limits[best]:
            enough = sum(v >= needs[j] for v in limits)
            return (f"{what}: sub-model {j} needs {_show(needs[j], unit)} on {r} of {count} devices; {enough} offer as "
                    f"much, the next, {_offer(problem, best, what, unit)}, is {_show(needs[j] - limits[best], unit)} "
                    f"short. Give it {_show(_total(problem, best, what, needs[j]), unit)} of {what}, "
                    f"add such a device, or use smaller sub-models.")
        short = r * sum(needs) - sum(limits)
        if short > 0:
            kept = sum(d.reserve_bytes for d in problem.devices) if what == "memory" else 0
            reserve = f" beside {_show(kept, unit)} of reserve" if kept else ""
            return (f"{what}: {len(needs)} sub-models on {r} device{'s' * (r > 1)} each need "
                    f"{_show(r * sum(needs), unit)} in all; the {count} devices offer {_show(sum(limits), unit)}"
                    f"{reserve}, {_show(short, unit)} short. Add {_show(short, unit)} of {what} in all, or use smaller "
                    f"sub-models{' or fewer replicas' * (r > 1)}.")
    return None


def explain(problem: Problem, method: str) -> str:
    """The message of the PlanError when nothing fits: constraint, amount, what would make it fit."""
    reason = certain(problem)
    if reason:
        return f"No assignment fits. {reason}"
    stuck = greedy(problem)
    assert isinstance(stuck, Stuck)  # else it would have been used
    j, free = stuck.index, [i for i in range(len(problem.devices)) if i not in stuck.used]
    parts, remedies = [], []
    for (what, unit, needs, _), left in zip(_resources(problem), (stuck.memory, stuck.compute), strict=True):
        lacking = [i for i in free if left[i] < needs[j]]
        if lacking:
            i = max(lacking, key=left.__getitem__)
            name, short = problem.devices[i].name, _show(needs[j] - left[i], unit)
            reserve = problem.devices[i].reserve_bytes if what == "memory" else 0
            beside = f" beside its reserve of {_show(reserve, unit)}" if reserve else ""
            parts.append(f"{what}: it needs {_show(needs[j], unit)}, {name} has {_show(max(left[i], 0), unit)} left"
                         f"{beside}: {short} short")
            remedies.append(f"{short} of {what} more on {name}")
    copies = f" (copy {len(stuck.used) + 1} of {problem.replicas})" if problem.replicas > 1 else ""
    hint = ('Assignment "optimal" may find a tighter packing' if method == "greedy"
            else "The solver found no other packing either")
    new = " and ".join(f"{_show(needs[j], unit)} of {what}" for what, unit, needs, _ in _resources(problem))
    return (f"No assignment fits. The totals would do, but sub-model {j}{copies} finds no device for itself: "
            f"{'; '.join(parts)}. Give {' and '.join(remedies)}, add a device with {new}, or use smaller sub-models. "
            f"{hint}.")


def _resources(problem: Problem) -> tuple:
    """(name, unit, need per sub-model, limit per device) of memory and compute."""
    return (("memory", "MiB", problem.sizes, problem.memory), ("compute", "GMAC", problem.demands, problem.compute))


def _offer(problem: Problem, i: int, what: str, unit: str) -> str:
    """Device i with what it offers, and what it keeps free."""
    device = problem.devices[i]
    if what == "memory" and device.reserve_bytes:
        return (f"{device.name} with {_show(device.usable_bytes, unit)} ({_show(device.memory_bytes, unit)} less a "
                f"reserve of {_show(device.reserve_bytes, unit)})")
    return f"{device.name} with {_show((problem.memory if what == 'memory' else problem.compute)[i], unit)}"


def _total(problem: Problem, i: int, what: str, need: int) -> int:
    """What must stand in devices.toml so that device i offers `need`: the reserve comes on top."""
    return need + (problem.devices[i].reserve_bytes if what == "memory" else 0)


def _show(value: float, unit: str) -> str:
    """Bytes in MiB with the exact bytes, or MACs in G with the exact MACs."""
    scaled = value / (2**20 if unit == "MiB" else 1e9)
    digits = f"{scaled:.2f}" if scaled >= 1 or value == 0 else f"{scaled:.3g}"
    return f"{digits} {unit}" if value == 0 else f"{digits} {unit} ({value:,.0f}{' bytes' * (unit == 'MiB')})"
