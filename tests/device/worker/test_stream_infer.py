"""ModelStreamInfer, with real workers: each answer bound to its request, deadlines, taking back,
breaks, draining.
"""

import asyncio
import atexit
import contextlib
import queue
import signal
import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from edvit_tf.aggregate.device_stream import DeviceStream
from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.request_parts import request_parts
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.operate import certs
from tests.support.fake_device import fake_device, good
from tests.support.fleet_process import get, metric
from tests.support.machine_clock import machine_seconds
from tests.support.ports import free_port
from tests.support.worker_process import GATED, SLOW, ask, wait_for, worker

RNG = np.random.default_rng(3)
NAME = "submodel-00"

# One loop for all of this process: what is left of a call that has ended, gRPC hands to the loop
# that made it, and calls on other loops fail where that one is closed.
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def run(talk):
    """What a coroutine returns."""
    return _LOOP.run_until_complete(talk)


def picture() -> np.ndarray:
    return RNG.integers(0, 256, (1, 16, 16, 1), np.uint8)


def request(request_id: str, x=None, **parameters):
    return tensors.infer_request(
        NAME, {"image": picture() if x is None else x}, request_id=request_id, parameters=parameters
    )


@contextlib.contextmanager
def stream(channel) -> Iterator[tuple]:
    """(put a request, None ends; the call, which gives answers)."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    call = messages.stub(channel, "ModelStreamInfer")(iter(waiting.get, None), timeout=60)
    try:
        yield waiting.put, call
    finally:
        waiting.put(None)
        call.cancel()


def by_id(call) -> dict:
    """All answers until the stream's end, by id."""
    found: dict = {}
    for one in map(messages.checked, call):
        assert one.infer_response.id not in found
        found[one.infer_response.id] = one
    return found


def status(answer) -> str:
    return tensors.parameters(answer.infer_response).get(messages.STATUS, "OK")


@pytest.fixture(scope="module")
def running(tiny_bundle, tmp_path_factory):
    with worker(
        tiny_bundle, tmp_path_factory.mktemp("streams"), "--insecure", "--metrics", "127.0.0.1:0"
    ) as one:
        yield one


def test_good_and_bad_requests_on_one_stream_each_get_their_answer(tiny_bundle, running):
    pictures = {f"good {i}": picture() for i in range(20)}
    bad = {
        "shape": (
            request("shape", np.zeros((1, 8, 8, 1), np.uint8)),
            "INVALID_ARGUMENT",
            "[1, 16, 16, 1]",
        ),
        "type": (request("type", np.zeros((1, 16, 16, 1), np.float64)), "INVALID_ARGUMENT", "FP64"),
        "": (b"\xff\xff\xff", "INVALID_ARGUMENT", "no protobuf message"),
        "timeout": (request("timeout", timeout="soon"), "INVALID_ARGUMENT", "microseconds"),
        "other": (
            tensors.infer_request("other", {}, request_id="other"),
            "INVALID_ARGUMENT",
            "submodel-00",
        ),
    }
    with running.channel() as channel, stream(channel) as (put, call):
        for (name, x), (_, case) in zip(pictures.items(), [*bad.items()] * 4, strict=True):
            put(request(name, x))
            if name in list(pictures)[: len(bad)]:
                put(case[0])
        put(None)
        answers = by_id(call)
        assert ask(channel, request("a call of its own")).id == "a call of its own"
    assert answers.keys() == pictures.keys() | bad.keys()
    for name, x in pictures.items():
        assert status(answers[name]) == "OK" and not answers[name].error_message
        expected, _ = run_model(tiny_bundle / f"{NAME}.tflite", {"image": x})
        np.testing.assert_array_equal(
            tensors.arrays(answers[name].infer_response)["features"], expected["features"]
        )
    for name, (_, code, text) in bad.items():
        assert status(answers[name]) == code and text in answers[name].error_message, answers[name]
    assert (
        'edvit_requests_total{method="ModelInfer",model="submodel-00",code="INVALID_ARGUMENT"}'
        in get(running, "/metrics")
    )


def test_a_timeout_holds_in_calls_too(running):
    with running.channel() as channel:
        for wrong in (-1, True, 0.5, "soon"):
            with pytest.raises(grpc.RpcError) as error:
                ask(channel, request("r", timeout=wrong))
            assert (
                error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                and "'timeout'" in error.value.details()
            )
        assert ask(channel, request("r", timeout=0)).id == "r"  # none
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, request("r", timeout=1))
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_flood_is_answered_to_the_last_request(running):
    """More than a stream's room and a queue's: each gets its answer or its refusal, the next one is
    served.
    """
    with running.channel() as channel, stream(channel) as (put, call):
        for i in range(1000):
            put(request(str(i), timeout=30_000_000))
        put(None)
        answers = by_id(call)
        assert answers.keys() == {str(i) for i in range(1000)}
        assert {status(a) for a in answers.values()} <= {"OK", "RESOURCE_EXHAUSTED"}
        assert ask(channel, request("next")).id == "next"
    wait_for(lambda: "edvit_in_flight 0" in get(running, "/metrics"))


