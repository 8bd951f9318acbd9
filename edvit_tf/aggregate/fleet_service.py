"""What every server has in common that asks a fleet: its devices are watched, and devices.toml,
bundle and identity may change while it answers.

`service.py` fuses what they answer, `relay_service.py` passes it on.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING

from edvit_tf.aggregate import change, told
from edvit_tf.aggregate.fanout import Fanout
from edvit_tf.aggregate.fleet import Fleet, Watches
from edvit_tf.aggregate.reserve import Reserve
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.executor import Executor

if TYPE_CHECKING:
    from edvit_tf.aggregate.change import Reading

STUCK_SECONDS = 10.0  # of a fusion, which takes a millisecond


class FleetService(BaseService):
    """A server over the devices of a fleet."""

    def __init__(
        self,
        fleet: Fleet,
        names: Iterable[str],
        executors: Iterable[Executor],
        *,
        deadline_seconds: float,
        reading: "Reading | None" = None,
    ) -> None:
        """`reading` is what may be read again while it runs."""
        super().__init__(
            fleet.parts.bundle,
            fleet.parts.model_input,
            names,
            executors,
            deadline_seconds=deadline_seconds,
            stuck_seconds=STUCK_SECONDS,
            own=fleet.parts.own,
            serving=False,
        )
        self.reading = reading
        self.fleet = fleet
        self.watches = Watches(self.devices_changed)
        self.leaving: set[asyncio.Task[None]] = set()  # of fleets that were changed for another
        self.reserve = Reserve()
        self.told_of_lost = 0.0  # time.monotonic(), of devices that refuse the new identity

    @property
    def fanout(self) -> Fanout:
        """Of requests that begin now."""
        return self.fleet.fanout

    @property
    def min_submodels(self) -> int:
        return self.fleet.parts.least

    def description(self) -> dict:
        devices = [link.device for link in self.fanout.links]
        return {
            "min_submodels": self.min_submodels,
            "devices": {device.name: device.address for device in devices},
        }

    def background(self) -> list[Coroutine]:
        self.watches.begin(self.fleet.links)
        return [self.watches.failure()]

    async def renew(self, own: tls.Identity) -> str | None:
        why = await change.renew(self, own)
        if why is None:
            await super().renew(own)
        return why

    async def renew_rest(self) -> None:
        await change.renew_rest(self)

    async def reload(self) -> None:
        if self.reading is not None:
            await change.reload(self, self.reading)

    def put(self, fleet: Fleet) -> None:
        """Requests that begin now are answered by another fleet, of which all links are watched;
        those that began before end with theirs.
        """
        before, self.fleet = self.fleet, fleet
        self.bundle = fleet.parts.bundle
        for link in fleet.links:
            link.asked_from_now_on(fleet.links)

        task = asyncio.create_task(change.left(before, fleet, self.watches, [*self.leaving]))
        self.leaving.add(task)
        task.add_done_callback(self.leaving.discard)
        task.add_done_callback(lambda _: self._forget(before))
        self.devices_changed()

    def _forget(self, before: Fleet) -> None:
        """The times of devices and sub-models that were there in `before`, and are no more."""
        devices = {link.device.name for link in before.links}
        self.metrics.forget("device", devices - {link.device.name for link in self.fleet.links})
        for phase in ("compute", "wire"):
            gone = set(before.fanout.expected) - set(self.fleet.fanout.expected)
            self.metrics.forget(phase, gone)

    async def close(self) -> None:
        for task in self.leaving:
            task.cancel()
        await self.watches.close()

    def devices_changed(self) -> None:
        """Serving while enough sub-models can be asked."""
        self.availability.put(len(self.fanout.available()) >= self.min_submodels)

    def health(self) -> dict:
        return {**super().health(), **told.health(self.fleet)}
