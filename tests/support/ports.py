"""Ports for servers that must have a certain one: kept from all others while this process lives."""

import socket

_kept: list[socket.socket] = []


def free_port(also: int = 0) -> int:
    """A port of 127.0.0.1 at which nobody listens, and which the kernel gives to nobody else; the
    same holds of the port that lies so far above it (`also`).

    A socket that is bound and does not listen keeps it: a server that asks for just this port has
    it (SO_REUSEADDR, as servers set it), whoever takes any port gets another, and who connects
    before there is a server is refused.
    """
    for _ in range(1000):
        held = _bound(0)
        port = held.getsockname()[1]
        try:
            _kept.extend([held, _bound(port + also)] if also else [held])
        except (OSError, OverflowError):
            held.close()
            continue
        return port
    raise AssertionError("no free ports")


def _bound(port: int) -> socket.socket:
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
    except BaseException:
        held.close()
        raise
    return held
