"""Whether a call is let in, and its message: the role is looked at before anything is received.

A call is a few hundred bytes to whoever makes it. Were its message awaited first, 256 calls that
never send one would shut out everybody, with a certificate that may ask nothing. So the order is:
the role, a share of the calls, a share of the bytes that are on their way, the message within a
time limit, its share of the bytes that wait for an answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.callers import Caller, client_of
from edvit_tf.device.rpc.limits import RECEIVE_SECONDS, Room
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.shares import Shares

# Reading a message keeps the event loop from everybody. An ordinary one takes a tenth of this.
_DEAR_SECONDS = 0.0005
_PAUSE_FACTOR = 4  # all who are refused together then have a fifth of the loop at most
# Reading one takes 20 ms at most, so longer is a machine that stood still: nobody waits for that.
_MOST_PAUSE_SECONDS = 20.0


def check_role(service: BaseService, caller: Caller) -> None:
    """Raises WireError unless the caller's certificate has a role that may ask here; in plaintext
    everybody may.
    """
    if service.own is None or caller.role in service.accepted_roles:
        return
    raise _wrong_role(caller, service.accepted_roles)


def _wrong_role(caller: Caller, accepted: Sequence[str]) -> WireError:
    # TLS has let it in: it has a certificate of our authority, of some role
    if caller.role:
        role, _, name = caller.name.partition("/")
        got, code = f"{role} ({name[:64]})", grpc.StatusCode.PERMISSION_DENIED
    else:
        got, code = "a certificate without one", grpc.StatusCode.UNAUTHENTICATED

    return WireError(
        f"role: got {got}; expected a certificate of one of the roles {', '.join(accepted)}. Issue "
        "one with `edvit certs issue`.",
        code,
    )


@contextlib.asynccontextmanager
async def one_message(
    service: BaseService, method: str, caller: Caller, context
) -> AsyncIterator[Any]:
    """The one message of a call, which holds its shares until the end of the block. Raises
    WireError.
    """
    check_role(service, caller)
    room = service.room
    with room.calls.held(caller):
        data = await _received(room, caller, context)
        size = len(data)
        started = time.thread_time()
        try:
            request = messages.parsed(messages.METHODS[method][0], data, room.most_elements)
        except WireError as error:
            # it waits, with its share of the calls and without the message, which nothing counts
            del data
            refusal = error.without_frames()
            await asyncio.sleep(pause_seconds(room, time.thread_time() - started))
            raise refusal from None

        del data
        with room.waiting.held(payer(room.waiting, request, caller, size), size):
            yield request


async def _received(room: Room, caller: Caller, context) -> bytes:
    """The bytes of a call's message. Raises WireError if they do not come in time."""
    left = context.time_remaining()
    seconds = RECEIVE_SECONDS if left is None else min(left, RECEIVE_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            await room.receiving.wait(caller, room.message_bytes)
            try:
                data = await context.read()
            finally:
                room.receiving.give(caller, room.message_bytes)
    except TimeoutError:
        raise WireError(
            f"message: got none that is whole within {seconds:.1f} s; expected one. Send it at "
            "once, and less at a time.",
            grpc.StatusCode.DEADLINE_EXCEEDED,
        ) from None

    if data is grpc.aio.EOF:
        raise messages.wrong("message", "none", "one")

    return data


def pause_seconds(room: Room, took: float) -> float:
    """How long a caller waits, whose message took so many seconds to read and was refused."""
    if took < _DEAR_SECONDS:
        return 0.0
    return min(_MOST_PAUSE_SECONDS, _PAUSE_FACTOR * took * room.calls.used)


def payer(shares: Shares, request, caller: Caller, amount: int) -> Caller:
    """Whose share a request takes: that of the client for whom an aggregator asks, so that one of
    them leaves the others room, and the aggregator's own, reserve included, where that is used up.

    In plaintext it is the caller's: there anybody could name one client after another.
    """
    if not caller.asks_for_others or isinstance(request, messages.Garbage):
        return caller
    # of methods without parameters nobody is named
    if not hasattr(request, "parameters"):
        return caller

    client = client_of(request, caller)
    return client if amount <= shares.left(client) else caller
