"""Whether a call is let in, and its message: the role is looked at before anything is received.

A call is a few hundred bytes to whoever makes it. Were its message awaited first, 256 calls that
never send one would shut out everybody, with a certificate that may ask nothing. So the order is:
the role, a share of the calls, a share of the bytes that are on their way, the message within a
time limit, its share of the bytes that wait for an answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.limits import RECEIVE_SECONDS, Room
from edvit_tf.device.rpc.messages import WireError


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
        with room.waiting.held(caller, len(data)):
            name = messages.METHODS[method][0]
            yield messages.parsed(name, data, room.most_elements)


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
