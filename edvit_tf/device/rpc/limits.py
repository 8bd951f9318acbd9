"""What a server holds for its callers at the same time, and for how long it waits for them.

All of it is shared by `Shares`: the numbers are for all callers together; a lone name gets half of
each, a lone connection a third. With the largest pictures (messages of 8 MiB) one name can make a
server hold 48 MiB that are on their way, 64 MiB of requests that are not answered yet, and 128 MiB
of streams that stop in the middle of a message. The unit's MemoryMax counts what all names together
can, but for the streams (`held_bytes`).
"""

import math

from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc.shares import Shares

RECEIVE_SECONDS = 10.0  # for a message to come whole, its turn to be received included

# Calls cost little, some 64 KiB each while their message is not received; a health check or a Watch
# holds one as well. More are refused by gRPC itself, unread.
CALLS = 512
CALLS_RESERVED = 128
MOST_CALLS = 2 * (CALLS + CALLS_RESERVED)

# How large a message is shows when it is there, so each that is awaited counts as the largest.
_RECEIVING_MESSAGES = 12
_RECEIVING_LEAST_BYTES = 16 << 20
# A stream waits for its next message for as long as it is open, and may have received most of it.
_STREAMS = 128
_STREAM_BYTES = 256 << 20
# Received, and not answered yet: as long as they are, so that one lone connection may have 5 of the
# largest pictures, or 500 of 80 KiB.
_WAITING_MESSAGES = 16
_WAITING_LEAST_BYTES = 64 << 20
_RESERVED = 0.5  # times as much again is for aggregators alone


class Room:
    """The shares of one server; it belongs to its event loop."""

    def __init__(self, model_input: BundleInput, message_bytes: int) -> None:
        self.message_bytes = message_bytes  # the most of a message
        self.most_elements = math.prod(model_input.shape)  # of typed contents

        streams = min(_STREAMS, _STREAM_BYTES // message_bytes)

        self.calls = Shares("calls", CALLS, CALLS_RESERVED)
        self.streams = _shares("open streams", streams)
        receiving = _receiving(message_bytes)
        # each counts as the largest, so that what is left free is soon less than one
        self.receiving = Shares(
            "bytes on their way", receiving, int(_RESERVED * receiving), first_for_all=True
        )
        self.waiting = _shares("bytes of requests that are not answered", _waiting(message_bytes))


def _shares(what: str, limit: int) -> Shares:
    return Shares(what, limit, int(_RESERVED * limit))


def held_bytes(message_bytes: int) -> int:
    """The most bytes of messages that a server holds for clients, without those of streams."""
    return _receiving(message_bytes) + _waiting(message_bytes)


def _receiving(message_bytes: int) -> int:
    return max(_RECEIVING_LEAST_BYTES, _RECEIVING_MESSAGES * message_bytes)


def _waiting(message_bytes: int) -> int:
    return max(_WAITING_LEAST_BYTES, _WAITING_MESSAGES * message_bytes)
