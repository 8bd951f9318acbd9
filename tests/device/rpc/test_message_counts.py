"""Messages that hold too much: refused by what they hold, before anything is made of them."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edvit_tf.device.rpc import message_counts, messages, tensors
from tests.support.bombs import BOMBS, SIZE, field

ELEMENTS = 64 * 64 * 3


@pytest.mark.parametrize("name", BOMBS)
def test_what_holds_too_much_is_refused_at_once(name):
    data, words = BOMBS[name]
    started = time.process_time()
    with pytest.raises(messages.WireError) as error:
        tensors.arrays(messages.parsed("ModelInferRequest", data, ELEMENTS))
    took = time.process_time() - started

    assert words in str(error.value)
    # 10 ms; walked through, most of them take a second
    assert took < 0.15, f"{took * 1e3:.0f} ms"


def test_nothing_is_made_of_what_holds_too_much(monkeypatch):
    """The work itself: protobuf is not asked, where the wire says enough."""
    asked = []

    class Asked:
        @staticmethod
        def FromString(data):
            asked.append(len(data))

    monkeypatch.setitem(messages.MESSAGES, "ModelInferRequest", Asked)
    for data, _ in BOMBS.values():
        try:
            messages.parsed("ModelInferRequest", data, ELEMENTS)
        except messages.WireError:
            continue
    # strings within a tensor's raw bytes are no fields; their count is looked at before they are
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["numbers that are not packed", "different unknown fields"])
def test_few_fields_of_what_holds_too_much_are_looked_at(monkeypatch, name):
    """The work itself, in which nobody is answered: a step for each."""
    steps = 0
    fields = message_counts._fields

    def counted(*arguments):
        nonlocal steps
        for one in fields(*arguments):
            steps += 1
            yield one

    monkeypatch.setattr(message_counts, "_fields", counted)
    with pytest.raises(messages.WireError):
        messages.parsed("ModelInferRequest", BOMBS[name][0], ELEMENTS)
    # 10,000 were 7 ms
    assert steps <= 2_501


@pytest.mark.parametrize(
    "message, data, words",
    [
        ("ModelInferResponse", field(5, b"") * 17, "outputs: got more than 16"),
        ("ModelInferResponse", field(4, field(1, b"k")) * 20_000, "parameters: got more than"),
        (
            "ModelStreamInferResponse",
            field(2, field(5, field(1, b"x")) * 300_000),
            "outputs: got more than 16",
        ),
        ("ModelMetadataRequest", field(1, b"m" * SIZE), "message: got 80000"),
        ("HealthCheckRequest", b"\x78\1" * 100_000, "65536 at most of inference.HealthCheckReque"),
        ("ModelMetadataResponse", field(4, b"") * 900_000, "1048576 at most"),
    ],
)
def test_other_messages_are_counted_as_well(message, data, words):
    """What a device answers, too: an aggregator serves others meanwhile."""
    received = messages.deserialiser(message)(data)
    assert isinstance(received, messages.Garbage)
    with pytest.raises(messages.WireError) as error:
        messages.checked(received)
    assert words in str(error.value)


def test_what_is_allowed_passes():
    parameters = {f"name {i}": i for i in range(message_counts.MAX_PARAMETERS)}
    inputs = {f"input {i}": np.zeros((1, 4, 4, 1), np.uint8) for i in range(16)}
    request = tensors.infer_request("m", inputs, parameters=parameters)
    read = messages.parsed("ModelInferRequest", request.SerializeToString(), ELEMENTS)
    assert len(tensors.arrays(read)) == 16 and len(tensors.parameters(read)) == 64

    # all that the limits leave one at the same time
    for tensor in read.inputs:
        tensors.set_parameters(tensor, parameters)
    for i in range(message_counts.MAX_REQUESTED_OUTPUTS):
        read.outputs.add(name=f"output {i}")
    read.ClearField("raw_input_contents")
    read.inputs[0].contents.bytes_contents.extend([b"word"] * message_counts.MAX_STRINGS)
    assert messages.parsed("ModelInferRequest", read.SerializeToString(), ELEMENTS) == read

    # an aggregator over a thousand devices says five parameters of each
    said = {f"submodel-{i:03}.{what}": 1.5 for i in range(1000) for what in "abcde"}
    labels = {"label": ["word"] * message_counts.MAX_STRINGS}
    response = tensors.infer_response("m", labels, parameters=said)
    read = messages.parsed("ModelInferResponse", response.SerializeToString())
    assert tensors.parameters(read) == said and len(tensors.arrays(read)["label"]) == 1024


def test_typed_contents_may_have_what_the_model_takes_and_no_more():
    request = messages.new("ModelInferRequest", model_name="m")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 300])
    tensor.contents.fp32_contents.extend(range(300))
    data = request.SerializeToString()
    assert tensors.arrays(messages.parsed("ModelInferRequest", data, 300))["x"].sum() == 44850
    with pytest.raises(messages.WireError, match="fp32_contents: got 300 elements"):
        messages.parsed("ModelInferRequest", data, 299)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data):
    for message in messages.MESSAGES:
        received = messages.deserialiser(message)(data)
        if not isinstance(received, messages.Garbage):
            # what protobuf takes, the counts take: nothing good is refused
            assert messages.MESSAGES[message].FromString(data) == received


@given(
    st.lists(st.text(max_size=9), max_size=16, unique=True),
    st.dictionaries(st.text(max_size=9), st.integers(-(2**63), 2**63 - 1) | st.text(), max_size=64),
)
def test_what_protobuf_writes_is_counted_right(names, parameters):
    inputs = {name: np.arange(300, dtype=np.int32).reshape(1, 300) for name in names}
    request = tensors.infer_request("m", inputs, request_id="i", parameters=parameters)
    read = messages.parsed("ModelInferRequest", request.SerializeToString(), 300)
    assert read == request
