"""The devices of a fleet: a list of addresses, or the devices.toml that plans read, with host and
port in each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edvit_tf.device.errors import AddressError
from edvit_tf.device.rpc.ports import bracketed, split_address
from edvit_tf.errors import ConfigError

PORT = 8001  # where a devices.toml gives none


@dataclass(frozen=True)
class Device:
    """A worker's name in logs and metrics, and its address."""

    name: str
    address: str  # HOST:PORT
    sub_models: tuple[int, ...] | None = None  # it alone is asked for; None: as `pins.py` says


def fleet_devices(text: str) -> tuple[Device, ...]:
    """Devices from "host:port,host:port" or the path of a devices.toml
    (`edvit_tf.planning.devices`).

    Raises ConfigError for an address that is none, one that is given twice, and as `load_devices`
    for the file.
    """
    if text.endswith(".toml"):
        devices = _from_file(Path(text))
    else:
        addresses = [part.strip() for part in text.split(",")]
        devices = tuple(
            Device(part, checked_address(part, f"device {part}")) for part in addresses if part
        )

    if not devices:
        raise ConfigError(
            f"--devices is {text!r}; it must be HOST:PORT,HOST:PORT,... or a devices.toml. Name "
            "one device at least."
        )

    # a device under two names would count as two
    seen: dict[str, str] = {}
    for device in devices:
        if device.address in seen:
            raise ConfigError(
                f"{device.name} and {seen[device.address]} have the same address {device.address}; "
                "each device has its own. Drop one, or mend its port."
            )

        seen[device.address] = device.name

    return devices


def _from_file(path: Path) -> tuple[Device, ...]:
    from edvit_tf.planning.devices import load_tables

    found = []
    for _, entry in load_tables(path):  # checked by the one who owns the form
        host: Any = entry.get("host")
        port: Any = entry.get("port", PORT)
        has_host = isinstance(host, str) and host != ""
        has_port = isinstance(port, int) and not isinstance(port, bool)
        if not (has_host and has_port):
            raise ConfigError(
                f"{path.name}, {entry['name']}: host is {host!r}, port {port!r}; an aggregator "
                f'needs both of every device. Add host = "192.168.1.20" and port = {PORT}.'
            )

        name = entry["name"]
        pinned = entry.get("submodels")
        found.append(
            Device(
                name,
                checked_address(bracketed(host, port), f"device {name}"),
                None if pinned is None else tuple(pinned),
            )
        )

    return tuple(found)


def checked_address(text: str, whose: str) -> str:
    """HOST:PORT, the host of IPv6 in brackets; ConfigError where it is none that can be asked."""
    try:
        host, port = split_address(text)
        if port == 0:
            raise AddressError(
                f"{text!r} has port 0; a device needs the port that its worker listens on."
            )
    except AddressError as error:
        raise ConfigError(f"{whose}: {error}") from error

    return bracketed(host, port)
