"""What JSON may hold is counted in its bytes: what no request needs is refused, the others pass."""

import json

import numpy as np
import pytest

from edvit_tf.aggregate.http.json_counts import check_json, most_json
from edvit_tf.device.rpc.messages import WireError

SHAPE = (1, 28, 28, 1)
MOST = most_json(SHAPE)


def _body(data: object, **fields) -> bytes:
    return json.dumps({"inputs": [{"name": "image", "data": data, **fields}]}).encode()


TOO_MUCH = {
    "empty lists": (_body([[]] * 3000), "3004 lists and objects"),
    "lists of one": (_body([[1]] * 3000), "3004 lists and objects"),
    "objects": (_body([{}] * 3000), "3004 lists and objects"),
    "deep lists": (b"[" * 900 * 4, "3600 lists and objects"),
    "numbers": (_body([1] * 40_000), "40000 commas"),
    "texts": (_body([""] * 80_000), "commas"),
    # nothing hides behind a quotation mark that is none
    "behind escapes": (_body(['"\\', "\\"]) + b"[" * 3000, "3004 lists and objects"),
    "behind an end": (b'"\\\\"' + b"[" * 3000, "3000 lists and objects"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_more_than_any_request_needs_is_refused(case):
    body, words = TOO_MUCH[case]
    with pytest.raises(WireError, match=words):
        check_json(body, MOST)


FITS = {
    "flat": _body([255] * 784, shape=list(SHAPE)),
    "nested": _body(np.zeros(SHAPE, int).tolist()),
    "a list around each": _body(np.zeros((784, 1), int).tolist()),
    "brackets in a text": _body(["[{,]}" * 20_000]),
    "quotation marks and brackets in a text": _body(['"[\\"{,\\\\' * 20_000]),
    "all parameters": _body([1] * 784, parameters={f"p{i}": "[," for i in range(64)}),
    "all texts": _body(["[,"] * 1024),
}


@pytest.mark.parametrize("case", FITS)
def test_what_a_request_may_hold_passes(case):
    json.loads(FITS[case])
    check_json(FITS[case], MOST)
