"""Algorithm 3, with the retry that its print forgets: a sub-model that does not fit tries the next device."""

import heapq
from typing import NamedTuple

from edvit_tf.planning.problem import Placement, Problem


class Stuck(NamedTuple):
    """Where greedy stopped: the sub-model, what the devices had left, and the devices that it is on already."""

    index: int
    memory: list[float]  # bytes
    compute: list[float]  # MACs
    used: tuple[int, ...]


def greedy(problem: Problem) -> Placement | Stuck:
    """Sub-models by size, descending, each onto the device with the most remaining energy where it fits.

    Ties, and devices without a compute limit, go by memory left, then fewest sub-models placed, then order. Takes
    O(sub-models * log devices) where most sub-models fit the first device tried. Source: ED-ViT, Algorithm 3.
    """
    memory, compute, placed = problem.memory, problem.compute, [0] * len(problem.devices)

    def entry(i: int) -> tuple:
        return (-compute[i], -memory[i], placed[i], i)  # the heap's head: most energy, memory, fewest placed, order

    heap = [entry(i) for i in range(len(problem.devices))]
    heapq.heapify(heap)
    placement: list[tuple[int, ...]] = [()] * len(problem.sizes)
    for j in sorted(range(len(problem.sizes)), key=lambda j: (-problem.sizes[j], j)):
        size, demand = problem.sizes[j], problem.demands[j]
        chosen: list[int] = []
        passed: list[tuple] = []
        while heap and len(chosen) < problem.replicas:
            tried = heapq.heappop(heap)
            i = tried[-1]
            if size <= memory[i] and demand <= compute[i]:
                chosen.append(i)
            else:
                passed.append(tried)
        if len(chosen) < problem.replicas:
            return Stuck(j, memory, compute, tuple(chosen))
        for i in chosen:
            memory[i], compute[i], placed[i] = memory[i] - size, compute[i] - demand, placed[i] + 1
            heapq.heappush(heap, entry(i))
        for tried in passed:
            heapq.heappush(heap, tried)
        placement[j] = tuple(sorted(chosen))
    return tuple(placement)
