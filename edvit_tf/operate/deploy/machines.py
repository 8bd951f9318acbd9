"""Which machine runs what: devices.toml and the bundle's plan, as `edvit deploy` reads them."""

import re
import tomllib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.aggregate.devices import PORT, fleet_devices
from edvit_tf.aggregate.pins import Pins
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.rpc.ports import bracketed, split_address
from edvit_tf.errors import ConfigError

HUB = "hub"  # an aggregator's machine that is none of the devices


@dataclass(frozen=True)
class Machine:
    """A machine that is reached by ssh, and the servers on it."""

    name: str
    ssh: str  # what ssh is given
    hosts: tuple[str, ...]  # names and addresses at which its servers are asked
    sub_models: tuple[int, ...] = ()  # of its worker; (): it has none
    port: int = PORT  # of its worker
    aggregator: bool = False

    @property
    def address(self) -> str:
        """Where its worker is asked."""
        return bracketed(self.hosts[0], self.port)

    @property
    def certificate_name(self) -> str:
        """Its name as a certificate may have it."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")[:63] or "device"


def machines(bundle: Bundle, devices: Path, aggregator: str | None = None) -> tuple[Machine, ...]:
    """The machines of a fleet, in the order of devices.toml. `aggregator` is the name or the host
    of a device, or another machine's name for ssh; None: as the file says.

    Raises ConfigError: as `fleet_devices`, for a device that the plan does not know, for two
    workers of one machine, and for two aggregators.
    """
    fleet = fleet_devices(str(devices))
    entries = tomllib.loads(devices.read_text(encoding="utf-8-sig"))["device"]
    pins = Pins(bundle.sub_models)
    planned = {name for entry in bundle.sub_models for name in entry.devices or (entry.name,)}

    found = []
    for device, entry in zip(fleet, entries, strict=True):
        pins.check(device)
        if device.sub_models is None and device.name not in planned:
            raise ConfigError(
                f"{devices.name}, {device.name}: the plan of {bundle.path.name} knows "
                f"{', '.join(sorted(planned))}. Give the device one of these names, or add a line "
                "submodels = [0]."
            )
        host, port = split_address(device.address)
        ssh = entry.get("ssh", host)
        is_hub = entry.get("aggregator", False)
        if aggregator is not None:
            is_hub = aggregator in (device.name, host, ssh)
        names = pins.names if device.sub_models is None else ()
        own = device.sub_models or tuple(
            index
            for index, name in enumerate(names)
            if device.name in (bundle.entry(index).devices or (name,))
        )
        found.append(Machine(device.name, ssh, (host,), own, port, is_hub))

    if aggregator is not None and not any(machine.aggregator for machine in found):
        found.append(_another(aggregator, {machine.name for machine in found}))
    _check(found)
    return tuple(found)


def missing_sub_models(bundle: Bundle, fleet: Sequence[Machine]) -> tuple[int, ...]:
    """Sub-models that no machine hosts."""
    there = {index for machine in fleet for index in machine.sub_models}
    return tuple(index for index in range(len(bundle.sub_models)) if index not in there)


def _another(ssh: str, devices: Set[str]) -> Machine:
    if not re.fullmatch(r"[^\s-]\S*", ssh):
        raise ConfigError(
            f"--aggregator is {ssh!r}; it must be a device of devices.toml, or what `ssh` is "
            "given: a name or USER@HOST."
        )
    if HUB in devices:
        raise ConfigError(
            f"a device is named {HUB!r}, as is the aggregator's machine {ssh}. Rename the device, "
            f"or say --aggregator {HUB}."
        )
    return Machine(HUB, ssh, (ssh.rpartition("@")[2],), aggregator=True)


def _check(found: Sequence[Machine]) -> None:
    seen: dict[str, str] = {}
    certificates: dict[str, str] = {}
    for machine in found:
        # whoever logs in
        place = machine.ssh.rpartition("@")[2].lower()
        if place in seen and not machine.sub_models:
            raise ConfigError(
                f"--aggregator {machine.ssh} is the machine of {seen[place]}. Say --aggregator "
                f"{seen[place]}; who logs in there is its ssh = in devices.toml."
            )
        if place in seen:
            raise ConfigError(
                f"{machine.name} and {seen[place]} are both at {place}; `edvit deploy` "
                "starts one worker a machine. Give one device both, by submodels = [...]."
            )
        seen[place] = machine.name
        # folders of some disks, and containers, are told apart by letters of one case
        other = certificates.setdefault(machine.certificate_name.lower(), machine.name)
        if other != machine.name:
            raise ConfigError(
                f"{machine.name!r} and {other!r} would have the same name in their certificates, "
                f"{machine.certificate_name}. Rename one of them."
            )

    hubs = [machine.name for machine in found if machine.aggregator]
    if len(hubs) > 1:
        raise ConfigError(
            f"{' and '.join(hubs)} have aggregator = true; one fleet has one. Drop the others."
        )
