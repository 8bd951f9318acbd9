"""The sub-models of Algorithm 1 while shares go: what each costs now, and all of them together."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edvit_tf.config import DeviceSpec
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.planning.placement import Joules


@dataclass(frozen=True)
class Cost:
    """Widths, and what they take."""

    config: ModelConfig
    size_bytes: int
    macs: int
    work: int  # MACs of which joules are counted: with the products of attention


class Narrowing:
    """Sub-models of so many shares each, for groups of so many classes.

    A thousand sub-models are of few widths, and lose thousands of shares: each width is costed
    once, and a step looks at one sub-model.
    """

    def __init__(
        self, base: ModelConfig, rows: Sequence[int], kept: int, flavour: str, cut_heads: str
    ) -> None:
        """`rows` are those of each sub-model's head: its classes, and "other"."""
        self._base = base
        self._rows = tuple(rows)
        self._flavour = flavour
        self._cut_heads = cut_heads
        self._known: dict[tuple[int, int], Cost] = {}

        self.kept = [kept] * len(self._rows)
        self.costs = [self._cost(kept, count) for count in self._rows]
        self.size_bytes = sum(cost.size_bytes for cost in self.costs)
        self.macs = sum(cost.macs for cost in self.costs)
        self.work = sum(cost.work for cost in self.costs)
        # the biggest that have a share to lose, the first of equals first
        self._biggest = [(-c.size_bytes, j) for j, c in enumerate(self.costs) if kept > 1]
        heapq.heapify(self._biggest)

    def narrow(self) -> bool:
        """Takes a share of the biggest, the first of equals; False if each has only one left."""
        if not self._biggest:
            return False
        _, j = heapq.heappop(self._biggest)
        before = self.costs[j]
        self.kept[j] -= 1
        after = self._cost(self.kept[j], self._rows[j])

        self.costs[j] = after
        self.size_bytes += after.size_bytes - before.size_bytes
        self.macs += after.macs - before.macs
        self.work += after.work - before.work
        if self.kept[j] > 1:
            heapq.heappush(self._biggest, (-after.size_bytes, j))
        return True

    @property
    def biggest(self) -> Cost:
        """The biggest that has a share to lose; any of those that have none."""
        return self.costs[self._biggest[0][1] if self._biggest else 0]

    def _cost(self, kept: int, rows: int) -> Cost:
        if (kept, rows) not in self._known:
            config = self._base.pruned(kept, rows, self._cut_heads)
            cost = architecture(config)
            size = cost.file_bytes(config, self._flavour)
            macs, work = cost.macs(config), cost.macs_full(config)
            self._known[kept, rows] = Cost(config, size, macs, work)
        return self._known[kept, rows]


class Room:
    """What devices offer for sub-models on so many of them each: a quick no before any placement is
    tried, for what no placement could hold.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSpec],
        samples: int,
        replicas: int,
        joules: Joules | None = None,
    ) -> None:
        """`joules`: limits of the devices, where Eq. 1 is in joules."""
        memory = [_or_unlimited(device.usable_bytes) for device in devices]
        compute = [_or_unlimited(device.compute_macs) for device in devices]
        self._samples = samples
        self._replicas = replicas
        self._memory, self._compute = sum(memory), sum(compute)
        # each copy is on a device of its own: the last of the best must hold it too
        self._each_memory = _nth(memory, replicas)
        self._each_compute = _nth(compute, replicas)

        work = [math.inf] if joules is None else _work(joules)
        self._work = sum(work)
        self._each_work = _nth(work, replicas)

    def rules_out(self, sub_models: Narrowing) -> bool:
        """Whether one of them, or all together, take more than there is."""
        one = sub_models.biggest
        return (
            one.size_bytes > self._each_memory
            or self._samples * one.macs > self._each_compute
            or self._replicas * sub_models.size_bytes > self._memory
            or self._replicas * self._samples * sub_models.macs > self._compute
            or self._samples * one.work > self._each_work
            or self._replicas * self._samples * sub_models.work > self._work
        )


def _or_unlimited(limit: int | None) -> float:
    return math.inf if limit is None else limit


def _work(joules: Joules) -> list[float]:
    """The MACs that each device has joules for."""
    work: list[float] = []
    for limit, per_mac in zip(joules.limits, joules.per_mac, strict=True):
        work.append(math.inf if limit is None else limit // per_mac)
    return work


def _nth(limits: Sequence[float], count: int) -> float:
    """The count-th largest; of fewer limits, the least."""
    return sorted(limits, reverse=True)[min(count, len(limits)) - 1]
