"""W3C's traceparent: what is one, and what is left out."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.traceparent import Trace, parsed, trace_of

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{ID}-{SPAN}-01"


def test_one_is_read_and_written():
    assert parsed(GOOD) == Trace(ID, SPAN, True)
    assert str(parsed(GOOD)) == GOOD
    assert parsed(f"00-{ID}-{SPAN}-00") == Trace(ID, SPAN, False)
    # a later version, of which the beginning is known, and other flags
    assert parsed(f"cc-{ID}-{SPAN}-03-what-is-this") == Trace(ID, SPAN, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD + "-more",
        GOOD.upper(),
        GOOD + " ",
        GOOD + "\n",
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID[:-1]}-{SPAN}-01",
        f"00-{ID}-{SPAN}",
        f"0x-{ID}-{SPAN}-01",
        f"00-{ID[:-1]}٣-{SPAN}-01",
        "cc-" + GOOD[3:] + "-" + "a" * 10_000,
        b"00-" + ID.encode(),
        7,
        None,
    ],
)
def test_what_is_none_is_left_out(text):
    assert parsed(text) is None


@given(st.text(max_size=80))
def test_any_text_is_read_or_left_out(text):
    found = parsed(text)
    assert found is None or text.startswith(text[:2] + f"-{found.trace_id}-{found.span_id}-")


def asked(*metadata, **parameters):
    request = messages.new("ModelInferRequest", model_name="edvit")
    tensors.set_parameters(request, parameters)
    return trace_of(request, SimpleNamespace(invocation_metadata=lambda: metadata))


def test_it_comes_with_the_call_or_in_the_request():
    assert asked(("user-agent", "x"), ("traceparent", GOOD)) == Trace(ID, SPAN, True)
    assert asked(traceparent=GOOD) == Trace(ID, SPAN, True)
    assert asked() is None
    # two of them say nothing, nor does another type
    assert asked(("traceparent", GOOD), ("traceparent", GOOD)) is None
    assert asked(traceparent=7) is None and asked(("traceparent", b"\xff")) is None
    assert (
        trace_of(messages.Garbage("none"), SimpleNamespace(invocation_metadata=lambda: None))
        is None
    )
