"""Messages of a few MiB that hold more than anybody may walk through, as bytes of a
ModelInferRequest.
"""

SIZE = 8_000_000  # of each, below the limit of the smallest bundle that takes pictures


def field(number: int, payload: bytes) -> bytes:
    """A field of protobuf's that has a length."""
    return _varint(number * 8 + 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _filled(piece: bytes) -> bytes:
    return piece * (SIZE // len(piece))


def _tensor(datatype: bytes, shape: bytes, *fields: bytes) -> bytes:
    described = field(1, b"image") + field(2, datatype) + field(3, shape)
    return field(5, described + b"".join(fields))


_COUNT = _varint(SIZE // 4)
# by what they hold, with a part of the words that refuse them
BOMBS = {
    "tiny tensors": (
        _filled(field(5, field(1, b"x") + field(2, b"BOOL") + b"\x1a\x01\x01") + b"\x3a\x01\x01"),
        "inputs: got more than 16",
    ),
    "parameters": (_filled(field(4, field(1, b"k") + b"\x12\x02\x08\x01")), "parameters: got more"),
    "one long parameter": (field(4, _filled(field(1, b"k"))), "bytes in one; expected 16384"),
    "empty strings": (
        _tensor(b"BYTES", _COUNT) + field(7, bytes(SIZE // 4 * 4)),
        "expected 1024 elements at most",
    ),
    "empty strings and a small shape": (
        _tensor(b"BYTES", b"\x01") + field(7, bytes(SIZE // 4 * 4)),
        "got 2 elements and more; expected 1",
    ),
    "typed strings": (
        _tensor(b"BYTES", _COUNT, field(5, _filled(b"\x42\0"))),
        "bytes_contents: got more than 1024",
    ),
    "typed numbers": (
        _tensor(b"INT64", _varint(SIZE), field(5, field(3, _filled(b"\1")))),
        "int64_contents: got 8000000 elements",
    ),
    "typed floats": (
        _tensor(b"FP32", _COUNT, field(5, field(6, bytes(SIZE // 4 * 4)))),
        "fp32_contents: got 2000000 elements",
    ),
    "numbers that are not packed": (
        _tensor(b"INT64", _COUNT, field(5, _filled(b"\x18\1"))),
        "int64_contents: got more than 256 numbers that are not packed",
    ),
    "shape": (_tensor(b"BOOL", _filled(b"\1")), "shape: got 8000000 bytes in one"),
    "sizes that are not packed": (_tensor(b"BOOL", b"\1", _filled(b"\x18\1")), "shape: got more"),
    "contents": (_tensor(b"BOOL", b"\1", _filled(b"\x2a\0")), "contents: got more than 64"),
    "parameters of a tensor": (
        _tensor(b"BOOL", b"\1", _filled(field(4, field(1, b"k")))),
        "parameters: got more than 64",
    ),
    "outputs": (_filled(field(6, field(1, b"x"))), "outputs: got more than 64"),
    "one long output": (field(6, _filled(field(2, b""))), "outputs: got"),
    "raw contents": (_filled(b"\x3a\0"), "raw_input_contents: got more than 16"),
    "names": (_filled(field(1, b"m")), "field 1: got more than 64"),
    "unknown fields": (_filled(b"\x78\1"), "field 15: got more than 64"),
    "different unknown fields": (
        b"".join(_varint(number * 8) + b"\1" for number in range(16, 60_000)),
        "message: got more than 2500 fields",
    ),
    # all within the limits of one list
    "long parameters of tensors": (
        _tensor(b"BOOL", b"\1", field(4, field(1, b"k") * 5_000) * 64) * 16,
        "parameters: got 75001 bytes or more, with all parameters and shapes; expected 65536",
    ),
    "long outputs": (field(6, field(2, b"") * 8_000) * 64, "outputs: got 80000 bytes or more"),
    "groups": (_filled(b"\x7b\x7c"), "no protobuf message"),
}
