"""In which order servers are restarted, so that as few answers as can be are lost: pure functions
of who hosts what.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    """Devices that restart together, wave after wave; the aggregator between two of them."""

    before: tuple[tuple[str, ...], ...]  # waves before the aggregator
    after: tuple[tuple[str, ...], ...]  # and after it
    alone: tuple[int, ...]  # sub-models that answers miss meanwhile: one device alone has them


def restart_order(
    hosts: Mapping[str, Set[int]], restarts: Set[str], serving: Set[str], new_bundle: bool
) -> Order:
    """The order for the devices in `restarts`, of those in `hosts` (the sub-models of each).

    `serving` are the devices that answer now. An aggregator asks devices of its own bundle alone:
    with `new_bundle` one half of a fleet goes over, then the aggregator, then the other half.
    Otherwise each wave leaves a device that answers for every sub-model that has two.
    """
    order = tuple(name for name in hosts if name in restarts)
    live = {name: set(hosts[name]) for name in hosts if name in serving}
    if new_bundle:
        # What one device alone has is missing in any case: for the shortest time where it goes
        # first. None of the rest can be spared before the aggregator has the new bundle.
        alone = _only_once(order, live)
        first, rest = _wave(order, live, set(alone))
        return Order((first,) if first else (), (rest,) if rest else (), alone)

    waves, lost = [], set()
    first, rest = _wave(order, live, set())
    while first or rest:
        # a device that nobody can stand in for goes alone
        wave = first or rest[:1]
        waves.append(wave)
        lost |= set(_only_once(wave, live)) if not first else set()
        left = tuple(name for name in (*first, *rest) if name not in wave)
        live |= {name: set(hosts[name]) for name in wave}
        first, rest = _wave(left, live, set())
    return Order(tuple(waves), (), tuple(sorted(lost)))


def may_go_over(
    hosts: Mapping[str, Set[int]], has_new: Set[str], has_old: Set[str], least: int
) -> bool:
    """Whether an aggregator may change to a new bundle: as many sub-models answer as before, or
    nobody answered before. `least` is what a request needs.
    """
    new = set().union(*(hosts[name] for name in has_new))
    old = set().union(*(hosts[name] for name in has_old))
    if len(old) < least:
        return True
    return len(new) >= len(old)


def _wave(
    names: tuple[str, ...], live: Mapping[str, set[int]], excused: Set[int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that may go together, so that others answer for what they host, but for what is
    excused; and the rest.
    """
    going: list[str] = []
    for name in names:
        others = [held for other, held in live.items() if other != name and other not in going]
        # one that does not answer now loses nothing
        if live.get(name, set()) - excused <= set().union(*others):
            going.append(name)
    return tuple(going), tuple(name for name in names if name not in going)


def _only_once(names: tuple[str, ...], live: Mapping[str, set[int]]) -> tuple[int, ...]:
    counts: dict[int, int] = {}
    for held in live.values():
        for index in held:
            counts[index] = counts.get(index, 0) + 1
    going = set().union(*(live.get(name, set()) for name in names))
    return tuple(sorted(index for index in going if counts[index] == 1))
