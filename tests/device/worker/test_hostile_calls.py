"""Calls that hold what others need: without a message, without its end, of a certificate that may
ask nothing.
"""

import contextlib
import ssl
import threading

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.operate import certs
from tests.support.bombs import BOMBS
from tests.support.fleet_process import get, metric
from tests.support.half_calls import HalfCalls
from tests.support.machine_clock import machine_seconds
from tests.support.worker_process import GATED, ask, wait_for, worker

NAME = "submodel-00"
REQUEST = tensors.infer_request(NAME, {"image": np.zeros((1, 16, 16, 1), np.uint8)})
INFER = messages.path("ModelInfer")
# of the limits, for calls whose message does not come: a fraction of it is enough to send 600
HASTY = "from edvit_tf.device.rpc import admission\nadmission.RECEIVE_SECONDS = 5.0\n"


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identities")
    certs.init(folder / "ca")
    names = [("worker", "pi"), ("worker", "stolen"), ("aggregator", "hub")]
    names += [("client", "greedy"), ("client", "polite")]
    found = {}
    for role, name in names:
        hosts = ["127.0.0.1"] if role != "client" else []
        issued = certs.issue(folder / "ca", role, name, hosts, 10, folder / name)
        found[name] = tls.identity(issued)

    return found


@pytest.fixture(scope="module")
def secure(tiny_bundle, identities, tmp_path_factory):
    arguments = ("--identity", str(identities["pi"].cert.parent), "--metrics", "127.0.0.1:0")
    folder = tmp_path_factory.mktemp("hostile")
    with worker(tiny_bundle, folder, *arguments, prelude=HASTY) as one:
        yield one


def never():
    """A request that never comes."""
    threading.Event().wait(60)
    yield b""


def hold(channel, method: str, count: int) -> list:
    """Calls with headers and no message."""
    call = channel.stream_unary(messages.path(method), None, None)
    return [call.future(never()) for _ in range(count)]


def counted(one, method: str, code: str) -> int:
    """How many requests of a method had an end, whatever their model."""
    start = f'edvit_requests_total{{method="{method}"'
    lines = [line for line in get(one, "/metrics").splitlines() if line.startswith(start)]
    return sum(int(line.split()[-1]) for line in lines if f'code="{code}"' in line)


def test_a_certificate_that_may_ask_nothing_holds_nothing(secure, identities):
    """Its role is looked at before a message is awaited."""
    with (
        secure.channel(identities["stolen"]) as stolen,
        secure.channel(identities["polite"]) as channel,
    ):
        started = machine_seconds()
        calls = hold(stolen, "ModelInfer", 150) + hold(stolen, "Check", 150)
        calls += [
            messages.stub(stolen, "Watch")(messages.new("HealthCheckRequest")) for _ in range(20)
        ]
        codes = {call.code() for call in calls}  # each waits for its end
        assert codes == {grpc.StatusCode.PERMISSION_DENIED}
        assert machine_seconds() - started < 20
        assert ask(channel, REQUEST).raw_output_contents

    assert counted(secure, "ModelInfer", "PERMISSION_DENIED") == 150
    assert counted(secure, "Check", "PERMISSION_DENIED") == 150
    assert "worker/stolen" in {line["name"] for line in secure.events("refused")}


def test_calls_without_a_message_end_and_leave_room_for_others(secure, identities):
    with (
        secure.channel(identities["greedy"]) as greedy,
        secure.channel(identities["polite"]) as channel,
    ):
        calls = hold(greedy, "ModelInfer", 600)
        # more than its share is refused at once, and the others are held meanwhile
        wait_for(lambda: counted(secure, "ModelInfer", "RESOURCE_EXHAUSTED") >= 300)
        for _ in range(5):
            assert ask(channel, REQUEST, timeout=5).raw_output_contents

        codes = [call.code() for call in calls]
        held = codes.count(grpc.StatusCode.DEADLINE_EXCEEDED)
        assert set(codes) == {
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        }
        assert 100 < held < 256
        assert ask(greedy, REQUEST, timeout=5).raw_output_contents

    assert counted(secure, "ModelInfer", "DEADLINE_EXCEEDED") == held
    texts = [line["detail"] for line in secure.events("refused")]
    assert any("message: got none that is whole within 5.0 s" in text for text in texts)