def test_the_queue_follows_timeouts_and_what_is_taken_back_is_not_run(tiny_bundle, tmp_path):
    arguments, gate = ("--insecure", "--metrics", "127.0.0.1:0"), tmp_path / "gate"
    gate.touch()
    slow = GATED.format(seconds=0, file=str(gate))
    with (
        worker(tiny_bundle, tmp_path, *arguments, prelude=slow) as one,
        one.channel() as channel,
        stream(channel) as (put, call),
    ):
        put(request("learns"))  # how long it takes
        time.sleep(2)
        gate.unlink()
        assert next(call).infer_response.id == "learns"
        gate.touch()
        put(request("first"))
        wait_for(lambda: "edvit_in_flight 1" in get(one, "/metrics"))
        put(request("taken back"))
        put(request("hasty", timeout=600_000))
        put(request("patient"))
        put(messages.new("ModelInferRequest", model_name=NAME, id="unknown"))
        taken_back = messages.new("ModelInferRequest", model_name=NAME, id="taken back")
        tensors.set_parameters(taken_back, {"cancel": True})
        put(taken_back)
        put(None)
        refused = [next(call) for _ in range(2)]
        wait_for(lambda: metric(one, "edvit_requests_total", code="CANCELLED") == 1)
        gate.unlink()
        answers = by_id([*refused, *call])
        counted = get(one, "/metrics")
    assert {name: status(a) for name, a in answers.items()} == {
        "first": "OK",
        "hasty": "RESOURCE_EXHAUSTED",
        "patient": "OK",
        "unknown": "INVALID_ARGUMENT",
    }
    assert 'edvit_compute_seconds_count{model="submodel-00"} 3' in counted  # learns, first, patient
    assert (
        'edvit_requests_total{method="ModelInfer",model="submodel-00",code="CANCELLED"} 1'
        in counted
    )


def test_sigterm_answers_what_a_stream_has_asked_and_ends_idle_ones(tiny_bundle, tmp_path):
    with (
        worker(
            tiny_bundle,
            tmp_path,
            "--insecure",
            "--deadline-ms",
            "60000",
            prelude=SLOW.format(seconds=1),
        ) as one,
        one.channel() as channel,
        stream(channel) as (put, call),
        stream(channel) as (_, idle),
    ):
        put(request("in flight"))
        put(messages.new("ModelInferRequest", model_name="other", id="read"))
        assert next(call).infer_response.id == "read"  # so what came before it was too
        started = machine_seconds()
        one.process.send_signal(signal.SIGTERM)
        wait_for(lambda: one.events("draining"))
        put(request("too late"))
        answers = by_id(call)
        assert {name: status(a) for name, a in answers.items()} == {
            "too late": "UNAVAILABLE",
            "in flight": "OK",
        }
        assert next(iter(answers)) == "too late"  # at once
        assert not list(idle) and idle.code() is grpc.StatusCode.OK
        assert one.process.wait(60) == 0
        assert "Traceback" not in one.log_file.read_text()
        assert machine_seconds() - started < 10  # no grace of 60 s for a stream that nobody ends


def test_a_peer_that_does_not_read_fills_no_memory(running):
    """300 refusals fill what gRPC sends ahead of a reader; then large requests come, each of which
    is refused too.
    """
    large = request("large", np.zeros((1, 2000, 2000, 1), np.uint8))
    with running.channel() as channel:
        ask(channel, request("before"))
        before = running.resident_bytes()
        with stream(channel) as (put, call):
            for _ in range(300):
                put(messages.new("ModelInferRequest", model_name="other", id="r"))
            for _ in range(100):
                put(large)
            refused = (
                'edvit_requests_total{method="ModelInfer",model="submodel-00",'
                'code="INVALID_ARGUMENT"} '
            )
            counts = []
            wait_for(
                lambda: (
                    counts.append(get(running, "/metrics").partition(refused)[2].split("\n")[0])
                    or (len(counts) > 20 and len(set(counts[-20:])) == 1)
                )
            )
            grown = running.resident_bytes() - before
            put(None)
            assert len(list(call)) == 400
        assert grown < 150 << 20, grown
        assert ask(channel, request("next")).id == "next"


