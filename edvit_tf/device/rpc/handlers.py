"""What every call and every message of a stream passes: the peer's role, then the bytes, then the
method.

A WireError becomes the call's status, anything unforeseen becomes INTERNAL and a line in the log.
Nothing of a request is kept.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from edvit_tf.device.rpc import messages, tls
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.jsonlog import log, log_seldom

INFER = "ModelInfer"  # how inferences are counted, those of streams too
Call = Callable[[Any, Any], Awaitable[Any]]  # of (request, context), a method of the service


def call_handler(service: BaseService, method: str, call: Call) -> Call:
    """A handler of one request: `respond`, and the call ends with the refusal's status."""

    async def handle(request, context):
        response, refusal = await respond(service, method, call, request, context)
        if refusal is not None:
            # last: whoever reads the metrics finds it counted
            await context.abort(refusal.code, str(refusal))

        return response

    return handle


async def respond(
    service: BaseService, method: str, call: Call, request, context, *, check_role: bool = True
) -> tuple[Any, messages.WireError | None]:
    """(response, None), or (None, refusal); counted either way."""
    started = time.perf_counter()
    model, code = "", "OK"
    infers = method == INFER
    service.in_flight += infers

    try:
        if check_role and service.own is not None:
            _authorise(context, service.accepted_roles)
        # other names are no labels: peers could make metrics without end of them
        if infers and getattr(request, "model_name", "") in service.names:
            model = request.model_name
        return await call(messages.checked(request), context), None

    except messages.WireError as error:
        code = error.code.name
        log_seldom(
            "refused",
            f"{method} {code}",
            method=method,
            code=code,
            peer=context.peer(),
            detail=str(error),
        )
        return None, error

    except asyncio.CancelledError:
        code = "CANCELLED"
        raise

    except Exception:  # noqa: BLE001, a fault of ours ends one call and is in the log, whole
        code = "INTERNAL"
        log("failed", "error", method=method, traceback=traceback.format_exc())
        return None, messages.WireError(
            f"{method} failed inside the server; its log says how.", grpc.StatusCode.INTERNAL
        )

    finally:
        service.in_flight -= infers
        service.metrics.count(method, model, code, time.perf_counter() - started)


def _authorise(context, accepted: Sequence[str]) -> None:
    """Raises WireError unless the peer's certificate has a role that may ask here."""
    # TLS has let it in: it has a certificate of our authority, of some role
    peer = tls.peer_role(context)
    if peer is None:
        got, code = "a certificate without one", grpc.StatusCode.UNAUTHENTICATED
    elif peer[0] not in accepted:
        got, code = f"{peer[0]} ({peer[1][:64]})", grpc.StatusCode.PERMISSION_DENIED
    else:
        return

    raise messages.WireError(
        f"role: got {got}; expected a certificate of one of the roles {', '.join(accepted)}. Issue "
        "one with `edvit certs issue`.",
        code,
    )
