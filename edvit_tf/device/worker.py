"""The life of a worker: everything is checked before the port opens, a request is answered or refused, SIGTERM drains.

Exit codes: 0 after SIGTERM or SIGINT, else those of `python -m edvit_tf.device --help`.
"""

import asyncio
import ipaddress
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from edvit_tf.device import tls
from edvit_tf.device.bundle import open_bundle
from edvit_tf.device.hosted import host
from edvit_tf.device.inputs import input_rule, message_limit
from edvit_tf.device.jsonlog import log
from edvit_tf.device.memory import resident
from edvit_tf.device.metrics import serve_metrics
from edvit_tf.device.service import WorkerService, handlers, package_version
from edvit_tf.device.watchdog import EXIT_STUCK, watch

_CONCURRENT = 256  # calls at once, health included; more are refused by gRPC itself with RESOURCE_EXHAUSTED
_CONNECTIONS = (  # peers vanish without a word: cut cables must not eat descriptors over months
    ("grpc.so_reuseport", 0),  # a second worker on the port is an error, not half of the requests
    ("grpc.keepalive_time_ms", 60_000), ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # an aggregator may ask so often whether we live
    ("grpc.server_handshake_timeout_ms", 10_000),
)
_LEAST_STUCK_SECONDS, _STUCK_INVOKES = 10.0, 20.0


class AddressError(Exception):
    """An address cannot be listened on."""

    exit_code = 17


@dataclass(frozen=True)
class WorkerOptions:
    """What the command line says; addresses are HOST:PORT, port 0 lets the kernel choose."""

    bundle: Path
    sub_models: Sequence[int] | None  # None: all
    listen: str
    identity: Path | None  # None: plaintext
    insecure_anywhere: bool = False  # plaintext on other addresses than loopback
    metrics: str | None = None
    deadline_ms: float = 10_000.0  # of requests without one, and the most that a request gets
    stuck_seconds: float | None = None  # None: 20 times what an invoke takes, at least 10
    flavour: str | None = None


def serve(options: WorkerOptions) -> int:
    """Runs a worker until it is told to stop; returns 0. Raises the errors of `host`, IdentityError, AddressError."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it is checking; later it drains
    address, port = listening_address(options)
    credentials = None if options.identity is None else tls.server_credentials(tls.identity(options.identity))
    bundle = open_bundle(options.bundle)
    indices = list(dict.fromkeys(range(len(bundle.sub_models)) if options.sub_models is None else options.sub_models))
    rule = input_rule(bundle)
    log("checking", bundle=str(bundle.path), bundle_digest=bundle.digest, submodels=indices)
    hosted = host(bundle, indices, options.flavour)
    return asyncio.run(_serve(options, bundle, rule, hosted, credentials, f"{_bracketed(address)}:{port}"))


async def _serve(options: WorkerOptions, bundle, rule, hosted, credentials, address: str) -> int:
    service = WorkerService(bundle, rule, hosted, options.deadline_ms / 1e3, credentials is not None)
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", message_limit(rule)), *_CONNECTIONS],
        maximum_concurrent_rpcs=_CONCURRENT)
    server.add_generic_rpc_handlers(handlers(service))
    try:
        port = (server.add_insecure_port(address) if credentials is None
                else server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise AddressError(f"{address} cannot be listened on ({error}). Is another worker running there, is the "
                           "address this machine's?") from error
    shown = None
    if options.metrics is not None:
        try:
            shown = serve_metrics(*split_address(options.metrics), lambda: service.metrics.text(service.gauges()),
                                  lambda: service.availability.serving)
        except OSError as error:
            raise AddressError(f"metrics on {options.metrics} cannot be listened on ({error}).") from error

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stuck_seconds = options.stuck_seconds or max(
        _LEAST_STUCK_SECONDS, _STUCK_INVOKES * max(one.invoke_seconds for one in hosted))
    end_watch = watch(list(service.executors.values()), stuck_seconds,
                      lambda name, stacks: _stuck(loop, service, name, stacks))
    await server.start()
    host_shown = address.rpartition(":")[0]
    log("serving", address=f"{host_shown}:{port}", pid=os.getpid(), version=package_version(),
        tls=credentials is not None,
        metrics=None if shown is None else "{}:{}".format(*shown.server_address[:2]),
        bundle=bundle.path.name, bundle_digest=bundle.digest, runtime=hosted[0].model.runtime,
        models=[{"name": one.name, "file": one.chosen.file, "flavour": one.chosen.flavour,
                 "threads": one.chosen.threads, "invoke_ms": round(one.invoke_seconds * 1e3, 3),
                 "golden_error": one.golden_error} for one in hosted],
        message_limit_bytes=message_limit(rule), stuck_seconds=stuck_seconds, resident_bytes=resident())

    await stop.wait()
    log("draining", in_flight=service.in_flight)
    service.availability.stop()
    await server.stop(options.deadline_ms / 1e3)
    end_watch()
    for executor in service.executors.values():
        executor.close()
    if shown is not None:
        await asyncio.to_thread(shown.shutdown)
        shown.server_close()
    log("stopped")
    return 0


def _stuck(loop: asyncio.AbstractEventLoop, service: WorkerService, name: str, stacks: str) -> None:
    """The end of a worker whose model does not come back; called in the watchdog's thread."""
    loop.call_soon_threadsafe(service.availability.stop)
    log("stuck", "critical", model=name, exit_code=EXIT_STUCK, stacks=stacks)
    time.sleep(0.5)  # for those who watch the health to hear of it
    sys.stderr.flush()
    os._exit(EXIT_STUCK)


def listening_address(options: WorkerOptions) -> tuple[str, int]:
    """(host, port) of `listen`; raises AddressError if it is none, or in plaintext open to others."""
    address, port = split_address(options.listen)
    if options.identity is None and not options.insecure_anywhere and not _is_loopback(address):
        raise AddressError(f"--listen {options.listen} without TLS: anyone who reaches this address could ask. Give "
                           "--identity FOLDER, listen on 127.0.0.1, or add --insecure-anywhere.")
    return address, port


def split_address(text: str) -> tuple[str, int]:
    """ "HOST:PORT" or "[IPv6]:PORT" -> (host, port); raises AddressError."""
    host_part, colon, port = text.rpartition(":")
    host_part = host_part.removeprefix("[").removesuffix("]")
    if not colon or not host_part or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"{text!r} is no address; write HOST:PORT, e.g. 0.0.0.0:8001, or [::]:8001.")
    return host_part, int(port)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
