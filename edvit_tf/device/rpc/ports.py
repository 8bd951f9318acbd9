"""The ports of a server: which address may be listened on, the gRPC port, the HTTP port."""

import ipaddress
from collections.abc import Callable
from typing import Protocol

import grpc

from edvit_tf.device.errors import AddressError
from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.handlers import call_handler
from edvit_tf.device.rpc.http_server import HttpSide
from edvit_tf.device.rpc.limits import MOST_CALLS
from edvit_tf.device.rpc.streams import stream_handler

# Peers vanish without a word: cut cables must not eat descriptors over months.
_CONNECTIONS = (
    ("grpc.so_reuseport", 0),  # a second worker on the port is an error, not half of the requests
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # an aggregator may ask so often whether we live
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # What is not asked for yet is held to 64 KiB a call. With this probe gRPC would let a fast peer
    # send megabytes of each; a message that is asked for comes at full speed in any case.
    ("grpc.http2.bdp_probe", 0),
)

_NOT_IN_HOSTS = "@/\\?#[]"


class Listening(Protocol):
    """What of a server's options says where it listens, and how openly."""

    @property
    def listen(self) -> str: ...
    @property
    def identity(self) -> object | None: ...
    @property
    def insecure_anywhere(self) -> bool: ...


def listening_address(options: Listening) -> tuple[str, int]:
    """(host, port) of `options.listen`; raises AddressError if it is none, or open to others in
    plaintext: without `options.identity`, and without `options.insecure_anywhere`.
    """
    address, port = split_address(options.listen)
    if options.identity is None and not options.insecure_anywhere and not is_loopback(address):
        raise AddressError(
            f"--listen {options.listen} without TLS: anyone who reaches this address could ask. "
            "Give --identity FOLDER, listen on 127.0.0.1, or add --insecure-anywhere."
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

    # what has a colon is IPv6, or a port that was given twice
    if ":" in host_part and not _is_ipv6(host_part):
        raise AddressError(
            f"{text!r} is no address: its host {host_part!r} has a colon and is not IPv6. Write "
            "the port once, as HOST:PORT."
        )
    if not _may_be_host(host_part):
        raise AddressError(
            f"{text!r} is no address: {host_part!r} is no name of a host, which has no spaces, "
            f"none of {_NOT_IN_HOSTS}, and something between its dots. Write HOST:PORT alone."
        )

    return host_part, int(port)


def bracketed(address: str, port: int) -> str:
    """HOST:PORT, the host of IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _may_be_host(text: str) -> bool:
    """Whether a name server could know it; what can never be right is no machine that is down."""
    within = all(
        each.isprintable() and not each.isspace() and each not in _NOT_IN_HOSTS for each in text
    )
    # a name from the root has a dot at its end
    return within and all(text.removesuffix(".").split("."))


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
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
        maximum_concurrent_rpcs=MOST_CALLS,
    )

    server.add_generic_rpc_handlers(_method_handlers(service))
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise AddressError(
            f"{address} cannot be listened on ({error}). Is another server running there, is the "
            "address this machine's?"
        ) from error

    return server, port


def _method_handlers(service: BaseService) -> list[grpc.GenericRpcHandler]:
    """The two gRPC services."""

    # Raw bytes of a stream, whatever the method takes: gRPC would receive and parse the message of
    # a call before our code is asked whether it may.
    def made(make: Callable, handler: Callable):
        return make(handler, None, messages.serialise)

    def one_for_one(method: str, call: Callable):
        handler = call_handler(service, method, call)
        return made(grpc.stream_unary_rpc_method_handler, handler)

    # one request and one answer, all but two of them
    inference = {method: one_for_one(method, call) for method, call in service.calls().items()}
    inference["ModelStreamInfer"] = made(
        grpc.stream_stream_rpc_method_handler, stream_handler(service)
    )
    watch = call_handler(service, "Watch", service.watch)
    health = {
        "Check": one_for_one("Check", service.check),
        "Watch": made(grpc.stream_stream_rpc_method_handler, watch),
    }

    return [
        grpc.method_handlers_generic_handler(messages.INFERENCE, inference),
        grpc.method_handlers_generic_handler(messages.HEALTH, health),
    ]


def open_http(address: str | None, service: BaseService) -> HttpSide | None:
    """Serves the pages of a service; None without an address. Raises AddressError."""
    if address is None:
        return None
    host, port = split_address(address)
    try:
        return service.serve_http(host, port)
    except OSError as error:
        raise AddressError(f"metrics on {address} cannot be listened on ({error}).") from error
