"""Why nothing fits, in words: which constraint, by how much, and what would make it fit."""

from typing import NamedTuple

from edvit_tf.config import DeviceSpec
from edvit_tf.planning.placement import Problem, Stuck, greedy

# A unit that messages show: how much it is, and of what.
_WHOLES = {"MiB": (2**20, "bytes"), "GMAC": (1e9, "MACs")}


class _Resource(NamedTuple):
    """What the sub-models need of a resource, and what each device offers."""

    what: str
    unit: str
    needs: tuple[int, ...]  # per sub-model
    limits: list[float]  # per device

    def reserve(self, device: DeviceSpec) -> int:
        """What a device keeps of it for others."""
        return device.reserve_bytes if self.what == "memory" else 0


def certain(problem: Problem) -> str | None:
    """Why no method can place these sub-models (one is too big, or all together are), or None.

    Memory and compute are looked at in turn; where both fail, both are named.
    """
    reasons = []
    for resource in _resources(problem):
        reason = _lacking(problem, resource)
        if reason is not None:
            reasons.append(reason)
    reasons += _energy_lacking(problem)

    return " ".join(reasons) or None


def explain(problem: Problem, method: str) -> str:
    """The message of the PlanError when nothing fits: constraint, amount, what would make it
    fit.
    """
    reason = certain(problem)
    if reason:
        return f"No assignment fits. {reason}"

    stuck = greedy(problem)
    assert isinstance(stuck, Stuck)  # what greedy places is used, by every method
    j = stuck.sub_model
    free = [i for i in range(len(problem.devices)) if i not in stuck.used]

    # for each resource that is short somewhere, the free device that lacks the least of it
    parts = []
    needed = []
    for resource, left in zip(_resources(problem), (stuck.memory, stuck.compute), strict=True):
        need = resource.needs[j]
        needed.append(f"{_exact(need, resource.unit)} of {resource.what}")
        lacking = [i for i in free if left[i] < need]
        if lacking:
            nearest = max(lacking, key=left.__getitem__)
            parts.append(_short_on(problem.devices[nearest], resource, need, left[nearest]))

    if stuck.energy is not None:
        parts += _energy_short(problem, stuck, free)
        needed.append("energy for it")

    copy = ""
    if problem.replicas > 1:
        copy = f" (copy {len(stuck.used) + 1} of {problem.replicas})"
    hint = "the solver found no other packing either"
    if method != "optimal":
        hint = 'assignment "optimal" may find a tighter packing'
    return (
        f"No assignment fits. The totals would do, but sub-model {j}{copy} finds no device for "
        f"itself: {'; '.join(parts)}. Add a device with {' and '.join(needed)}, raise a limit by "
        f"what is short, or use smaller sub-models; {hint}."
    )


def _energy_lacking(problem: Problem) -> list[str]:
    """The sub-model that the energy of too few devices allows, if Eq. 1 takes joules."""
    if problem.joules is None:
        return []
    for j in range(len(problem.sizes)):
        spent = [problem.spent(j, i) for i in range(len(problem.devices))]
        limits = problem.joules.limits
        able = [i for i, limit in enumerate(limits) if limit is None or spent[i] <= limit]
        if len(able) < problem.replicas:
            short = [i for i in range(len(limits)) if i not in able]
            i = min(short, key=lambda i: spent[i] - (limits[i] or 0))
            return [
                f"energy: sub-model {j} needs {_joules(spent[i])} on {problem.devices[i].name}, "
                f"which may spend {_joules(limits[i] or 0)}; {len(able)} of {len(limits)} devices "
                f"may spend enough, it needs {problem.replicas}. Raise a limit, plan fewer "
                "--samples, or use smaller sub-models."
            ]
    return []


def _energy_short(problem: Problem, stuck: Stuck, free: list[int]) -> list[str]:
    """The free device that lacks the least energy for the sub-model without a place."""
    assert stuck.energy is not None
    lacks = {i: problem.spent(stuck.sub_model, i) - stuck.energy[i] for i in free}
    nearest = min(lacks, key=lacks.__getitem__, default=None)
    if nearest is None or lacks[nearest] <= 0:
        return []
    return [
        f"energy: it needs {_joules(problem.spent(stuck.sub_model, nearest))} on "
        f"{problem.devices[nearest].name}, which has {_joules(stuck.energy[nearest])} left"
    ]


