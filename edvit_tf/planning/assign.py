"""Sub-models onto devices: one verb over spread (one a device first), greedy (Algorithm 3) and
optimal (MILP); what fits is in placement.py.
"""

from collections.abc import Sequence

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import PlanError
from edvit_tf.planning.explain import certain, explain
from edvit_tf.planning.optimal import optimal
from edvit_tf.planning.placement import (
    Placement,
    Problem,
    Stuck,
    greedy,
    least_remaining,
    make_problem,
    spread,
)

__all__ = ["assign", "least_remaining_energy", "place"]


def assign(
    sizes_bytes: Sequence[int],
    macs: Sequence[int],
    devices: Sequence[DeviceSpec],
    samples: int = 1,
    method: str = "spread",
    replicas: int = 1,
) -> tuple[tuple[str, ...], ...]:
    """Device names of each sub-model, `replicas` of them, never two replicas on one device.

    `greedy` is Algorithm 3: sub-models by size, descending, each onto the device with the most
    remaining energy where it fits; ties and devices without a limit go by memory left, then fewest
    sub-models placed, then order. `spread` is the same with empty devices first, so that none is
    idle while another holds two, as far as they fit. `optimal` maximises the least remaining energy
    (`least_remaining_energy`), then the next, and so on, by MILPs (scipy).

    Raises PlanError when nothing fits (it names the constraint, the amount, and what would make it
    fit) or when an argument is out of range. The first two may miss a packing that `optimal` finds.
    Source: ED-ViT, Algorithm 3 and Eq. 1.
    """
    task = make_problem(sizes_bytes, macs, devices, samples, replicas, method)

    placement = place(task, method)
    if placement is None:
        raise PlanError(explain(task, method))

    # the names that users know, in the place of indices
    names = []
    for chosen in placement:
        names.append(tuple(task.devices[i].name for i in chosen))
    return tuple(names)


def least_remaining_energy(
    placement: Sequence[Sequence[str]],
    macs: Sequence[int],
    devices: Sequence[DeviceSpec],
    samples: int = 1,
    sizes_bytes: Sequence[int] | None = None,
) -> int:
    """The smallest E_i - L * MACs over the devices that can hold something, in MACs: what `optimal`
    maximises first.

    Without `sizes_bytes` a device can hold what its compute limit allows. A device without such a
    limit counts as one with the largest limit among the devices, or with the whole demand if that
    is more; with no limits at all this balances the MACs placed.
    """
    replicas = max(map(len, placement))

    sizes = tuple(sizes_bytes or (0,) * len(macs))
    problem = Problem(sizes, tuple(samples * m for m in macs), tuple(devices), replicas)
    order = {device.name: i for i, device in enumerate(problem.devices)}

    chosen = []
    for names in placement:
        chosen.append(tuple(order[name] for name in names))
    return least_remaining(problem, tuple(chosen))


def place(problem: Problem, method: str) -> Placement | None:
    """Device indices per sub-model, or None if nothing fits."""
    # these are quick and tell by themselves; before a solve of seconds, what is plain is said
    if method in ("greedy", "spread"):
        found = greedy(problem) if method == "greedy" else spread(problem)
        if isinstance(found, Stuck):
            return None
        return found

    if certain(problem) is not None:
        return None
    return optimal(problem).placement
