"""What a body of JSON may cost before it is refused."""

import json
import tracemalloc

import pytest

from edvit_tf.aggregate.http.bodies import infer_message
from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.messages import WireError

NO_NUMBERS = {
    "one long text": ["x" * 20_000, *[""] * 500],  # 40 MB, as an array of texts
    "nested": [["x" * 20_000], *[[""]] * 500],
    "among numbers": [*range(500), "x" * 20_000],
    "null": [None],
    "objects": [{}],
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_what_is_no_number_is_refused_without_an_array_of_it(case):
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1], "data": NO_NUMBERS[case]}
    body = json.dumps({"inputs": [tensor]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match=r"no such list; expected numbers of UINT8"):
            infer_message(body, None, "edvit", "", "image")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("UINT8", [True, 12]),
        ("FP32", [0.5, False]),
        ("INT64", [[1], [True]]),
        ("BOOL", [True, 1]),
        ("BOOL", [0.0, True]),
    ],
)
def test_true_and_false_are_no_numbers_and_numbers_are_not_true_or_false(datatype, data):
    tensor = {"name": "image", "datatype": datatype, "shape": [2], "data": data}
    with pytest.raises(WireError, match=f"no such list; expected numbers of {datatype}"):
        infer_message(json.dumps({"inputs": [tensor]}).encode(), None, "edvit", "", "image")


def test_true_and_false_are_the_elements_of_bool():
    tensor = {"name": "image", "datatype": "BOOL", "shape": [2], "data": [[True], [False]]}
    body = json.dumps({"inputs": [tensor]}).encode()
    data, _ = infer_message(body, None, "edvit", "", "image")
    assert messages.parsed("ModelInferRequest", data).raw_input_contents[0] == b"\1\0"
