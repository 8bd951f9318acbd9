"""Announces a worker on the local network, in a thread of its own: no answer waits for it."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

from edvit_tf.device.errors import RuntimeMissing
from edvit_tf.device.rpc.announcement import SERVICE
from edvit_tf.device.rpc.jsonlog import log, log_seldom
from edvit_tf.device.rpc.ports import split_address

_RETRY_SECONDS = 30.0  # the network may not be up yet
_LAST_SECONDS = 5.0  # to take it back
_NAME_CHARACTERS = 50  # of the 63 bytes that a name may have


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
        self._over = False
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
            self._over = True
            self._news.set()
            # so that others hear that it goes
            await asyncio.to_thread(thread.join, _LAST_SECONDS)

    def _keep(self) -> None:
        while not self._over:
            try:
                self._announce()
            except Exception as error:  # noqa: BLE001 (whatever the network says, the worker goes on)
                reason = f"{type(error).__name__}: {error}"
                log_seldom("announce", reason, reason=reason)
                self._news.wait(_RETRY_SECONDS)

    def _announce(self) -> None:
        """Until the end. Raises OSError, and what zeroconf has of its own."""
        from zeroconf import Zeroconf

        addresses, interfaces = _where(self._host)
        host = socket.gethostname().partition(".")[0]
        name = f"{host[:_NAME_CHARACTERS]}-{self._port}.{SERVICE}"
        options: dict[str, Any] = {} if interfaces is None else {"interfaces": interfaces}
        with Zeroconf(**options) as network:
            info = self._info(name, host, addresses)
            network.register_service(info, allow_name_change=True)
            log("announce", name=info.name, addresses=addresses, port=self._port)
            while not self._over:
                self._news.wait()
                self._news.clear()
                # by the name that was free
                info = self._info(info.name, host, addresses)
                if not self._over:
                    network.update_service(info)
            network.unregister_service(info)

    def _info(self, name: str, host: str, addresses: list[str]):
        from zeroconf import ServiceInfo

        return ServiceInfo(
            SERVICE,
            name,
            port=self._port,
            properties=dict(self._properties),
            server=f"{host}.local.",
            parsed_addresses=addresses,
        )


def _where(host: str) -> tuple[list[str], list[str] | None]:
    """(addresses that are announced, of which interfaces or all)."""
    if host not in ("0.0.0.0", "::"):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
        return addresses, addresses

    import ifaddr

    addresses = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            if _is_reached(text, v6=host == "::"):
                addresses.append(text)
    if not addresses:
        raise OSError("this machine has no address in a network yet")
    return addresses, None


def _is_reached(text: str, v6: bool) -> bool:
    """Whether another machine may ask at an address."""
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local) and (v6 or address.version == 4)
