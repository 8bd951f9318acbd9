"""How much a message holds, counted in its bytes before protobuf makes objects of it.

A message of the size that a picture may have can hold half a million tensors, or two million
strings. Parsing them takes half a gigabyte, and walking them seconds in which the server answers
nobody. Here the fields are counted as they stand on the wire, up to the first that is one too many.

Source of the form: protobuf's "Encoding": a field is a tag (number * 8 + wire type), then a varint,
4 or 8 bytes, or a length and so many bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError

MAX_TENSORS = 16  # inputs, or outputs: our models have one and two
MAX_REQUESTED_OUTPUTS = 64
MAX_PARAMETERS = 64  # of a request, or of a tensor in it
MAX_PARAMETERS_OF_ANSWER = 16_384  # an aggregator says five of each sub-model
MAX_STRINGS = 1_024  # elements of BYTES
MAX_LIST_BYTES = 16 << 10  # of a parameter, a shape: whatever is inside is soon parsed
# Requests without tensors hold a name or two; answers to them name the models.
MAX_SMALL_REQUEST_BYTES = 64 << 10
MAX_SMALL_ANSWER_BYTES = 1 << 20
# In all, at somewhat under a microsecond each, in which the server answers nobody. The most that
# the limits above leave a request is some 2,300: strings, parameters of 16 tensors, outputs.
_MAX_FIELDS = 2_500
_MAX_FIELDS_OF_ANSWER = 20_000
# Numbers in a list come as one field, unless a writer does not pack them. No writer of today's does
# that, and for each there is a step here.
_MAX_UNPACKED = 256
# Of parameters and shapes, all together: two bytes of them can be an object of protobuf's.
_MAX_LISTS_BYTES = 64 << 10
_MAX_LISTS_BYTES_OF_ANSWER = 4 << 20  # 256 for each parameter
_OTHERS = 64  # of a field that should come once
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class CountError(ValueError):
    """A message holds too much of something."""

    def __init__(self, field: str, got: str, expected: str) -> None:
        super().__init__(f"{field}: got {got}; expected {expected}.")
        self.field = field
        self.got = got
        self.expected = expected


@dataclass(frozen=True)
class _Rule:
    """What of a message is counted, by its field numbers."""

    names: Mapping[int, str]  # of the fields below, for errors
    most: Mapping[int, int] = field(default_factory=dict)  # how often they come
    most_bytes: Mapping[int, int] = field(default_factory=dict)
    inner: Mapping[int, "_Rule"] = field(default_factory=dict)
    # lists of numbers: bytes of an element, 0 where they are varints
    lists: Mapping[int, int] = field(default_factory=dict)


_CONTENTS = _Rule(
    names={
        1: "bool_contents",
        2: "int_contents",
        3: "int64_contents",
        4: "uint_contents",
        5: "uint64_contents",
        6: "fp32_contents",
        7: "fp64_contents",
        8: "bytes_contents",
    },
    most={8: MAX_STRINGS},
    lists={1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 4, 7: 8},
)
_TENSOR = _Rule(
    names={3: "shape", 4: "parameters", 5: "contents"},
    most={4: MAX_PARAMETERS},
    most_bytes={3: MAX_LIST_BYTES, 4: MAX_LIST_BYTES},
    inner={5: _CONTENTS},
)
_REQUEST = _Rule(
    names={4: "parameters", 5: "inputs", 6: "outputs", 7: "raw_input_contents"},
    most={4: MAX_PARAMETERS, 5: MAX_TENSORS, 6: MAX_REQUESTED_OUTPUTS, 7: MAX_TENSORS},
    most_bytes={4: MAX_LIST_BYTES, 6: MAX_LIST_BYTES},
    inner={5: _TENSOR},
)
_RESPONSE = _Rule(
    names={4: "parameters", 5: "outputs", 6: "raw_output_contents"},
    most={4: MAX_PARAMETERS_OF_ANSWER, 5: MAX_TENSORS, 6: MAX_TENSORS},
    most_bytes={4: MAX_LIST_BYTES},
    inner={5: _TENSOR},
)
_RULES = {
    "ModelInferRequest": _REQUEST,
    "ModelInferResponse": _RESPONSE,
    "ModelStreamInferResponse": _Rule(names={2: "infer_response"}, inner={2: _RESPONSE}),
}


def check_counts(message: str, data: bytes, most_elements: int | None = None) -> None:
    """Raises CountError for bytes of a message, e.g. "ModelInferRequest", that hold too much, and
    DecodeError where they cannot be one.

    `most_elements` is how many numbers its tensors may have as typed contents (a list of them is
    quickly parsed, and slowly walked); None: any number.
    """
    is_request = message.endswith("Request")
    rule = _RULES.get(message)
    if rule is not None:
        if is_request:
            count = _Count(_MAX_FIELDS, _MAX_LISTS_BYTES, most_elements)
        else:
            count = _Count(_MAX_FIELDS_OF_ANSWER, _MAX_LISTS_BYTES_OF_ANSWER, most_elements)
        count.walk(rule, data, 0, len(data))
        return

    most = MAX_SMALL_REQUEST_BYTES if is_request else MAX_SMALL_ANSWER_BYTES
    if len(data) > most:
        raise CountError("message", f"{len(data)} bytes", f"{most} at most of inference.{message}")


class _Count:
    """The counts of one message."""

    def __init__(self, fields: int, lists_bytes: int, elements: int | None) -> None:
        self.fields_left = fields
        self.fields = fields
        self.lists_bytes = 0
        self.most_lists_bytes = lists_bytes
        self.unpacked = 0
        self.elements = 0
        self.most_elements = elements

    def walk(self, rule: _Rule, data: bytes, start: int, end: int) -> None:
        """Counts the fields of the message that stands in data[start:end]."""
        seen: dict[int, int] = {}
        for number, packed, first, last in _fields(data, start, end):
            name = rule.names.get(number, f"field {number}")
            self.fields_left -= 1
            if self.fields_left < 0:
                raise CountError("message", f"more than {self.fields} fields", "fewer")

            if number in rule.lists:
                self._count_elements(name, rule.lists[number], data, first, last, packed)
                continue

            times = seen[number] = seen.get(number, 0) + 1
            most = rule.most.get(number, _OTHERS)
            if times > most:
                raise CountError(name, f"more than {most}", f"{most} at most")

            if number in rule.most_bytes:
                self._count_bytes(name, last - first, rule.most_bytes[number])
            if packed and number in rule.inner:
                self.walk(rule.inner[number], data, first, last)

    def _count_bytes(self, name: str, size: int, most: int) -> None:
        if size > most:
            raise CountError(name, f"{size} bytes in one", f"{most} at most")

        self.lists_bytes += size
        most = self.most_lists_bytes
        if self.lists_bytes > most:
            raise CountError(
                name,
                f"{self.lists_bytes} bytes or more, with all parameters and shapes",
                f"{most} at most",
            )

    def _count_elements(
        self, name: str, width: int, data: bytes, first: int, last: int, packed: bool
    ) -> None:
        if not packed:
            self.elements += 1
            self.unpacked += 1
            if self.unpacked > _MAX_UNPACKED:
                raise CountError(
                    name,
                    f"more than {_MAX_UNPACKED} numbers that are not packed",
                    "a packed list, or raw contents",
                )
        elif width:
            self.elements += (last - first) // width
        else:
            # the last byte of each varint is the one without the high bit
            values = np.frombuffer(data, np.int8, last - first, first)
            self.elements += int(np.count_nonzero(values >= 0))

        most = self.most_elements
        if most is not None and self.elements > most:
            raise CountError(name, f"{self.elements} elements or more", f"{most} at most")


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, bool, int, int]]:
    """(number, whether it has a length, start and end of its value) of each field. Raises
    DecodeError.
    """
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        kind = tag & 7
        if kind == _BYTES:
            size, place = _varint(data, place, end)
            last = place + size
        elif kind == _VARINT:
            _, last = _varint(data, place, end)
        elif kind == _FIXED64:
            last = place + 8
        elif kind == _FIXED32:
            last = place + 4
        else:
            raise DecodeError("a wire type that no field of ours has")

        if last > end:
            raise DecodeError("a field that ends behind the message")

        yield tag >> 3, kind == _BYTES, place, last
        place = last


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """(value, where it ends): 7 bits in each byte, the least first, and a high bit where more
    follow.
    """
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7

    raise DecodeError("a varint without an end")
