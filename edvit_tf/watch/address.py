"""Addresses as they may be shown, and whether they can be one at all."""

import re
import urllib.parse


def shown_address(address: str) -> str:
    """Its scheme and host: passwords, and what is as good as one, stand before and behind those."""
    scheme, sign, rest = address.partition("://")
    if not sign:
        return "***"
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    path = rest.removeprefix(netloc)
    # an @ further on: the / may be a password's, and what looks like the host its first half
    if "@" in path:
        return f"{scheme}://***"
    host = netloc.rpartition("@")[2]
    return f"{scheme}://{host}{'/***' if path.strip('/') else path}"


def address_parts(address: str) -> urllib.parse.SplitResult:
    """Raises ValueError for what can never be connected to."""
    parts = urllib.parse.urlsplit(address)
    parts.port  # noqa: B018 (it raises for a port that is no number)
    if not parts.hostname:
        raise ValueError("it has no host")
    parts.hostname.encode("idna")  # an empty label, or one too long
    sent = parts.netloc.rpartition("@")[2] + parts.path + parts.query
    # urlsplit drops line ends, which are none of an address either
    if not (sent.isascii() and sent.isprintable()) or re.search(r"\s", address):
        raise ValueError("it has a character that must be written as %20 is")
    return parts
