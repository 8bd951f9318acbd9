"""What several sub-models of a device are asked goes out in one message, and comes back one by
one.
"""

import asyncio

import numpy as np
import pytest

from edvit_tf.aggregate.device_stream import LARGEST_BYTES, MOST_LARGE, DeviceStream
from edvit_tf.aggregate.request_parts import request_parts
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.together import ALSO, OneOf, each_of
from tests.support.worker_process import worker

NAMES = ["submodel-00", "submodel-01"]


class Call:
    """A stream whose other end answers each sub-model of each message with its name."""

    def __init__(self, log: list) -> None:
        self._log = log
        self._answers: asyncio.Queue = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        request = messages.parsed("ModelInferRequest", data)
        each = each_of(request)
        self._log.append([one.model_name for one in each])
        for one in each:
            answer = messages.new("ModelStreamInferResponse")
            answer.infer_response.model_name, answer.infer_response.id = one.model_name, one.id
            self._answers.put_nowait(answer)

    async def read(self):
        return await self._answers.get()

    def cancel(self) -> None:
        self._log.append("cancelled")


class Channel:
    """A channel that has such streams, and logs what is written."""

    def __init__(self) -> None:
        self.log: list = []

    unary_unary = unary_stream = None

    def stream_stream(self, *_, **__):
        return lambda: Call(self.log)


class Silent(Channel):
    """A channel whose streams never answer."""

    def stream_stream(self, *_, **__):
        call = Call(self.log)
        call.read = asyncio.Event().wait
        return lambda: call


def written(*asked: tuple[str, str, bytes, float, bool]) -> list:
    """What goes out when all of (name, id, request, seconds, together) are asked at once."""

    async def talk() -> list:
        channel = Channel()
        stream = DeviceStream(channel)
        asking = [
            stream.infer(request, name, request_id, seconds, together)
            for name, request_id, request, seconds, together in asked
        ]
        answers = await asyncio.gather(*asking)
        assert [one.model_name for one in answers] == [row[0] for row in asked]
        log = list(channel.log)
        stream.close()
        return log

    return asyncio.run(talk())


def test_what_is_asked_together_is_one_message_and_nothing_else_is():
    same = [(name, "7", b"", 9.0, True) for name in "abc"]
    assert written(*same) == [["a", "b", "c"]]
    # a device that does not take such, another request, another time
    assert written(*[(name, "7", b"", 9.0, False) for name in "abc"]) == [["a"], ["b"], ["c"]]
    assert written(*same[:2], ("c", "8", b"", 9.0, True)) == [["a", "b"], ["c"]]
    assert written(*same[:2], ("c", "7", b"", 3.0, True)) == [["a", "b"], ["c"]]


def test_more_names_than_a_message_may_have_are_two_messages():
    names = [f"{j:03d}" + "x" * 125 for j in range(128)]  # the longest that a manifest may have
    first, second = written(*[(name, "7", b"", 9.0, True) for name in names])
    assert first + second == names and 100 < len(first) < 120


def test_of_a_large_request_the_one_message_has_a_stream_of_its_own_that_ends():
    request = request_parts("image", np.zeros(LARGEST_BYTES + 1, np.uint8))[0]
    asked = [(name, "7", request, 9.0, True) for name in "abc"]
    assert written(*asked) == [["a", "b", "c"], "cancelled"]
    # another one does not wait behind it, nor does it keep its stream
    assert sorted(map(str, written(*asked, ("a", "8", b"", 9.0, True)))) == [
        "['a', 'b', 'c']",
        "['a']",
        "cancelled",
    ]


def test_large_requests_have_some_streams_and_the_others_calls_of_their_own():
    """A device that has no more room for streams refuses them; calls wait for their turn."""

    async def talk() -> tuple[list[bool], bool]:
        stream = DeviceStream(Silent())
        large = bytes(LARGEST_BYTES + 1)
        asking, room = [], []
        for turn in range(MOST_LARGE):
            room.append(stream.has_room(str(turn)))
            asking.append(asyncio.ensure_future(stream.infer(large, "a", str(turn), 60.0, True)))
            await asyncio.sleep(0)
        room += [stream.has_room("0"), stream.has_room("another")]
        # one that is given up leaves its place
        asking[0].cancel()
        await asyncio.wait(asking[:1])
        after = stream.has_room("another")
        stream.close()
        await asyncio.gather(*asking, return_exceptions=True)
        return room, after

    assert asyncio.run(talk()) == ([True] * MOST_LARGE + [True, False], True)


def test_a_message_for_more_models_than_a_bundle_may_have_is_none():
    request = messages.new("ModelInferRequest", model_name="a", id="7")
    assert each_of(request) == [request]

    tensors.set_parameters(request, {ALSO: "b,a,b"})
    each = each_of(request)
    assert [one.model_name for one in each] == ["a", "b"]
    assert all(isinstance(one, OneOf) and one.id == "7" for one in each)
    assert each[0].shared is each[1].shared
    tensors.set_parameters(request, {ALSO: ",".join(map(str, range(1023)))})
    assert len(each_of(request)) == 1024
    tensors.set_parameters(request, {ALSO: ",".join(map(str, range(1024)))})
    with pytest.raises(messages.WireError, match="parameter 'also'.*1024 models at most"):
        each_of(request)
    tensors.set_parameters(request, {ALSO: "," * 1_000_000})
    assert len(each_of(request)) == 3  # "a", "" and the rest, which is not walked through


def test_a_worker_answers_each_of_its_models_by_itself(tiny_bundle, tmp_path):
    """And refuses those that it does not have, each by itself, be they more than all of its own."""
    x = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1), np.uint8)
    with worker(tiny_bundle, tmp_path) as one, one.channel() as channel:
        asked = tensors.infer_request(
            NAMES[0],
            {"image": x},
            request_id="7",
            parameters={ALSO: NAMES[1]},
        )
        found = answers(channel, asked)
        alone = {}
        for name in NAMES:
            request = tensors.infer_request(name, {"image": x}, request_id="8")
            alone |= answers(channel, request)
        assert sorted(found) == NAMES
        for name in NAMES:
            np.testing.assert_array_equal(
                tensors.arrays(found[name].infer_response)["features"],
                tensors.arrays(alone[name].infer_response)["features"],
            )

        tensors.set_parameters(asked, {ALSO: "submodel-77,submodel-78,submodel-79"})
        found = answers(channel, asked)
        assert len(found) == 4
        assert not found[NAMES[0]].error_message
        assert "expected one of" in found["submodel-77"].error_message


def answers(channel, request) -> dict:
    """What a stream of one message is answered, by model."""
    call = messages.stub(channel, "ModelStreamInfer")(iter([request]), timeout=60)
    return {one.infer_response.model_name: one for one in map(messages.checked, call)}
