"""What requests are answered by: a bundle, its fusion, and the devices that are asked.

A request keeps the fleet that it began with. Where devices.toml, bundle or identity changes,
another fleet is made beside it, of which a device that is the same in all three is the same link,
with its connection and its breaker.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.fanout import Fanout
from edvit_tf.aggregate.fusion import Fusion, measured_losses
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.outgoing import Outgoing
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.reply import expected_answers
from edvit_tf.aggregate.request_parts import request_parts
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.errors import ConfigError


@dataclass(frozen=True)
class FleetParts:
    """What a fleet is made of, checked."""

    bundle: Bundle
    model_input: BundleInput
    devices: tuple[Device, ...]
    least: int  # sub-models with which a request is answered
    own: tls.Identity | None
    fusion: Fusion | None  # None of a relay, which passes features on
    # of devices that refused `own`, the one that they take
    earlier: Mapping[Device, tls.Identity | None] = field(default_factory=dict)
    instance: str = ""  # of the relay's process that asks them; "" of an aggregator

    @property
    def fused_by(self) -> Fusion:
        """The fusion of an aggregator's fleet."""
        assert self.fusion is not None, "a relay does not fuse"
        return self.fusion

    def identity_of(self, device: Device) -> tls.Identity | None:
        """With which a device is asked."""
        return self.earlier.get(device, self.own)

    def earlier_of(self, devices: Sequence[Device]) -> dict[Device, tls.Identity | None]:
        """`earlier` of a fleet of these devices."""
        return {device: own for device, own in self.earlier.items() if device in devices}


@dataclass(eq=False)
class Fleet:
    """Belongs to one event loop."""

    parts: FleetParts
    fanout: Fanout
    losses: dict[frozenset[str], float]  # accuracy by what is missing
    outgoing: Outgoing
    in_flight: int = field(default=0)  # requests that began with it

    @property
    def links(self) -> Sequence[Link]:
        return self.fanout.links

    @contextlib.contextmanager
    def held(self) -> Iterator["Fleet"]:
        """For a request, from its beginning to its end."""
        self.in_flight += 1
        try:
            yield self
        finally:
            self.in_flight -= 1


def checked_parts(
    bundle: Bundle,
    model_input: BundleInput,
    devices: tuple[Device, ...],
    least: int | None,
    own: tls.Identity | None,
    fusion: Fusion | None,
    instance: str = "",
) -> FleetParts:
    """`least` None: all sub-models. Raises ConfigError."""
    count = len(bundle.sub_models)
    pins = Pins(bundle.sub_models)
    for device in devices:
        pins.check(device)
    least = least_of(least, count)
    return FleetParts(bundle, model_input, devices, least, own, fusion, instance=instance)


def least_of(wanted: int | None, count: int) -> int:
    """With how many of a bundle's `count` sub-models a request is answered. Raises ConfigError."""
    least = count if wanted is None else wanted
    if not 1 <= least <= count:
        raise ConfigError(
            f"--min-submodels is {least}; the bundle has {count} sub-models. Give 1 to {count}."
        )
    return least


def make_fleet(
    parts: FleetParts,
    deadline_seconds: float,
    before: Fleet | None = None,
    tried: Sequence[Link] = (),
) -> Fleet:
    """In the event loop, to which the channels belong. What is the same as in `before` or among
    those that were `tried` is the same link.
    """
    known = {link.made_of: link for link in [*tried, *([] if before is None else before.links)]}
    pins = Pins(parts.bundle.sub_models)
    expected = expected_answers(parts.bundle)
    zeros = np.zeros(parts.model_input.shape, parts.model_input.dtype)
    light = request_parts(parts.model_input.name, zeros)

    links: list[Link] = []
    for device in parts.devices:
        own = parts.identity_of(device)
        made_of = device, own, parts.bundle.digest
        link = known.get(made_of)
        if link is None:
            link = Link(
                device, parts.bundle.digest, pins, own, light, links, expected, parts.instance
            )
            link.is_tried = before is not None
        links.append(link)

    budget = None if before is None else before.fanout.budget
    limit = message_limit(parts.model_input)
    return Fleet(
        parts,
        Fanout(links, expected, deadline_seconds, budget),
        measured_losses(parts.bundle),
        Outgoing(len(parts.bundle.sub_models), limit, None if before is None else before.outgoing),
    )


class Watches:
    """The tasks that watch links. What ends one of them ends `failure`."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._tasks: dict[Link, asyncio.Task[NoReturn]] = {}
        self._failed: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()

    def begin(self, links: Iterable[Link]) -> None:
        """Of those that are not watched yet."""
        for link in links:
            if link not in self._tasks:
                task = asyncio.create_task(link.keep_watch(self._changed))
                task.add_done_callback(self._ended)
                self._tasks[link] = task

    async def end(self, links: Iterable[Link]) -> None:
        """Of those that are asked no more; closes them."""
        leaving = list(links)
        for link in leaving:
            self._tasks.pop(link).cancel()
        await asyncio.gather(*(link.close() for link in leaving))

    async def close(self) -> None:
        """Of all."""
        await self.end(list(self._tasks))

    def _ended(self, task: asyncio.Task[NoReturn]) -> None:
        if task.cancelled() or self._failed.done():
            return
        error = task.exception()
        if error is not None:
            self._failed.set_exception(error)

    async def failure(self) -> NoReturn:
        """Ends by what ended a watch, which none does by itself."""
        await self._failed
        raise AssertionError("it has no result")
