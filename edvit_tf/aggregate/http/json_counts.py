"""How much the JSON of a request holds, counted in its bytes before objects are made of it.

A body that has room for a picture in base64 has room for 350,000 empty lists too. To parse and to
walk them takes a third of a second, in which this port answers nobody. Counting takes a
millisecond, as `device/rpc/message_counts.py` does it for the messages of gRPC.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from edvit_tf.device.rpc import messages

_OTHERS = 1_024  # lists and objects beside a tensor's data: inputs, outputs, parameters, shapes
_STRINGS = 32_768  # of a request: names, 64 parameters of each tensor, 1,024 elements of each BYTES
# From quotation mark to quotation mark, or to the end where none follows: what begins always ends,
# so that each byte is looked at once.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)


class MostJson(NamedTuple):
    """The most that a request may hold in its JSON."""

    lists: int  # objects included
    commas: int


def most_json(shape: Sequence[int]) -> MostJson:
    """Of a model whose input has this shape: with the lists of nested data, and one more around
    each element.
    """
    nested = sum(math.prod(shape[:axes]) for axes in range(len(shape) + 1))
    lists = nested + _OTHERS
    return MostJson(lists, math.prod(shape) + lists + _STRINGS)


def check_json(body: bytes, most: MostJson) -> None:
    """Raises WireError for JSON that holds more lists, objects or commas than that."""
    if _fits(body, most):
        return
    # a text may hold as many brackets as it likes
    plain = _STRING.sub(b"", body, count=_STRINGS)
    if _fits(plain, most):
        return

    lists, commas = _counts(plain)
    what, found, limit = "commas", commas, most.commas
    if lists > most.lists:
        what, found, limit = "lists and objects", lists, most.lists
    raise messages.wrong(
        "body", f"{found} {what}, which is no JSON for this model", f"{limit} at most"
    )


def _fits(body: bytes, most: MostJson) -> bool:
    lists, commas = _counts(body)
    return lists <= most.lists and commas <= most.commas


def _counts(body: bytes) -> tuple[int, int]:
    return body.count(b"[") + body.count(b"{"), body.count(b",")
