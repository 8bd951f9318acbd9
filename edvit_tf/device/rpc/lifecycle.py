"""The life of a server, the same for a worker and an aggregator: ports open, it serves until it is
told to stop, what it was asked before is answered, everything is closed.

A server brings its `BaseService`, which says what differs: what the log tells of it, its executors,
what goes on beside the requests, what is to be closed. Everything that can be refused was refused
before.
"""

import asyncio
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.errors import IdentityError
from edvit_tf.device.rpc import certificate_expiry, signals, tls
from edvit_tf.device.rpc.base_service import BaseService, package_version
from edvit_tf.device.rpc.jsonlog import log, written_aside
from edvit_tf.device.rpc.ports import bracketed, listening_address, open_http, open_port
from edvit_tf.device.rpc.process_limits import keep_giving_back
from edvit_tf.device.rpc.reload import keep_reloading
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.rpc.watchdog import leave, watch


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the command line of every server says; addresses are HOST:PORT, port 0 lets the kernel
    choose.
    """

    bundle: Path
    listen: str
    identity: Path | None  # None: plaintext
    insecure_anywhere: bool = False  # plaintext on other addresses than loopback
    metrics: str | None = None  # where HTTP is served
    deadline_ms: float  # of requests without one, the most that one gets, and the time to drain


def address_and_identity(options: ServerOptions, role: str) -> tuple[str, tls.Identity | None]:
    """Where to listen, and as whom: with a certificate of this `role`. Raises AddressError,
    IdentityError.
    """
    address = bracketed(*listening_address(options))
    if options.identity is None:
        return address, None

    own = tls.identity(options.identity)
    _check_role(own, role)

    return address, own


def _check_role(own: tls.Identity, role: str) -> None:
    """Raises IdentityError for a certificate with which this server would be refused by all
    others.
    """
    # not of its own authority: its peers may have another one, and a line in the log says it
    if own.names is None:
        return

    found = tls.role_of(own.names)
    if found is None or found[0] != role:
        has = "no role" if found is None else f"the role {found[0]} (of {found[1]})"
        raise IdentityError(
            f"{own.cert} has {has}; this is the {role}, which its peers accept with the role "
            f"{role} alone. Issue it one: edvit certs issue FLEET {role} NAME --host HOST."
        )


def run(options: ServerOptions, address: str, make_service: Callable[[], BaseService]) -> int:
    """Serves until SIGTERM or SIGINT; returns 0. `make_service` is called in the event loop.

    An executor's work that never comes back ends the process with DeviceExit.STUCK. Raises
    AddressError, and what ends a task of `service.background()`.
    """
    with written_aside():
        return asyncio.run(_run(options, address, make_service))


async def _run(
    options: ServerOptions, address: str, make_service: Callable[[], BaseService]
) -> int:
    # in the loop: what it makes (events, channels) belongs to it
    service = make_service()
    own = service.own
    presented = None if own is None else tls.Presented(own)
    credentials = None if presented is None else presented.credentials()
    server, port = open_port(service, address, credentials, message_limit(service.model_input))
    service.address = f"{address.rpartition(':')[0]}:{port}"
    http = open_http(options.metrics, service)

    # from here on a signal drains; before, it ended the process
    told_to_read = asyncio.Event()
    told_to_stop = signals.told_to_stop(told_to_read.set)
    end_watch = _watch_executors(service)
    reminder = _Reminder(service)
    giving_back = asyncio.create_task(keep_giving_back())
    await server.start()
    log(
        "serving",
        address=service.address,
        pid=os.getpid(),
        version=package_version(),
        tls=own is not None,
        metrics=None if http is None else "{}:{}".format(*http.server_address[:2]),
        bundle=service.bundle.path.name,
        bundle_digest=service.bundle.digest,
        **service.description(),
    )

    # What goes on in the background has no end of its own: a task that ends has failed.
    background = [asyncio.create_task(each) for each in service.background()]
    # after that, which a signal that came early must find begun
    reloading = asyncio.create_task(
        keep_reloading(service, presented, told_to_read, reminder.begin_again)
    )
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait([stopping, *background], return_when=asyncio.FIRST_COMPLETED)
    failed = [] if stopping.done() else [task for task in background if task.done()]

    # No more is taken; what was asked before is answered, for as long as a request may take.
    log("draining", in_flight=service.in_flight)
    service.availability.stop()
    grace_seconds = options.deadline_ms / 1e3
    await asyncio.gather(server.stop(grace_seconds), service.drain(grace_seconds))
    end_watch()
    for executor in service.executors.values():
        executor.close()

    # Nobody waits any more: what is left is closed.
    for task in (stopping, reminder.task, reloading, giving_back, *background):
        task.cancel()

    await asyncio.gather(reloading, *background, return_exceptions=True)
    await service.close()
    if http is not None:
        await asyncio.to_thread(http.shutdown)
        http.server_close()

    for task in failed:
        task.result()  # raises what it was

    log("stopped")

    return 0


class _Reminder:
    """The task that says when the certificate ends, of the one that is presented now."""

    def __init__(self, service: BaseService) -> None:
        self._service = service
        self.task = self._begun()

    def begin_again(self) -> None:
        """With another certificate."""
        self.task.cancel()
        self.task = self._begun()

    def _begun(self) -> asyncio.Task[None]:
        ends = self._service.certificate_ends
        return asyncio.create_task(certificate_expiry.remind(self._service.own, ends))


def _watch_executors(service: BaseService) -> Callable[[], None]:
    """Starts the watchdog; returns what ends it."""
    loop = asyncio.get_running_loop()

    def not_serving() -> None:  # called in the watchdog's thread
        loop.call_soon_threadsafe(service.availability.stop)

    on_stuck = functools.partial(leave, tell=not_serving)
    # a view of what is there at each look: an executor may be replaced
    return watch(service.executors.values(), service.stuck_seconds, on_stuck)
