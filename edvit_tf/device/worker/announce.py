"""Announces a worker on the local network, in a thread of its own: no answer waits for it."""

import asyncio
import ipaddress
import secrets
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from edvit_tf.device.errors import RuntimeMissing
from edvit_tf.device.rpc.announcement import LABEL_DIGITS, SERVICE
from edvit_tf.device.rpc.jsonlog import log, log_seldom
from edvit_tf.device.rpc.ports import split_address

_RETRY_SECONDS = 30.0  # the network may not be up yet
_LOOK_SECONDS = 60.0  # between looks at the addresses: a lease ends, a network comes later
_LAST_SECONDS = 5.0  # to take it back
_NAME_CHARACTERS = 40  # of the host's; a name may have 63 bytes
_INTERFACES = Path("/sys/class/net")


def check_zeroconf() -> None:
    """Raises RuntimeMissing where there is no zeroconf."""
    try:
        import zeroconf  # noqa: F401
    except ImportError as error:
        raise RuntimeMissing(
            f"--announce needs zeroconf ({error}). Run, in a clone of edvit_tf: pip install "
            "'.[device,discover]'."
        ) from error


class Announcement:
    """One worker's, from `run` to its end."""

    def __init__(self, address: str, properties: Mapping[str, str]) -> None:
        self._host, self._port = split_address(address)
        self._properties = properties
        self._name = _own_name(self._port)
        self._end = threading.Event()
        self._news = threading.Event()  # the end, or other properties

    def say(self, properties: Mapping[str, str]) -> None:
        """From now on this."""
        self._properties = properties
        self._news.set()

    async def run(self) -> NoReturn:
        """Announces until cancelled."""
        thread = threading.Thread(target=self._keep, name="announce", daemon=True)
        thread.start()
        try:
            while True:
                await asyncio.sleep(3600)
        finally:
            self._end.set()
            self._news.set()
            # so that others hear that it goes
            await asyncio.to_thread(thread.join, _LAST_SECONDS)

    def _keep(self) -> None:
        while not self._end.is_set():
            # a try says what is newest
            self._news.clear()
            try:
                self._announce()
            except Exception as error:  # noqa: BLE001 (whatever the network says, the worker goes on)
                reason = f"{type(error).__name__}: {error}"
                log_seldom("announce", reason, reason=reason)
                # news may come meanwhile, and must not shorten it
                self._end.wait(_RETRY_SECONDS)

    def _announce(self) -> None:
        """Until the end, or until this machine has other addresses. Raises OSError, and what
        zeroconf has of its own.
        """
        from zeroconf import Zeroconf

        addresses, interfaces = _where(self._host)
        options: dict[str, Any] = {} if interfaces is None else {"interfaces": interfaces}
        with Zeroconf(**options) as network:
            info = self._info(f"{self._name}.{SERVICE}", addresses)
            network.register_service(info, allow_name_change=True)
            log("announce", name=info.name, addresses=addresses, port=self._port)
            while not self._end.is_set():
                if self._news.wait(_LOOK_SECONDS):
                    self._news.clear()
                    # by the name that was free
                    info = self._info(info.name, addresses)
                    if not self._end.is_set():
                        network.update_service(info)
                elif set(_where(self._host)[0]) != set(addresses):
                    break  # announced anew, on the interfaces that there are now
            network.unregister_service(info)

    def _info(self, name: str, addresses: list[str]):
        from zeroconf import ServiceInfo

        return ServiceInfo(
            SERVICE,
            name,
            port=self._port,
            properties=dict(self._properties),
            server=f"{self._name}.local.",
            parsed_addresses=addresses,
        )


def _own_name(port: int) -> str:
    """Of the service and, with .local, of its addresses. Many Pis have one host name, and start
    together; and the host's own name under .local is avahi's.
    """
    host = socket.gethostname().partition(".")[0][:_NAME_CHARACTERS]
    return f"{host}-{port}-{secrets.token_hex(LABEL_DIGITS // 2)}"


def _where(host: str) -> tuple[list[str], list[str] | None]:
    """(addresses that are announced, of which interfaces or all)."""
    if host not in ("0.0.0.0", "::"):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
        return addresses, addresses

    import ifaddr

    is_known = any(map(_is_network_card, _interface_names()))  # not in a container
    addresses = []
    for adapter in ifaddr.get_adapters():
        if is_known and not _is_network_card(adapter.name):
            continue
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            if _is_reached(text, v6=host == "::"):
                addresses.append(text)
    if not addresses:
        raise OSError("this machine has no address in a network yet")
    return addresses, None


def _interface_names() -> list[str]:
    return [place.name for place in _INTERFACES.iterdir()] if _INTERFACES.is_dir() else []


def _is_network_card(interface: str) -> bool:
    """Whether there is hardware under an interface, as under Ethernet, WLAN, a VLAN or bridge of
    them. The bridges of Docker and libvirt and the tunnels of VPNs have none; all machines with
    them may have the same address there, and nobody else reaches it.
    """
    place = _INTERFACES / interface.partition(":")[0]  # eth0:1 is another address of eth0
    if (place / "device").exists():
        return True
    lower = (each.name.removeprefix("lower_") for each in place.glob("lower_*"))
    return any(map(_is_network_card, lower))


def _is_reached(text: str, v6: bool) -> bool:
    """Whether another machine may ask at an address."""
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local) and (v6 or address.version == 4)