def test_watches_of_one_client_leave_room_for_others(secure, identities):
    watch = messages.new("HealthCheckRequest")
    with (
        secure.channel(identities["greedy"]) as greedy,
        secure.channel(identities["polite"]) as channel,
    ):
        calls = [messages.stub(greedy, "Watch")(watch) for _ in range(300)]
        wait_for(lambda: counted(secure, "Watch", "RESOURCE_EXHAUSTED") >= 100)
        assert ask(channel, REQUEST, timeout=5).raw_output_contents
        assert next(iter(messages.stub(channel, "Watch")(watch, timeout=5))).status == 1
        for call in calls:
            call.cancel()


def test_streams_of_a_client_leave_those_of_aggregators_room(secure, identities):
    """All of one name, over several connections, before the aggregator is there."""

    def opened(name: str, number: int):
        options = [("grpc.use_local_subchannel_pool", 1), ("edvit.test", number)]
        credentials = tls.channel_credentials(identities[name])
        channel = stack.enter_context(grpc.secure_channel(secure.address, credentials, options))
        call = messages.stub(channel, "ModelStreamInfer")(_then_wait(REQUEST))
        stack.callback(call.cancel)
        try:
            return next(call).error_message or "OK"
        except grpc.RpcError as error:
            return error.code().name

    with contextlib.ExitStack() as stack:
        found = [opened("greedy", i) for i in range(24)]
        assert set(found) == {"OK", "RESOURCE_EXHAUSTED"}
        assert found.count("OK") <= 16
        assert [opened("hub", i) for i in range(3)] == ["OK"] * 3


def _then_wait(request):
    yield request
    threading.Event().wait(60)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_messages_short_of_their_last_byte_take_little_memory(tiny_bundle, tmp_path, method):
    """40 of 8 MiB, which were all held: 330 MiB more."""
    with worker(tiny_bundle, tmp_path, "--insecure", "--metrics", "127.0.0.1:0") as one:
        size = one.serving["message_limit_bytes"]
        before = one.resident_bytes()
        with HalfCalls(one.address) as half:
            for _ in range(40):
                half.call(messages.path(method), size)
            # on a busy machine they come slowly
            half.pump(2)
            half.pump(28, until=lambda: sum(half.sent.values()) > 2 * size)
            grown = one.resident_bytes() - before
            # it is let in to its share, and no further
            assert 2 * size < sum(half.sent.values()) < 12 * size
            assert grown < 12 * size, f"{grown >> 20} MiB"
            with one.channel() as channel:
                assert ask(channel, REQUEST, timeout=5).raw_output_contents


def test_a_message_that_stops_short_ends_in_time(secure, identities):
    context = tls.client_context(identities["greedy"])
    with HalfCalls(secure.address, context) as half:
        calls = {half.call(INFER, 50_000) for _ in range(3)}
        half.pump(0.5)
        assert not half.ended
        half.pump(30, until=lambda: half.ended == calls)
        assert half.ended == calls


def test_a_certificate_that_may_ask_nothing_sends_no_message(secure, identities):
    """It ends before the message is asked for: what comes of it is at most a window."""
    context: ssl.SSLContext = tls.client_context(identities["stolen"])
    with HalfCalls(secure.address, context) as half:
        call = half.call(INFER, 8 << 20)
        half.pump(30, until=lambda: half.ended == {call})
        assert half.ended == {call} and half.sent[call] <= 65_535


