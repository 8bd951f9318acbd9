"""What a body of JSON may cost before it is refused."""

import json
import tracemalloc

import pytest

from edvit_tf.aggregate.http.bodies import infer_message
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