def test_streams_that_are_open_are_limited_and_leave_room_for_others(running):
    with running.channel() as channel, contextlib.ExitStack() as stack:
        # a third of 32: an open stream may hold a message of 8 MiB but for its last byte
        for i in range(10):
            put, call = stack.enter_context(stream(channel))
            put(request(str(i)))
            assert next(call).infer_response.id == str(i)
        with stream(channel) as (put, call), pytest.raises(grpc.RpcError) as error:
            put(request("one more"))
            next(call)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "open streams at once: got 1 more, with 10 held by" in error.value.details()
        assert ask(channel, request("a call")).id == "a call"

        # another connection finds room for its own
        with (
            grpc.insecure_channel(
                running.address, [("grpc.use_local_subchannel_pool", 1)]
            ) as other,
            stream(other) as (put, call),
        ):
            put(request("another"))
            assert next(call).infer_response.id == "another"


def test_what_is_given_up_in_the_queue_holds_up_nobody():
    async def talk():
        executor = Executor("model", lambda seconds: time.sleep(seconds), 0.5)
        running = asyncio.ensure_future(executor.submit(0.5, 60))
        await asyncio.sleep(0.1)
        waiting = [asyncio.ensure_future(executor.submit(60, 100)) for _ in range(40)]
        await asyncio.sleep(0)
        assert executor.waiting == 40
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert executor.waiting == 0 and executor.expected_wait() < 0.5
        # refused, were the forty still counted: they would take 20 s
        assert (await executor.submit(0.0, 15)).value is None
        await running
        assert executor.unfinished == 0
        executor.close()

    run(talk())


def test_a_stream_needs_a_role(tiny_bundle, tmp_path):
    certs.init(tmp_path / "ca")
    ids = {
        role: certs.issue(tmp_path / "ca", role, "me", hosts, 10, tmp_path / role)
        for role, hosts in (("worker", ["127.0.0.1"]), ("aggregator", ["127.0.0.1"]))
    }
    with worker(tiny_bundle, tmp_path, "--identity", str(ids["worker"])) as one:
        for role, code in (
            ("aggregator", grpc.StatusCode.OK),
            ("worker", grpc.StatusCode.PERMISSION_DENIED),
        ):
            with one.channel(tls.identity(ids[role])) as channel, stream(channel) as (put, call):
                put(request("r"))
                put(None)
                with (
                    contextlib.nullcontext()
                    if code is grpc.StatusCode.OK
                    else pytest.raises(grpc.RpcError)
                ):
                    assert list(by_id(call)) == ["r"]
                assert call.code() is code


async def outcome(stream: DeviceStream, request_id: str, seconds: float = 30.0):
    """The id of the answer, or the code of the error."""
    shared = messages.serialise(
        tensors.infer_request("", {"image": picture()}, request_id=request_id)
    )
    try:
        return messages.checked(await stream.infer(shared, NAME, request_id, seconds)).id
    except grpc.aio.AioRpcError as error:
        return error.code()


def test_a_silent_device_costs_no_more_than_the_deadline_and_late_answers_are_nobody_s(
    tiny_bundle, tmp_path
):
    async def talk(one):
        async with grpc.aio.insecure_channel(one.address) as channel:
            stream = DeviceStream(channel)
            assert await outcome(stream, "before") == "before"
            one.process.send_signal(signal.SIGSTOP)
            started = machine_seconds()
            late = await asyncio.gather(*(outcome(stream, f"late {i}", 0.3) for i in range(200)))
            assert (
                set(late) == {grpc.StatusCode.DEADLINE_EXCEEDED}
                and machine_seconds() - started < 1.5
            )
            one.process.send_signal(signal.SIGCONT)
            assert await asyncio.gather(*(outcome(stream, f"after {i}") for i in range(5))) == [
                f"after {i}" for i in range(5)
            ]
            stream.close()

    with worker(tiny_bundle, tmp_path) as one:
        run(talk(one))


def test_a_broken_stream_fails_at_once_and_the_next_request_opens_another(tiny_bundle, tmp_path):
    address = f"127.0.0.1:{free_port()}"

    async def talk():
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            stream = DeviceStream(channel)
            with worker(
                tiny_bundle,
                tmp_path,
                "--insecure",
                "--listen",
                address,
                prelude=SLOW.format(seconds=90),
            ) as one:
                asked = [asyncio.ensure_future(outcome(stream, str(i), 300)) for i in range(3)]
                await asyncio.sleep(0.3)
                one.process.kill()
                started = machine_seconds()
                assert set(await asyncio.gather(*asked)) == {grpc.StatusCode.UNAVAILABLE}
                assert await outcome(stream, "nobody there") == grpc.StatusCode.UNAVAILABLE
                assert machine_seconds() - started < 5
            with worker(tiny_bundle, tmp_path, "--insecure", "--listen", address):
                end = time.monotonic() + 60
                while (got := await outcome(stream, "again")) != "again":
                    assert got is grpc.StatusCode.UNAVAILABLE and time.monotonic() < end
                    await asyncio.sleep(0.05)
            stream.close()

    run(talk())