@pytest.mark.parametrize("name", ["tiny tensors", "parameters", "empty strings"])
def test_a_message_that_holds_too_much_is_refused(secure, identities, name):
    """On a call, on a stream, and by a method that takes none of that."""
    data, words = BOMBS[name]
    data = messages.new("ModelInferRequest", model_name=NAME).SerializeToString() + data
    with secure.channel(identities["greedy"]) as channel:
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, data)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words in error.value.details()

        call = messages.stub(channel, "ModelStreamInfer")(_then_wait(data), timeout=10)
        answer = next(call)
        assert tensors.parameters(answer.infer_response)[messages.STATUS] == "INVALID_ARGUMENT"
        assert words in answer.error_message
        call.cancel()

        with pytest.raises(grpc.RpcError) as error:
            messages.stub(channel, "ModelReady")(data, timeout=10)
        assert "65536 at most of inference.ModelReadyRequest" in error.value.details()
        assert ask(channel, REQUEST).raw_output_contents


@pytest.fixture(scope="module")
def slow(tiny_bundle, identities, tmp_path_factory):
    """(a worker that takes 20 ms a request, a file with which no request ends)."""
    arguments = ("--identity", str(identities["pi"].cert.parent), "--metrics", "127.0.0.1:0")
    folder = tmp_path_factory.mktemp("slow")
    prelude = GATED.format(seconds=0.02, file=str(folder / "gate"))
    with worker(tiny_bundle, folder, *arguments, prelude=prelude) as one:
        yield one, folder / "gate"


def send(channel, count: int, **parameters) -> list[grpc.Future]:
    call = messages.stub(channel, "ModelInfer")
    asked = tensors.infer_request(
        NAME, {"image": np.zeros((1, 16, 16, 1), np.uint8)}, parameters=parameters
    )
    return [call.future(asked, timeout=60) for _ in range(count)]


def wait_until_queued(one, count: int) -> None:
    wait_for(lambda: metric(one, "edvit_queue_depth", model=NAME) == count)


@pytest.mark.parametrize("by_an_aggregator", [False, True])
def test_a_greedy_client_does_not_keep_a_polite_one_waiting(slow, identities, by_an_aggregator):
    """64 requests wait before five of another; directly, or by an aggregator that names its
    clients.
    """
    one, gate = slow
    names = ("hub", "hub") if by_an_aggregator else ("greedy", "polite")
    said = ({"client": "client/greedy 1"}, {"client": "client/polite 1"})
    ended = []
    with (
        one.channel(identities[names[0]]) as greedy,
        one.channel(identities[names[1]]) as polite,
    ):
        gate.touch()
        many = send(greedy, 64, **(said[0] if by_an_aggregator else {}))
        wait_until_queued(one, 63)  # and one has begun
        few = send(polite, 5, **(said[1] if by_an_aggregator else {}))
        wait_until_queued(one, 68)
        for call in (*many, *few):
            call.add_done_callback(ended.append)
        gate.unlink()
        assert all(call.result(60).raw_output_contents for call in (*many, *few))

        # they were served between the others
        wait_for(lambda: len(ended) == 69)
        assert max(ended.index(call) for call in few) < 50


def test_what_a_client_says_of_itself_gives_it_no_turns(slow, identities):
    """Only an aggregator is believed whom it asks for."""
    one, gate = slow
    ended = []
    with (
        one.channel(identities["greedy"]) as greedy,
        one.channel(identities["polite"]) as polite,
    ):
        gate.touch()
        many = []
        for i in range(60):
            many += send(greedy, 1, client=f"client/{i} 1")
        wait_until_queued(one, 59)
        (call,) = send(polite, 1)
        wait_until_queued(one, 60)
        for each in (*many, call):
            each.add_done_callback(ended.append)
        gate.unlink()
        assert call.result(60).raw_output_contents
        wait_for(lambda: len(ended) == 61)
        assert ended.index(call) < 50


def test_a_call_without_any_message_is_told_so(secure, identities):
    with secure.channel(identities["polite"]) as channel:
        call = channel.stream_unary(INFER, None, None)
        with pytest.raises(grpc.RpcError) as error:
            call(iter(()), timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "message: got none; expected one" in error.value.details()
