"""The protocol's messages as bytes: what goes in comes out, what is wrong is named. No server
here.
"""

import contextlib
import struct
import subprocess
import sys

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edvit_tf.device.rpc import messages, tensors

X = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
DTYPES = st.sampled_from([np.dtype(kind) for kind in tensors.DATATYPES])


def parsed(request):
    return messages.deserialiser(request.DESCRIPTOR.name)(messages.serialise(request))


@given(DTYPES.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=4, max_side=4))))
def test_arrays_survive_the_wire(array):
    for message in (
        tensors.infer_request("m", {"x": array}),
        tensors.infer_response("m", {"x": array}),
    ):
        found = tensors.arrays(parsed(message))["x"]
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_array_equal(found, array)


@given(
    DTYPES.filter(lambda kind: kind != np.float16).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=3, max_side=3))
    )
)
def test_typed_contents_are_read_like_raw_ones(array):
    name = tensors.DATATYPES[array.dtype]
    request = messages.new("ModelInferRequest", model_name="m")
    tensor = request.inputs.add(name="x", datatype=name, shape=array.shape)
    field = {
        "b": "bool",
        "f": "fp32" if name == "FP32" else "fp64",
        "u": "uint64" if name == "UINT64" else "uint",
        "i": "int64" if name == "INT64" else "int",
    }[array.dtype.kind]
    getattr(tensor.contents, f"{field}_contents").extend(array.ravel().tolist())
    found = tensors.arrays(parsed(request))["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(st.lists(st.text(max_size=9), min_size=1, max_size=4), st.binary(max_size=50))
def test_strings_and_files_survive(texts, file):
    assert tensors.arrays(parsed(tensors.infer_response("m", {"label": texts})))["label"] == [
        t.encode() for t in texts
    ]
    assert tensors.arrays(parsed(tensors.infer_request("m", {"image": file})))["image"] == [file]


def test_parameters_keep_their_types():
    given_ = {"degraded": True, "count": -3, "total_ms": 1.5, "missing": "", "big": 2**40}
    read = tensors.parameters(parsed(tensors.infer_response("m", {}, parameters=given_)))
    assert read == given_ and {k: type(v) for k, v in read.items()} == {
        k: type(v) for k, v in given_.items()
    }


def test_field_numbers_are_those_of_the_protocol():
    """Literal bytes of a request for model "m", id "i", input "x" UINT8 [2]: tag = field number * 8
    + wire type.
    """
    request = tensors.infer_request("m", {"x": np.array([7, 8], np.uint8)}, request_id="i")
    tensor = b"\x0a\x01x\x12\x05UINT8\x1a\x01\x02"
    sent = b"\x0a\x01m\x1a\x01i\x2a" + bytes([len(tensor)]) + tensor + b"\x3a\x02\x07\x08"
    assert messages.serialise(request) == sent
    response = messages.new("ModelMetadataResponse", name="m", properties={"k": "v"})
    assert messages.serialise(response) == b"\x0a\x01m\x32\x06\x0a\x01k\x12\x01v"
    assert messages.path("ModelInfer") == "/inference.GRPCInferenceService/ModelInfer"
    assert messages.path("Watch") == "/grpc.health.v1.Health/Watch"


def broken(change):
    request = tensors.infer_request("m", {"x": X})
    change(request)
    return request


def typed(name, shape, **contents):
    request = messages.new("ModelInferRequest", model_name="m")
    tensor = request.inputs.add(name="x", datatype=name, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return request


def described(datatype, shape, raw):
    request = messages.new("ModelInferRequest", model_name="m", raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


@pytest.mark.parametrize(
    "request_, text",
    [
        (
            described("UINT8", [1, 2, 3], b"12345"),
            "input 'x': got 5 bytes; expected 6, which is UINT8 [1, 2, 3]",
        ),
        (
            described("FP32", [2**40, 2**40], b"1234"),
            "got 4 bytes; expected 4835703278458516698824704",
        ),
        (described("UINT9", [1], b"1"), "datatype: got 'UINT9'; expected BOOL, UINT8"),
        (described("UINT8", [-1], b"1"), "shape: got [-1]; expected at most 8 sizes, all positive"),
        (described("UINT8", [1] * 9, b"1"), "shape: got [1, 1, 1, 1, 1, 1, 1, 1, 1]"),
        (described("UINT8", [0], b""), "shape: got [0]"),
        (described("BYTES", [1], struct.pack("<I", 9) + b"abc"), "end within an element"),
        (described("BYTES", [1], b"\x01\x00"), "end within an element"),
        (described("BYTES", [1], b""), "got 0 elements; expected 1, which is BYTES [1]"),
        (described("BYTES", [1], (struct.pack("<I", 1) + b"a") * 2), "got 2 elements; expected 1"),
        (
            broken(lambda r: r.raw_input_contents.append(b"")),
            "raw_input_contents: got 2 entries; expected 1",
        ),
        (
            broken(lambda r: r.inputs[0].contents.uint_contents.append(1)),
            "both typed contents and raw_input_contents",
        ),
        (
            broken(
                lambda r: (r.inputs.append(r.inputs[0]), r.raw_input_contents.append(X.tobytes()))
            ),
            "this name twice",
        ),
        (
            broken(lambda r: tensors.set_parameters(r.inputs[0], {"shared_memory_region": "a"})),
            "shared memory",
        ),
        (
            typed("UINT8", [2], uint_contents=[1]),
            "got 1 elements in uint_contents; expected 2, which is UINT8 [2]",
        ),
        (typed("UINT8", [1], uint_contents=[256]), "got values from 256 to 256; expected 0 to 255"),
        (
            typed("INT8", [2], int_contents=[-129, 1]),
            "got values from -129 to 1; expected -128 to 127",
        ),
        (
            typed("UINT8", [1], fp32_contents=[1.0]),
            "got UINT8 with fp32_contents; expected UINT8 in uint_contents",
        ),
        (typed("FP16", [1]), "FP16 has no typed ones"),
    ],
)
def test_what_is_wrong_is_named(request_, text):
    with pytest.raises(messages.WireError) as caught:
        tensors.arrays(parsed(request_))
    assert text in str(caught.value) and caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_garbage_is_an_error_of_ours():
    received = messages.deserialiser("ModelInferRequest")(b"\xff" * 9)
    for use in (tensors.arrays, tensors.parameters, messages.checked):
        with pytest.raises(
            messages.WireError,
            match="got 9 bytes that are no protobuf .* inference.ModelInferRequest",
        ):
            use(received)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(data):
    """Whatever is sent: a message, or a WireError; never another exception."""
    with contextlib.suppress(messages.WireError):
        tensors.arrays(messages.deserialiser("ModelInferRequest")(data))


@given(st.data())
def test_a_changed_byte_gives_a_message_or_a_wire_error(data):
    sent = bytearray(
        messages.serialise(tensors.infer_request("m", {"x": X, "f": b"abc"}, parameters={"a": 1}))
    )
    for _ in range(3):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        received = messages.deserialiser("ModelInferRequest")(bytes(sent))
        tensors.arrays(received)
        tensors.parameters(received)
    except messages.WireError:
        pass


def test_nothing_enters_the_default_pool():
    """tritonclient registers the same names there; a second registration would end the process."""
    code = (
        "from edvit_tf.device.rpc import messages, tensors\n"
        "from google.protobuf import descriptor_pool as d\n"
        "try: d.Default().FindMessageTypeByName('inference.ModelInferRequest'); print('there')\n"
        "except KeyError: print('absent')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "absent", done.stderr
