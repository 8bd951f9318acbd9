"""What the command line of an aggregator says of its HTTP port."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HttpOptions:
    """`token` lets in who knows it; with `https` the port speaks TLS with the aggregator's own
    certificate, and lets in who shows a client's.
    """

    token: str | None = None
    https: bool = False
