"""A request to the devices as bytes in parts, so that a large file is copied once for each device
and not twice more for all.

Fields of a protobuf message may stand in any order, and parts of one after the other are the whole:
each device's own fields are put before what all share.
"""

import struct

import numpy as np

from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.callers import CLIENT
from edvit_tf.device.rpc.traceparent import TRACEPARENT

# ModelInferRequest.raw_input_contents: field 7, of wire type 2 (length, then bytes)
_RAW_CONTENTS = 7 << 3 | 2


def request_parts(
    name: str, value: np.ndarray | bytes, client: str = "", trace: str = "", hasty: bool = False
) -> tuple[bytes, ...]:
    """A ModelInferRequest of one input, without the model's name and an id; `client` says for whom
    it is (`callers.py`), `trace` to which trace it belongs (`traceparent.py`), `hasty` that its
    client is in a hurry.
    """
    said: dict[str, tensors.Parameter] = {CLIENT: client} if client else {}
    if trace:
        said[TRACEPARENT] = trace
    if hasty:
        said[messages.HASTY] = True
    if isinstance(value, np.ndarray):
        message = tensors.infer_request("", {name: value}, parameters=said)
        return (messages.serialise(message),)

    # an encoded file: BYTES [1], whose raw contents are 4 bytes of length, then itself
    message = messages.new("ModelInferRequest")
    tensors.set_parameters(message, said)
    message.inputs.add(name=name, datatype="BYTES", shape=[1])
    element = struct.pack("<I", len(value))
    key = _varint(_RAW_CONTENTS) + _varint(len(element) + len(value))
    return (message.SerializeToString() + key + element, value)


def size_bytes(parts: tuple[bytes, ...]) -> int:
    """Of the whole message."""
    return sum(map(len, parts))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7

    found.append(number)
    return bytes(found)
