"""Who is let in, and read further: after refusals, and by whose share."""

from types import SimpleNamespace

import pytest

from edvit_tf.device.rpc import messages, streams, tensors
from edvit_tf.device.rpc.admission import pause_seconds, payer
from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.shares import Shares

HUB = Caller("aggregator", "aggregator/hub", "1")
ALICE = Caller("client", "client/alice", "1")
SOMEBODY = Caller("", "ipv4:192.0.2.7", "ipv4:192.0.2.7:1")
FOR_BOB = tensors.infer_request("m", {}, parameters={"client": "client/bob 7"})
THEIR_OWN = tensors.infer_request("m", {})


def service(*, plaintext: bool):
    """As much of one as a stream asks for, with 40 calls."""
    calls = SimpleNamespace(used=40)
    own = None if plaintext else object()
    return SimpleNamespace(own=own, names=("a", "b", "c"), room=SimpleNamespace(calls=calls))


@pytest.mark.parametrize(
    "caller, request_, expected",
    [
        (SOMEBODY, FOR_BOB, 0.0),
        (SOMEBODY, THEIR_OWN, 0.005),
        (SOMEBODY, "garbage", 0.005),
        (ALICE, FOR_BOB, 0.005),
        (ALICE, THEIR_OWN, 0.005),
        (HUB, FOR_BOB, 0.0),
    ],
)
def test_a_stream_pauses_after_a_refusal_but_an_aggregator_s(caller, request_, expected):
    """In plaintext who asks for a client is taken for one."""
    stream = streams._Stream(service(plaintext=not caller.role), caller, None)
    assert stream._pause_seconds() == 0
    stream._is_refused(messages.Garbage("") if request_ == "garbage" else request_)
    assert stream._pause_seconds() == expected
    assert stream._pause_seconds() == 0


def test_a_client_s_message_for_many_models_is_paused_after_as_that_many():
    stream = streams._Stream(service(plaintext=False), ALICE, None)
    stream._asked = 3
    stream._is_refused(THEIR_OWN)
    assert stream._pause_seconds() == pytest.approx(3 * 0.005)
    stream._is_refused(THEIR_OWN)
    assert stream._pause_seconds() == 0.005


def test_a_message_for_many_models_is_held_whole_until_the_last_has_answered():
    """One that is refused at once leaves the message where it is, as the others read it."""
    waiting = Shares("bytes", 1000)
    held = streams._Held(100)
    with held.by(waiting, THEIR_OWN, ALICE):
        with held.by(waiting, THEIR_OWN, ALICE):
            assert waiting.used == 100
        with pytest.raises(messages.WireError), held.by(waiting, THEIR_OWN, ALICE):
            raise messages.wrong("model_name", "'b'", "one of a")
        assert waiting.used == 100
    assert waiting.used == 0

    # whoever comes after the others have ended holds it again
    with held.by(waiting, THEIR_OWN, ALICE):
        assert waiting.used == 100
    too_much = streams._Held(600).by(waiting, THEIR_OWN, ALICE)
    with pytest.raises(messages.WireError, match="bytes at once"), too_much:
        pass
    assert waiting.used == 0


def test_what_was_dear_to_read_is_paused_after_by_how_many_there_are():
    """Also where a client is named in plaintext. 40 of 2 ms, refused again and again, have a fifth
    of the event loop.
    """
    stream = streams._Stream(service(plaintext=True), SOMEBODY, None)
    stream._took = 0.002
    stream._is_refused(FOR_BOB)
    assert stream._pause_seconds() == pytest.approx(4 * 40 * 0.002)
    assert pause_seconds(service(plaintext=True).room, 0.0004) == 0


def test_nobody_waits_for_a_machine_that_stood_still():
    """A second for one message is no message's fault, and would be 160 s for each of 40."""
    assert pause_seconds(service(plaintext=True).room, 1.0) == 20.0


def test_an_aggregator_s_stream_is_read_on_for_each_model():
    one = service(plaintext=False)
    assert streams._Stream(one, HUB, None)._room._value == 3 * 256
    assert streams._Stream(one, ALICE, None)._room._value == 256


def test_an_aggregator_s_clients_have_shares_of_their_own():
    """A greedy one takes the aggregator's as well, and leaves the others theirs."""
    shares = Shares("bytes", 1000, 500)

    def taken(client: str) -> int:
        request = tensors.infer_request("m", {}, parameters={"client": f"client/{client} 1"})
        count = 0
        while shares.take(payer(shares, request, HUB, 10), 10):
            count += 1
        return count

    assert taken("greedy") >= 40
    assert taken("polite") >= 3
    # those that ask by themselves, too
    assert shares.take(ALICE, 10)


def test_whom_a_client_or_somebody_in_plaintext_names_pays_nothing():
    shares = Shares("bytes", 1000)
    for caller in (ALICE, SOMEBODY):
        assert payer(shares, FOR_BOB, caller, 10) is caller
    assert payer(shares, messages.new("ModelReadyRequest"), HUB, 10) is HUB
    assert payer(shares, FOR_BOB, HUB, 10).name == "client/bob"
