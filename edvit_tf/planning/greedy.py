"""Algorithm 3, with the retry that its print forgets: a sub-model that does not fit tries the next
device.
"""

import bisect
from typing import NamedTuple

from edvit_tf.planning.problem import Placement, Problem


class Stuck(NamedTuple):
    """Where greedy stopped: the sub-model, what the devices had left, and the devices that it is on
    already.
    """

    sub_model: int
    memory: list[float]  # bytes
    compute: list[float]  # MACs
    used: tuple[int, ...]


def greedy(problem: Problem) -> Placement | Stuck:
    """Sub-models by size, descending, each onto the device with the most remaining energy where it
    fits.

    Ties, and devices without a compute limit, go by memory left, then fewest sub-models placed,
    then order. A thousand sub-models on a thousand devices take milliseconds (`edvit bench plan`).
    Source: ED-ViT, Algorithm 3.
    """
    memory, compute = problem.memory, problem.compute  # what is left of them
    placed = [0] * len(problem.devices)

    def entry(i: int) -> tuple:  # first: most energy, memory, fewest placed, order
        return (-compute[i], -memory[i], placed[i], i)

    ranked = sorted(map(entry, range(len(problem.devices))))
    placement: list[tuple[int, ...]] = [()] * len(problem.sizes)
    by_size = sorted(range(len(problem.sizes)), key=lambda j: (-problem.sizes[j], j))
    for j in by_size:
        size, demand = problem.sizes[j], problem.demands[j]
        ranks: list[int] = []  # of the devices that take it
        for rank, (energy, room, _, _) in enumerate(ranked):
            if size <= -room and demand <= -energy:
                ranks.append(rank)
                if len(ranks) == problem.replicas:
                    break
        else:
            return Stuck(j, memory, compute, tuple(ranked[rank][-1] for rank in ranks))

        chosen = [ranked.pop(rank)[-1] for rank in reversed(ranks)]
        for i in chosen:
            memory[i] -= size
            compute[i] -= demand
            placed[i] += 1
            bisect.insort(ranked, entry(i))
        placement[j] = tuple(sorted(chosen))
    return tuple(placement)
