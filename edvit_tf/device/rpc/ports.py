"""The ports of a server: which address may be listened on, the gRPC port, the port of the
metrics.
"""

import ipaddress
from http.server import ThreadingHTTPServer

import grpc

from edvit_tf.device.errors import AddressError
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.handlers import handlers
from edvit_tf.device.rpc.metrics import serve_metrics

_CONCURRENT = (
    256  # calls at once, health included; more are refused by gRPC itself with RESOURCE_EXHAUSTED
)
_CONNECTIONS = (  # peers vanish without a word: cut cables must not eat descriptors over months
    ("grpc.so_reuseport", 0),  # a second worker on the port is an error, not half of the requests
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    (
        "grpc.http2.min_ping_interval_without_data_ms",
        5_000,
    ),  # an aggregator may ask so often whether we live
    ("grpc.server_handshake_timeout_ms", 10_000),
)


def listening_address(options) -> tuple[str, int]:
    """(host, port) of `options.listen`; raises AddressError if it is none, or open to others in
    plaintext: without `options.identity`, and without `options.insecure_anywhere`.
    """
    address, port = split_address(options.listen)
    if options.identity is None and not options.insecure_anywhere and not _is_loopback(address):
        raise AddressError(
            f"--listen {options.listen} without TLS: anyone who reaches this address could ask. "
            "Give "
            "--identity FOLDER, listen on 127.0.0.1, or add --insecure-anywhere."
        )
    return address, port


def split_address(text: str) -> tuple[str, int]:
    """ "HOST:PORT" or "[IPv6]:PORT" -> (host, port); raises AddressError."""
    host_part, colon, port = text.rpartition(":")
    host_part = host_part.removeprefix("[").removesuffix("]")
    if not colon or not host_part or not port.isdecimal() or int(port) > 65535:
        raise AddressError(
            f"{text!r} is no address; write HOST:PORT, e.g. 0.0.0.0:8001, or [::]:8001."
        )
    return host_part, int(port)


def bracketed(address: str, port: int) -> str:
    """HOST:PORT, the host of IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def open_port(
    service: BaseService, address: str, credentials: grpc.ServerCredentials | None, limit_bytes: int
) -> tuple[grpc.aio.Server, int]:
    """A server of `service` that is not started yet, and its port (the kernel's choice for 0).
    Raises AddressError.
    """
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", limit_bytes), *_CONNECTIONS],
        maximum_concurrent_rpcs=_CONCURRENT,
    )
    server.add_generic_rpc_handlers(handlers(service))
    try:
        return server, (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
    except RuntimeError as error:
        raise AddressError(
            f"{address} cannot be listened on ({error}). Is another server running there, is the "
            "address this machine's?"
        ) from error


def open_metrics(address: str | None, service) -> ThreadingHTTPServer | None:
    """Serves metrics and /healthz of a service that has `gauges()`; None without an address. Raises
    AddressError.
    """
    if address is None:
        return None
    try:
        return serve_metrics(
            *split_address(address),
            lambda: service.metrics.text(service.gauges()),
            lambda: service.availability.serving,
            service.health,
        )
    except OSError as error:
        raise AddressError(f"metrics on {address} cannot be listened on ({error}).") from error
