"""What requests leave behind, and what of them is held at the same time."""

import asyncio
import contextlib
import os

import grpc
import pytest

from edvit_tf.aggregate.request_parts import request_parts, size_bytes
from edvit_tf.aggregate.room import MAX_INPUT_BYTES, Room
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.callers import Caller
from tests.support.aggregator_process import aggregator, infer
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
            aggregator(tiny_bundle, tmp_path, [device.address], prelude=NO_COLLECTOR)
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: one.events("device"))

        def refused(times: int) -> None:
            for _ in range(times):
                with pytest.raises(grpc.RpcError) as error:
                    infer(channel, picture)
                assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        refused(4)  # decoders are loaded by the first
        before = [each.resident_bytes() for each in (one, device)]
        refused(24)
        after = [each.resident_bytes() for each in (one, device)]

    for name, start, end in zip(("aggregator", "worker"), before, after, strict=True):
        assert end - start < 40 * MIB, f"{name}: {(end - start) / MIB:.0f} MiB more"


def test_bytes_in_flight_are_limited_and_shared():
    """A connection may hold a third of what an aggregator takes; another finds room."""
    greedy, other = (Caller("client", f"client/{name}", name) for name in ("greedy", "other"))

    async def talk():
        room = Room(sub_models=3, largest_bytes=8 * MIB)
        async with contextlib.AsyncExitStack() as held:
            waiting = []
            with pytest.raises(messages.WireError) as refused:
                for _ in range(100):
                    waiting.append(asyncio.ensure_future(_hold(room, greedy, 8 * MIB)))
                    await asyncio.sleep(0)
                    for task in waiting:
                        if task.done():
                            task.result()

            assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "bytes of inputs at once: got 8388608 more" in str(refused.value)
            assert room.inputs.used <= MAX_INPUT_BYTES / 3
            await held.enter_async_context(room.held(other, 8 * MIB, 1.0))

            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        assert (room.requests.used, room.inputs.used, room.sent.used) == (0, 0, 0)

    asyncio.run(talk())


async def _hold(room: Room, caller: Caller, size: int) -> None:
    async with room.held(caller, size, 10.0):
        await asyncio.sleep(10)


def test_what_goes_out_waits_for_room_and_is_refused_at_its_deadline():
    caller = Caller("client", "client/me", "1")

    async def talk():
        room = Room(sub_models=10, largest_bytes=8 * MIB)
        async with room.held(caller, 8 * MIB, 1.0):
            with pytest.raises(messages.WireError, match="bytes to devices at once"):
                await _hold_once(room, caller)

        # and as soon as there is room it goes on
        await _hold_once(room, caller)

    asyncio.run(talk())


async def _hold_once(room: Room, caller: Caller) -> None:
    async with room.held(caller, 8 * MIB, 0.05):
        pass


@pytest.mark.parametrize("size", [1, 3, 127, 128, 16_383, 16_384, 300_000])
def test_a_file_in_parts_is_the_message_that_protobuf_makes(size):
    encoded = os.urandom(size)
    parts = request_parts("image", encoded, "client/me 1")
    whole = tensors.infer_request("", {"image": encoded}, parameters={"client": "client/me 1"})
    assert messages.MESSAGES["ModelInferRequest"].FromString(b"".join(parts)) == whole
    assert size_bytes(parts) == whole.ByteSize()
