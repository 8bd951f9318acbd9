"""Workers that announce themselves on the local network (`--announce`), as a devices.toml to be
read by somebody before it is used.

Nothing that is heard is trusted, and none of its text is printed: a value is of the form that it
must have, or it is left out.
"""

import asyncio
import contextlib
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edvit_tf.device.rpc.announcement import BUNDLE, FINGERPRINT, LABEL_DIGITS, SERVICE, SUBMODELS
from edvit_tf.errors import ConfigError

_MOST_FOUND = 512  # announcements that are proposed
_MOST_HEARD = 8 * _MOST_FOUND  # names that are kept, of which a flood's lead nowhere
_LAST_SECONDS = 1.0  # for all that is not known when the time is over
_LABEL = re.compile(rf"-[0-9a-f]{{{LABEL_DIGITS}}}$")
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
FLOODED = (
    f"More than {_MOST_FOUND} announcements: somebody floods this network; some may be missing."
)


@dataclass(frozen=True)
class Found:
    """One announcement, of checked forms."""

    name: str
    addresses: tuple[str, ...]  # the one to ask first
    port: int
    bundle: str = ""  # "": it says none
    sub_models: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Heard:
    """What was announced."""

    found: list[Found]
    is_flooded: bool = False  # more than is looked at: some may be missing


def discover(seconds: float, interfaces: Sequence[str] | None = None) -> Heard:
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
        elif len(heard) < _MOST_HEARD:
            heard[name] = None

    options: dict[str, Any] = {} if interfaces is None else {"interfaces": list(interfaces)}
    try:
        network = Zeroconf(**options)
    except (OSError, ValueError, RuntimeError) as error:  # the last: no such address of IPv6
        raise ConfigError(
            f"nothing can be heard here ({error}). Look whether the network is up, and at "
            "--interface."
        ) from error

    with network:
        ServiceBrowser(network, SERVICE, handlers=[changed])
        time.sleep(seconds)
        names = list(heard)
        asked = asyncio.run_coroutine_threadsafe(_resolved(network, names), network.loop)
        infos = asked.result()
    found = [_found(info, info.parsed_scoped_addresses(IPVersion.All)) for info in infos]
    return Heard([one for one in found if one is not None], len(names) > _MOST_FOUND)


async def _resolved(network, names: Iterable[str]) -> list:
    """The announcements of these names that can be read. Most are known by now; the others are
    asked for at once, with one deadline.
    """
    from zeroconf import Error, ServiceInfo

    known, unknown = [], []
    for name in names:
        with contextlib.suppress(Error, OSError, ValueError):
            info = ServiceInfo(SERVICE, name)
            (known if info.load_from_cache(network) else unknown).append(info)
    known, unknown = known[:_MOST_FOUND], unknown[: _MOST_FOUND - len(known[:_MOST_FOUND])]
    asked = (info.async_request(network, 1e3 * _LAST_SECONDS) for info in unknown)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    return known + [info for info, answer in zip(unknown, answers, strict=True) if answer is True]


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
        _plain_name(_LABEL.sub("", info.name.removesuffix(f".{SERVICE}"))),
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


def proposal(heard: Heard, seconds: float) -> str:
    """A devices.toml with what was announced. What differs in its name alone is one entry. Those
    that are at one address otherwise are comments, of which somebody takes the right one.
    """
    names: dict[Found, list[str]] = {}
    for one in sorted(heard.found, key=lambda one: (one.name, one.addresses, one.port)):
        names.setdefault(replace(one, name=""), []).append(one.name)
    at = Counter((one.addresses[0], one.port) for one in names)

    lines = [_HEAD.format(seconds=seconds)]
    if heard.is_flooded:
        lines[0] += f"# {FLOODED}\n"
    taken: set[str] = set()
    for one, (first, *twins) in names.items():
        entry = _entry(one, _free(first, taken), twins)
        count = at[one.addresses[0], one.port]
        lines.append(entry if count == 1 else _commented(entry, count))
    return "\n".join(lines)


def _commented(entry: str, count: int) -> str:
    """One of several at an address, of which a devices.toml takes one."""
    head = f"""\
# {count} announcements say that they are at this address. For the one whose fingerprint the device
# has, remove the number sign before its first four lines.
"""
    return head + re.sub(r"^(?=[^#\n])", "# ", entry, flags=re.MULTILINE)


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