def _joules(picojoules: float) -> str:
    return f"{picojoules / 1e12:.4g} J"


def _short_on(device: DeviceSpec, resource: _Resource, need: int, left: float) -> str:
    """What one device lacks of a resource for one more sub-model."""
    unit = resource.unit
    reserve = resource.reserve(device)
    beside = ""
    if reserve:
        beside = f" beside its reserve of {_show(reserve, unit)}"

    return (
        f"{resource.what}: it needs {_show(need, unit)}, {device.name} has {_show(left, unit)} "
        f"left{beside}: {_show(need - left, unit)} short"
    )


def _lacking(problem: Problem, resource: _Resource) -> str | None:
    """The sentence on one resource, if there is not enough of it whatever goes where."""
    biggest = max(range(len(resource.needs)), key=resource.needs.__getitem__)
    # each of its replicas needs a device that is large enough: the best, the second best ...
    ranked = sorted(range(len(problem.devices)), key=resource.limits.__getitem__, reverse=True)
    last = ranked[problem.replicas - 1]

    if resource.needs[biggest] > resource.limits[last]:
        return _too_big(problem, resource, biggest, last)
    if problem.replicas * sum(resource.needs) > sum(resource.limits):
        return _too_many(problem, resource)
    return None


def _too_big(problem: Problem, resource: _Resource, j: int, last: int) -> str:
    """Sub-model j needs more than device `last` has, the next best after those that it fits."""
    what = resource.what
    unit = resource.unit
    need = resource.needs[j]
    limit = resource.limits[last]
    device = problem.devices[last]
    reserve = resource.reserve(device)
    enough = sum(offered >= need for offered in resource.limits)

    kept = ""
    included = ""
    if reserve and device.memory_bytes is not None:
        kept = f" ({_show(device.memory_bytes, unit)} less a reserve of {_show(reserve, unit)})"
        included = " (its reserve included)"
    return (
        f"{what}: sub-model {j} needs {_show(need, unit)} on {problem.replicas} of "
        f"{len(problem.devices)} devices; {enough} offer as much, the next, {device.name} with "
        f"{_show(limit, unit)}{kept}, is {_show(need - limit, unit)} short. Give it "
        f"{_exact(need + reserve, unit)} of {what}{included}, add a device that offers "
        f"{_exact(need, unit)}, or use smaller sub-models."
    )


def _too_many(problem: Problem, resource: _Resource) -> str:
    """All sub-models together need more than all devices have."""
    what = resource.what
    unit = resource.unit
    count = len(problem.devices)
    replicas = problem.replicas
    need = replicas * sum(resource.needs)
    offered = sum(resource.limits)

    reserves = sum(resource.reserve(device) for device in problem.devices)
    kept = ""
    if reserves:
        kept = f" beside {_show(reserves, unit)} of reserve"

    offer = "device offers"
    if count > 1:
        offer = "devices offer"

    plural = ""
    fewer = ""
    if replicas > 1:
        plural = "s"
        fewer = " or fewer replicas"

    return (
        f"{what}: {len(resource.needs)} sub-models on {replicas} device{plural} each need "
        f"{_show(need, unit)} in all; {count} {offer} {_show(offered, unit)}{kept}, "
        f"{_show(need - offered, unit)} short. Add {_exact(need - offered, unit)} of {what} in "
        f"all, or use smaller sub-models{fewer}."
    )


def _resources(problem: Problem) -> tuple[_Resource, _Resource]:
    return (
        _Resource("memory", "MiB", problem.sizes, problem.memory),
        _Resource("compute", "GMAC", problem.demands, problem.compute),
    )


def _show(value: float, unit: str) -> str:
    """Bytes in MiB or MACs in G, with digits enough not to hide a small difference."""
    scaled = value / _WHOLES[unit][0]
    if scaled >= 1 or value == 0:
        return f"{scaled:.2f} {unit}"

    # three digits below 1: a lack of some bytes is not shown as 0.00 MiB
    return f"{scaled:.3g} {unit}"


def _exact(value: float, unit: str) -> str:
    """`_show`, and the bytes or MACs to the last: what a limit must be set to."""
    whole = _WHOLES[unit][1]
    return f"{_show(value, unit)} ({value:.0f} {whole})"
