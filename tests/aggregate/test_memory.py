"""What requests leave behind, and what of them is held at the same time."""

import asyncio
import contextlib
import os

import grpc
import pytest

from edvit_tf.aggregate.outgoing import MAX_REQUESTS, MAX_SENT_BYTES, Outgoing
from edvit_tf.aggregate.request_parts import request_parts, size_bytes
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.callers import Caller
from tests.support.aggregator_process import aggregator, all_ready, infer
from tests.support.worker_process import wait_for, worker

MIB = 1 << 20
# What only the garbage collector frees is never freed.
NO_COLLECTOR = "import gc; gc.disable()"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_refused_files_leave_nothing_behind(tiny_bundle, tmp_path):
    """Of 24 files of 4 MiB, refused by the workers' decoder: before, 20 MiB stayed of each."""
    picture = b"\xff\xd8\xff" + bytes(4 * MIB)
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path, prelude=NO_COLLECTOR))
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                [device.address],
                "--deadline-ms",
                "60000",  # the first loads decoders, on a busy machine for long
                prelude=NO_COLLECTOR,
            )
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 1))

        def refused(times: int) -> None:
            for _ in range(times):
                with pytest.raises(grpc.RpcError) as error:
                    infer(channel, picture, timeout=90)
                assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        refused(4)
        before = [each.resident_bytes() for each in (one, device)]
        refused(24)
        after = [each.resident_bytes() for each in (one, device)]

    for name, start, end in zip(("aggregator", "worker"), before, after, strict=True):
        assert end - start < 40 * MIB, f"{name}: {(end - start) / MIB:.0f} MiB more"


def test_what_goes_out_is_limited_and_shared():
    """A lone connection may fill a third; another client's file finds room meanwhile."""
    greedy, other = (Caller("client", f"client/{name}", name) for name in ("greedy", "other"))

    async def talk():
        outgoing = Outgoing(sub_models=3, largest_bytes=8 * MIB)
        held = [asyncio.ensure_future(_hold(outgoing, greedy)) for _ in range(10)]
        await asyncio.sleep(0.01)
        assert outgoing.requests.used == 10 and outgoing.sent.used <= MAX_SENT_BYTES / 3
        async with outgoing.held(other, 8 * MIB, 0.0):
            assert outgoing.sent.used <= MAX_SENT_BYTES / 2

        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert (outgoing.requests.used, outgoing.sent.used) == (0, 0)

    asyncio.run(talk())


async def _hold(outgoing: Outgoing, caller: Caller) -> None:
    async with outgoing.held(caller, 8 * MIB, 10.0):
        await asyncio.sleep(10)


def test_a_reload_doubles_nothing_that_goes_out():
    """Two fleets of one aggregator, for as long as requests of the old one are answered."""
    caller = Caller("client", "client/me", "1")

    async def talk():
        old = Outgoing(sub_models=10, largest_bytes=8 * MIB)
        new = Outgoing(sub_models=10, largest_bytes=8 * MIB, before=old)
        async with old.held(caller, 8 * MIB, 1.0):
            with pytest.raises(messages.WireError, match="bytes to devices at once"):
                await _hold_once(new, caller)
        await _hold_once(new, caller)

        # one whose largest input would not go through has room of its own
        larger = Outgoing(sub_models=40, largest_bytes=8 * MIB, before=old)
        await _hold_once(larger, caller)

    asyncio.run(talk())


def test_what_has_no_room_waits_and_is_refused_at_its_deadline():
    caller = Caller("client", "client/me", "1")

    async def talk():
        outgoing = Outgoing(sub_models=10, largest_bytes=8 * MIB)
        async with outgoing.held(caller, 8 * MIB, 1.0):
            with pytest.raises(messages.WireError, match="bytes to devices at once") as refused:
                await _hold_once(outgoing, caller)
            assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED

        # and as soon as there is room it goes on
        await _hold_once(outgoing, caller)

    asyncio.run(talk())


def test_requests_beyond_a_callers_share_are_refused():
    caller = Caller("client", "client/me", "1")

    async def talk():
        outgoing = Outgoing(sub_models=2, largest_bytes=MIB)
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(messages.WireError, match="requests at once: got 1 more") as refused:
                for _ in range(MAX_REQUESTS):
                    await stack.enter_async_context(outgoing.held(caller, 100, 1.0))
            assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert outgoing.requests.used == MAX_REQUESTS // 3 - 1

    asyncio.run(talk())


async def _hold_once(outgoing: Outgoing, caller: Caller) -> None:
    async with outgoing.held(caller, 8 * MIB, 0.05):
        pass


@pytest.mark.parametrize("size", [1, 3, 127, 128, 16_383, 16_384, 300_000])
def test_a_file_in_parts_is_the_message_that_protobuf_makes(size):
    encoded = os.urandom(size)
    parts = request_parts("image", encoded, "client/me 1")
    whole = tensors.infer_request("", {"image": encoded}, parameters={"client": "client/me 1"})
    assert messages.MESSAGES["ModelInferRequest"].FromString(b"".join(parts)) == whole
    assert size_bytes(parts) == whole.ByteSize()
