"""Files that take long to decode: the requests they meet are late, and no device is taken away."""

import asyncio
import contextlib

import grpc
import numpy as np
import pytest

from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.link import Link, Seen
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.reply import Expected
from tests.support.aggregator_process import (
    aggregator,
    all_ready,
    infer,
    lost_by_the_machine,
)
from tests.support.fake_device import fake_device, good
from tests.support.fleet_process import health
from tests.support.machine_clock import Standstill
from tests.support.worker_process import wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)
PICTURE = b"\xff\xd8\xff a picture"

# Decoding takes 0.7 s, which is beyond the deadline below; tensors take what they take.
SLOW_DECODER = """
import time
from edvit_tf.device.worker import service
decoded = service.decoded

def slowly(*arguments):
    time.sleep(0.7)
    return decoded(*arguments)

service.decoded = slowly
"""

# As a model that hangs in its first request, whatever it is of.
HANGS = """
import threading, time
from edvit_tf.device.worker import service
from edvit_tf.device.model import runtime
run = runtime.Model.run

def hang(self, **arrays):
    if threading.current_thread().name.startswith("submodel"):
        time.sleep(60)
    return run(self, **arrays)

runtime.Model.run = hang
service.decoded = lambda *arguments: time.sleep(60)
"""
HURRIED = "from edvit_tf.aggregate import heavy; heavy.LIGHT_SECONDS = 1.5"


def _code(channel, value) -> str:
    """LATE where the machine stood still at the deadline."""
    still = Standstill()
    try:
        infer(channel, value)
        return "OK"
    except grpc.RpcError as error:
        return "LATE" if lost_by_the_machine(error, still) else error.code().name


def test_files_that_take_long_open_no_breaker(tiny_bundle, tmp_path):
    """Three in a row at both devices, and the tensors of others behind them."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for j in ("0", "1"):
            arguments = ("--insecure", "--submodel", j)
            device = worker(tiny_bundle, tmp_path, *arguments, prelude=SLOW_DECODER)
            addresses.append(stack.enter_context(device).address)
        more = ("--deadline-ms", "400", "--metrics", "127.0.0.1:0")
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses, *more))
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 2))

        for _ in range(4):
            assert _code(channel, PICTURE) in ("UNAVAILABLE", "LATE")
            _code(channel, X)  # late behind it, or refused

        # the first tensor after them is whole
        wait_for(lambda: _code(channel, X) == "OK")  # whole: both sub-models are wanted
        assert one.events("breaker") == []
        assert [device["breaker"] for device in health(one)["devices"]] == ["closed"] * 2


def test_a_device_that_hangs_is_found_by_a_light_request_of_our_own(tiny_bundle, tmp_path):
    """Its clients send files alone, whose deadlines say nothing of it."""
    with contextlib.ExitStack() as stack:
        arguments = ("--insecure", "--stuck-seconds", "50")
        device = stack.enter_context(worker(tiny_bundle, tmp_path, *arguments, prelude=HANGS))
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                [device.address],
                "--deadline-ms",
                "300",
                prelude=HURRIED,
            )
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 1))
        assert _code(channel, PICTURE) in ("UNAVAILABLE", "LATE")
        opened = wait_for(lambda: one.events("breaker"))
        assert (opened[0]["state"], opened[0]["reason"]) == ("open", "deadline")


def _looks_after(why: str, waited: float, usual: list[float]) -> list[str]:
    """Which sub-models are asked of a device that has two, once a file of submodel-01 has ended."""
    asked_for = []

    def infer(request):
        asked_for.append(request.model_name)
        return good(request.model_name, "d", 4, request)

    async def talk(address):
        expected = [Expected(name, 4, "d") for name in ("submodel-00", "submodel-01")]
        link = Link(Device("pi", address), "d", Pins(()), None, (), [], expected)
        link.seen = Seen("ready", "", frozenset({"submodel-00", "submodel-01"}))
        for seconds in usual:
            link.answered(seconds, link.ask("submodel-01", True, None))

        asked = link.ask("submodel-01", True, None)
        link.unanswered(why, asked._replace(sent=asked.sent - waited))
        while link.heavy.excuses():
            await asyncio.sleep(0.01)
        await link.close()

    with fake_device("submodel-01", "d", infer) as address:
        asyncio.run(talk(address))

    return asked_for


def test_the_sub_model_that_was_late_is_the_one_that_is_looked_at():
    assert _looks_after("deadline", 1.0, []) == ["submodel-01"]


@pytest.mark.parametrize(
    "waited, usual, looks",
    [
        (0.01, [], 0),
        (1.1, [], 1),
        (1.1, [2.0] * 20, 0),
        (0.3, [0.1] * 20, 1),
    ],
)
def test_a_file_that_is_given_up_soon_costs_the_device_no_look(waited, usual, looks):
    assert len(_looks_after("", waited, usual)) == looks


def test_deadlines_of_a_device_that_answers_others_meanwhile_open_no_breaker():
    """Many requests that were sent at once are late at once: it is busy, and not silent."""

    async def talk():
        link = Link(Device("pi", "127.0.0.1:1"), "d", Pins(()), None, (), [], [])
        asked = [link.ask("submodel-00", False, None) for _ in range(8)]
        link.answered(0.01, asked.pop())
        for each in asked:
            link.unanswered("deadline", each)
        assert link.breaker.state == "closed"

        # an answer of another sub-model says nothing of this one
        asked = [link.ask("submodel-00", False, None) for _ in range(3)]
        link.answered(0.01, link.ask("submodel-01", False, None))
        for each in asked:
            link.unanswered("deadline", each)
        assert link.breaker.state == "open"
        await link.close()

    asyncio.run(talk())


def test_a_clients_own_short_time_is_its_deadline(tiny_bundle, tmp_path):
    from edvit_tf.device.rpc import messages, tensors

    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path))
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, [device.address]))
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 1))
        # 0.1 ms as a parameter: with a call's own deadline gRPC answers before the server does
        request = tensors.infer_request("edvit", {"image": X}, parameters={"timeout": 100})
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as error:
                messages.stub(channel, "ModelInfer")(request, timeout=10)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        assert one.events("breaker") == []