def test_a_device_that_ends_the_stream_is_down_and_not_waited_for():
    answers = {"good": lambda asked: good(NAME, "d", 4, asked), "ends": lambda asked: None}

    async def talk(address):
        async with grpc.aio.insecure_channel(address) as channel:
            stream, started = DeviceStream(channel), machine_seconds()
            for request_id in ("good", "ends", "good"):
                expected = grpc.StatusCode.UNAVAILABLE if request_id == "ends" else "good"
                assert await outcome(stream, request_id, 20) == expected
            assert machine_seconds() - started < 10
            stream.close()

    with fake_device(NAME, "d", lambda asked: answers[asked.id](asked), streams=True) as address:
        run(talk(address))


@pytest.mark.parametrize(
    "status_said, expected", [("OK", "UNKNOWN"), ("", "UNKNOWN"), ("INTERNAL", "INTERNAL")]
)
def test_an_error_on_a_stream_has_its_code(status_said, expected):
    def infer(asked):
        answer = messages.new("ModelStreamInferResponse", error_message="no")
        answer.infer_response.model_name, answer.infer_response.id = asked.model_name, asked.id
        tensors.set_parameters(answer.infer_response, {messages.STATUS: status_said})
        return messages.serialise(answer)

    async def talk(address):
        async with grpc.aio.insecure_channel(address) as channel:
            stream = DeviceStream(channel)
            assert (await outcome(stream, "r", 20)).name == expected
            stream.close()

    with fake_device(NAME, "d", infer, streams=True) as address:
        run(talk(address))


def test_a_device_that_reads_no_more_gets_another_stream_and_nothing_piles_up():
    wedged, asked_so_far = threading.Event(), []

    def infer(asked):
        asked_so_far.append(asked.id)
        if len(asked_so_far) == 1:
            wedged.wait(60)
        return good(asked.model_name, "d", 4, asked)

    async def talk(address):
        async with grpc.aio.insecure_channel(address) as channel:
            stream = DeviceStream(channel)
            shared = messages.serialise(
                tensors.infer_request("", {"image": bytes(200 << 10)}, request_id="large")
            )
            for i in range(40):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stream.infer(shared, f"model {i}", "large", 0.02)
                assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                if i == 20:
                    assert not stream._stream._unsent and not stream._stream._waiting
            first = stream._stream
            await asyncio.sleep(3.1)
            assert await outcome(stream, "again", 20) == "again"
            assert stream._stream is not first and first._ended
            stream.close()

    with fake_device(NAME, "d", infer, streams=True) as address:
        run(talk(address))
        wedged.set()


def test_large_requests_and_older_workers_are_asked_by_calls():
    """The device has calls alone: a small request finds no stream there, a large one does not try
    it.
    """

    async def talk(address):
        link = Link(Device("one", address), "d", Pins(()), None, (), [], [])
        for bytes_of_it, streams in ((300 << 10, True), (300, False)):
            link.probe.streams = True
            parts = request_parts("image", bytes(bytes_of_it))
            assert messages.checked(await link.infer(NAME, parts, "r", 20)).id == "r"
            assert link.probe.streams is streams
        await link.close()

    with fake_device(NAME, "d", lambda asked: good(NAME, "d", 4, asked)) as address:
        run(talk(address))


def test_a_device_without_streams_is_asked_by_a_call_whatever_code_the_break_shows(monkeypatch):
    """A write that fails before the device's code is read makes that code INTERNAL."""

    async def hidden_code(call):
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata()
        )

    monkeypatch.setattr(grpc.aio.StreamStreamCall, "read", hidden_code)

    async def talk(address):
        link = Link(Device("one", address), "d", Pins(()), None, (), [], [])
        link.probe.streams = True
        for _ in range(3):
            parts = request_parts("image", bytes(300))
            assert messages.checked(await link.infer(NAME, parts, "r", 20)).id == "r"
            assert not link.probe.streams
        await link.close()

    with fake_device(NAME, "d", lambda asked: good(NAME, "d", 4, asked)) as address:
        run(talk(address))
