"""What a link makes of its probes where the process stands still that probes."""

import asyncio
import time

import pytest

from edvit_tf.aggregate import probe
from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.probe import Seen

READY = Seen("ready", "", frozenset({"submodel-00"}))
DOWN = Seen("down", "DEADLINE_EXCEEDED")


class Looks:
    """A probe that finds one thing after the other; before each the whole process stands still for
    so many seconds.
    """

    def __init__(self, *looks: tuple[float, Seen]) -> None:
        self.left = list(looks)

    async def look(self, first: bool) -> Seen:
        seconds, seen = self.left.pop(0)
        time.sleep(seconds)
        return seen


@pytest.mark.parametrize(
    "before, looks, timeout, found",
    [
        (READY, [(0.3, DOWN), (0.0, READY)], 0.1, READY),
        (READY, [(0.3, DOWN), (0.3, DOWN)], 0.1, DOWN),
        # one that refuses, or that this process was awake for, is away
        (READY, [(0.0, DOWN)], 60.0, DOWN),
        # one that was away has nothing to lose
        (DOWN, [(0.3, DOWN)], 0.1, DOWN),
        (READY, [(0.3, READY)], 0.1, READY),
    ],
)
def test_a_ready_device_is_looked_at_again_where_we_stood_still_ourselves(
    monkeypatch, before, looks, timeout, found
):
    monkeypatch.setattr(probe, "TIMEOUT_SECONDS", timeout)
    scripted = Looks(*looks)

    async def talk() -> Seen:
        link = Link(Device("pi", "127.0.0.1:1"), "d", Pins(()), None, (), [], [])
        link.probe = scripted
        seen = await link._looked(before)
        await link.close()
        return seen

    assert asyncio.run(talk()) == found and scripted.left == []
