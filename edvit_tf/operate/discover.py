"""Workers that announce themselves on the local network (`--announce`), as a devices.toml to be
read by somebody before it is used.

Nothing that is heard is trusted, and none of its text is printed: a value is of the form that it
must have, or it is left out.
"""

import ipaddress
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edvit_tf.device.rpc.announcement import BUNDLE, FINGERPRINT, SERVICE, SUBMODELS
from edvit_tf.errors import ConfigError

_MOST_FOUND = 512  # announcements that are looked at
_FORMS = {
    BUNDLE: re.compile(r"[0-9a-f]{8,64}"),
    SUBMODELS: re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*"),
    FINGERPRINT: re.compile(r"[0-9a-f]{64}"),
}
_HEAD = """\
# Workers that announced themselves within {seconds:g} s. Nothing of it is verified: anybody on the
# network can announce anything. Before you use an entry, compare its fingerprint with what this
# says on the device itself:
#   openssl x509 -in cert.pem -noout -fingerprint -sha256
"""


@dataclass(frozen=True)
class Found:
    """One announcement, of checked forms."""

    name: str
    addresses: tuple[str, ...]  # the one to ask first
    port: int
    bundle: str = ""  # "": it says none
    sub_models: str = ""
    fingerprint: str = ""


def discover(seconds: float, interfaces: Sequence[str] | None = None) -> list[Found]:
    """What is announced within so many seconds, on all interfaces or on those of these addresses.
    Raises ConfigError without zeroconf, or without a network.
    """
    try:
        from zeroconf import IPVersion, ServiceBrowser, ServiceStateChange, Zeroconf
    except ImportError as error:
        raise ConfigError(
            f"edvit discover needs zeroconf ({error}). Run, in a clone of edvit_tf: pip install "
            "'.[discover]'."
        ) from error

    heard: dict[str, None] = {}

    def changed(zeroconf, service_type, name, state_change) -> None:
        if state_change is ServiceStateChange.Removed:
            heard.pop(name, None)
        elif len(heard) < _MOST_FOUND:
            heard[name] = None

    options: dict[str, Any] = {} if interfaces is None else {"interfaces": list(interfaces)}
    try:
        network = Zeroconf(**options)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"nothing can be heard here ({error}). Look whether the network is up, and at "
            "--interface."
        ) from error

    with network:
        ServiceBrowser(network, SERVICE, handlers=[changed])
        end = time.monotonic() + seconds
        found = []
        time.sleep(seconds)
        for name in list(heard):
            # most are known by now; those that are not share a second
            left_ms = max(100.0, 1e3 * (end + 1 - time.monotonic()))
            info = _asked(network, name, left_ms)
            if info is not None:
                found.append(_found(info, info.parsed_scoped_addresses(IPVersion.All)))
    return [one for one in found if one is not None]


def _asked(network, name: str, left_ms: float):
    """What is known of an announcement; None for one that cannot be read."""
    from zeroconf import Error

    try:
        return network.get_service_info(SERVICE, name, timeout=round(left_ms))
    except (Error, OSError, ValueError):
        return None


def _found(info, addresses: Iterable[str]) -> Found | None:
    """An announcement in checked forms; None where there is nobody to be asked."""
    usable = sorted(filter(_is_address, dict.fromkeys(addresses)), key=_order)
    if not usable or not info.port:
        return None
    said = {}
    for key, form in _FORMS.items():
        value = (info.properties.get(key.encode()) or b"").decode("ascii", "replace")
        said[key] = value if form.fullmatch(value) else ""
    return Found(
        _plain_name(info.name.removesuffix(SERVICE)),
        tuple(usable),
        info.port,
        said[BUNDLE],
        said[SUBMODELS],
        said[FINGERPRINT],
    )


def _plain_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:63].strip("-") or "device"


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)


def _order(text: str) -> tuple[bool, bool]:
    """IPv4 before IPv6, and what is of one line alone at the end."""
    address = ipaddress.ip_address(text)
    return address.is_link_local, address.version == 6


def proposal(found: Iterable[Found], seconds: float) -> str:
    """A devices.toml with what was announced. Of two at one address one is an entry."""
    entries: dict[tuple[str, int], Found] = {}
    twins: dict[tuple[str, int], list[str]] = {}
    for one in sorted(found, key=lambda one: (one.name, one.addresses, one.port)):
        place = (one.addresses[0], one.port)
        if place in entries:
            twins.setdefault(place, []).append(one.name)
        else:
            entries[place] = one

    lines = [_HEAD.format(seconds=seconds)]
    names: set[str] = set()
    for place, one in entries.items():
        lines.append(_entry(one, _free(one.name, names), twins.get(place, [])))
    return "\n".join(lines)


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number the first that nobody has."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def _entry(one: Found, name: str, twins: list[str]) -> str:
    pairs = ":".join(re.findall("..", one.fingerprint.upper()))
    lines = ["[[device]]", f'name = "{name}"', f'host = "{one.addresses[0]}"', f"port = {one.port}"]
    if len(one.addresses) > 1:
        lines.append(f"# also at {', '.join(one.addresses[1:])}")
    lines.append(
        f"# says that it has bundle {one.bundle or '?'}, sub-models {one.sub_models or '?'}"
    )
    lines.append(f"# fingerprint {pairs}" if pairs else "# no fingerprint: without TLS")
    if twins:
        lines.append(f"# announced {len(twins) + 1} times: {', '.join(twins)} too")
    return "\n".join([*lines, ""])
