"""Who asks: by the name in its certificate, else by its address, and over which connection.

What is shared between callers is shared by these names (`shares.py`, `fair_queue.py`). An
aggregator asks for its clients, and says for whom in a request's parameter `client`: a device
shares its time between them as if they had asked it themselves.
"""

from dataclasses import dataclass

from edvit_tf.device.rpc import tls

# Roles of those who ask for their clients: an aggregator, and a relay, which asks for one.
FOR_OTHERS = ("aggregator", "relay")
# Parameter of a request: for whom it is asked, as `for_whom` says it.
CLIENT = "client"
_LONGEST = 200  # characters of a name or a connection that are kept
Turn = tuple[str, str]  # who takes turns: names, and connections within a name


@dataclass(frozen=True)
class Caller:
    """The peer of a call."""

    role: str  # of its certificate; "" in plaintext, or without one
    name: str  # "client/alice"; in plaintext the address
    connection: str  # gRPC's word for the peer, "ipv4:192.0.2.7:40112"

    @property
    def asks_for_others(self) -> bool:
        """Whether its certificate says that it asks for clients of its own."""
        return self.role in FOR_OTHERS

    @property
    def turn(self) -> Turn:
        """What is shared fairly is shared by these."""
        return self.name, self.connection


NOBODY = Caller("", "", "")  # where a server asks itself


def caller_of(context) -> Caller:
    """The peer of a call (its context in grpc.aio)."""
    connection = context.peer()[:_LONGEST]
    peer = tls.peer_role(context)
    if peer is not None:
        role, name = peer
        return Caller(role, f"{role}/{name}"[:_LONGEST], connection)

    # without the port, which differs between the connections of one machine
    address, _, _ = connection.rpartition(":")
    return Caller("", address or connection, connection)


def for_whom(caller: Caller) -> str:
    """The value of the parameter `client` of what an aggregator asks for a caller."""
    return f"{caller.name} {caller.connection}"


def client_of(request, caller: Caller) -> Caller:
    """Whose turn a request takes: the caller's, or that of the client whom an aggregator names.

    In plaintext nobody can be told from an aggregator, so everybody is believed.
    """
    # reading a map's entry would make one
    if caller.role not in ("", *FOR_OTHERS) or CLIENT not in request.parameters:
        return caller

    named = request.parameters[CLIENT].string_param[: 2 * _LONGEST]
    name, _, connection = named.partition(" ")

    return Caller("", name, connection)
