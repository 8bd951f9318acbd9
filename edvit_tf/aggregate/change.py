"""Another fleet in the place of the one that answers, while it answers: by a new identity, or by a
devices.toml and a bundle that are read again.

The new one is made beside the old one, and its devices are looked at, before a request is answered
by it. Where it could answer less than it must, the old one stays, and the log says why.
"""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edvit_tf.aggregate.devices import Device, fleet_devices
from edvit_tf.aggregate.fleet import Fleet, FleetParts, Watches, checked_parts, make_fleet
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.link import Link
from edvit_tf.device.errors import DeviceError
from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.process_limits import check_descriptors
from edvit_tf.errors import ConfigError, EdvitError

if TYPE_CHECKING:
    from edvit_tf.aggregate.fleet_service import FleetService

# That devices are given to answer a first probe; one that is not there takes two handshakes.
LOOK_SECONDS = 6.0
_LOOK_AGAIN_SECONDS = 0.05
_REMIND_SECONDS = 86_400.0  # of devices that refuse a certificate


@dataclass(frozen=True)
class Reading:
    """What of a command line is read again."""

    bundle: Path
    devices: str
    least: int | None


async def renew(service: "FleetService", own: tls.Identity) -> str | None:
    """The same devices by connections with another identity, or why not. A device that could be
    asked before and cannot be by it is asked as before, and tried again by `renew_rest`.
    """
    before = service.fleet
    fleet = await _looked_at(service, replace(before.parts, own=own, earlier={}))
    lost = _lost(before, fleet)
    why = _why_not(before, fleet, lost)
    if why is None:
        await _put(service, fleet, lost)
        if lost:
            _tell_of_lost(service, lost)
    else:
        await _dropped(service, fleet)
    return why


async def renew_rest(service: "FleetService") -> None:
    """Tries the devices again that are asked with an earlier identity."""
    before = service.fleet
    if not before.parts.earlier:
        return

    fleet = await _looked_at(service, replace(before.parts, earlier={}))
    lost = _lost(before, fleet)
    names = {device.name for device in before.parts.earlier} - {link.device.name for link in lost}
    if names:
        await _put(service, fleet, lost)
        log("reload", changed=["certificate"], devices=sorted(names))
    else:
        await _dropped(service, fleet)
    if lost and time.monotonic() - service.told_of_lost > _REMIND_SECONDS:
        _tell_of_lost(service, lost)


def _lost(before: Fleet, fleet: Fleet) -> list[Link]:
    """Those of `fleet`, of the same devices with another identity, that lose by it."""
    return [
        new
        for old, new in zip(before.links, fleet.links, strict=True)
        # one that refuses the old one as well says nothing against the new one
        if (old.state == "ready" or new.state == "auth") and new.state not in ("ready", old.state)
    ]


def _why_not(before: Fleet, fleet: Fleet, lost: list[Link]) -> str | None:
    """Why nobody is to be asked with the identity of `fleet`."""
    if lost and not any(link.state == "ready" for link in fleet.links):
        return f"with it {_states(lost)}. Both sides need certificates of one authority."

    # nobody there to say whether another authority is theirs
    own, new_own = before.parts.own, fleet.parts.own
    same_trust = own is not None and new_own is not None and own.pems[0] == new_own.pems[0]
    answers = any(link.state not in ("unknown", "down") for link in fleet.links)
    if not (same_trust or answers):
        return (
            "its ca.pem is another one, and no device can be asked whether it accepts that. It is "
            "tried again until one answers."
        )
    return None


async def _put(service: "FleetService", fleet: Fleet, lost: list[Link]) -> None:
    """`fleet` is asked from now on, but for the links that are `lost`, which stay as they were."""
    before = service.fleet
    devices = [link.device for link in lost]
    earlier = {device: before.parts.identity_of(device) for device in devices}
    if earlier:
        parts = replace(fleet.parts, earlier=earlier)
        service.put(make_fleet(parts, service.deadline_seconds, before, fleet.links))
        await _dropped(service, fleet)
    else:
        service.put(fleet)


def _tell_of_lost(service: "FleetService", lost: list[Link]) -> None:
    service.told_of_lost = time.monotonic()
    log(
        "reload",
        "error",
        refused="certificate",
        devices=[link.device.name for link in lost],
        reason=f"with it {_states(lost)}. Both sides need certificates of one authority.",
        stays="the one before, for these devices, which are tried again",
    )


def _states(links: list[Link]) -> str:
    return "; ".join(f"{link.device.name} is {link.state} ({link.seen.reason})" for link in links)


async def reload(service: "FleetService", reading: Reading) -> None:
    """devices.toml and the bundle. What is no good is told, and stays as it was."""
    before = service.fleet.parts
    refused: dict[str, str] = {}
    devices = _devices(reading, before, refused)
    bundle = await asyncio.to_thread(_bundle, reading, before, refused)

    parts = before
    if bundle is not None:
        parts = await asyncio.to_thread(_with_bundle, before, bundle, devices, reading, refused)
    if parts is not before:
        fleet = await _looked_at(service, parts)
        if _is_enough(fleet):
            service.put(fleet)
        else:
            refused["bundle"] = (
                f"devices hold {_too_few(fleet)} of {parts.bundle.digest[:12]}, {_needed(fleet)}. "
                "Install it on the devices first."
            )
            await _dropped(service, fleet)

    # beside the bundle that stays
    if service.fleet.parts.devices != devices:
        try:
            fleet = await _looked_at(service, _with_devices(service.fleet.parts, devices))
        except (EdvitError, DeviceError) as error:
            refused["devices"] = str(error)
        else:
            # a file that is half written, or names a wrong host, must not end what answers
            if _answers_no_less(fleet, service.fleet):
                service.put(fleet)
            else:
                refused["devices"] = (
                    f"its devices hold {_too_few(fleet)}, those before "
                    f"{len(service.fleet.fanout.available())}, {_needed(fleet)}. Mend the file, or "
                    "start these workers first."
                )
                await _dropped(service, fleet)

    _tell(before, service.fleet.parts, refused)


def _is_enough(fleet: Fleet) -> bool:
    """Whether requests can be answered by it."""
    return len(fleet.fanout.available()) >= fleet.parts.least


def _answers_no_less(fleet: Fleet, before: Fleet) -> bool:
    """Whether requests can be answered by it; where they cannot by the one before either, which may
    wait for a device that restarts, whether it is as near to that.
    """
    nearer = len(fleet.fanout.available()) >= len(before.fanout.available())
    return _is_enough(fleet) or (nearer and not _is_enough(before))


def _too_few(fleet: Fleet) -> str:
    return f"{len(fleet.fanout.available())} of the {len(fleet.fanout.expected)} sub-models"


def _needed(fleet: Fleet) -> str:
    """How many are, and which are not there."""
    able = fleet.fanout.available()
    missing = [name for name in fleet.fanout.expected if name not in able]
    states = "; ".join(f"{name}: {fleet.fanout.why_missing(name)}" for name in missing)
    return f"and {fleet.parts.least} are needed: {states}"


def _tell(before: FleetParts, now: FleetParts, refused: dict[str, str]) -> None:
    changed = []
    if now.devices != before.devices:
        changed.append("devices")
    if now.bundle.digest != before.bundle.digest:
        changed.append("bundle")

    names = [device.name for device in now.devices]
    log("reload", changed=changed, devices=names, bundle_digest=now.bundle.digest)
    for what, reason in refused.items():
        log("reload", "error", refused=what, reason=reason, stays="the one before")


def _devices(reading: Reading, before: FleetParts, refused: dict[str, str]) -> tuple[Device, ...]:
    """Those of the file now; those of before where it is none, or no good."""
    try:
        return fleet_devices(reading.devices)
    except (EdvitError, DeviceError, OSError) as error:
        refused["devices"] = str(error)
        return before.devices


def _bundle(reading: Reading, before: FleetParts, refused: dict[str, str]) -> Bundle | None:
    """Another bundle than before, that can take its place; None where there is none."""
    try:
        bundle = open_bundle(reading.bundle)
        if bundle.digest == before.bundle.digest:
            return None
        if bundle.input != before.bundle.input:
            raise ConfigError(
                "its input is another one than that of the bundle that is served, which clients "
                "and limits follow. Restart the aggregator for it."
            )
        return bundle
    except (EdvitError, DeviceError, OSError) as error:
        refused["bundle"] = str(error)
        return None


def _with_bundle(
    before: FleetParts,
    bundle: Bundle,
    devices: tuple[Device, ...],
    reading: Reading,
    refused: dict[str, str],
) -> FleetParts:
    """The parts of a fleet of another bundle, whose fusion was proved; `before` where it is no
    good.
    """
    try:
        check_descriptors(peers=len(before.devices) + len(devices))
        parts = checked_parts(
            bundle,
            bundle_input(bundle),
            devices,
            reading.least,
            before.own,
            None if before.fusion is None else Fusion(bundle),
            before.instance,
        )
        return replace(parts, earlier=before.earlier_of(devices))
    except (EdvitError, DeviceError, OSError) as error:
        refused["bundle"] = str(error)
        return before


def _with_devices(before: FleetParts, devices: tuple[Device, ...]) -> FleetParts:
    """Raises ConfigError, DescriptorsShort."""
    check_descriptors(peers=len(before.devices) + len(devices))
    parts = checked_parts(
        before.bundle,
        before.model_input,
        devices,
        before.least,
        before.own,
        before.fusion,
        before.instance,
    )
    return replace(parts, earlier=before.earlier_of(devices))


async def _looked_at(service: "FleetService", parts: FleetParts) -> Fleet:
    """A fleet of these parts, each device of which was probed, if that is possible in time."""
    fleet = make_fleet(parts, service.deadline_seconds, service.fleet)
    service.watches.begin(fleet.links)
    ends = time.monotonic() + LOOK_SECONDS
    while any(link.state == "unknown" for link in fleet.links) and time.monotonic() < ends:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return fleet


async def _dropped(service: "FleetService", fleet: Fleet) -> None:
    """It does not come to answer."""
    await service.watches.end(link for link in fleet.links if link not in service.fleet.links)
    _close_fusion(fleet, service.fleet)


async def left(
    before: Fleet, now: Fleet, watches: Watches, earlier: Collection[asyncio.Task[None]]
) -> None:
    """Ends what of a fleet is not needed any more, when its last request is answered, and the last
    one of those before it, whose `left` are `earlier`: they may ask by its links, and fuse by its
    fusion.
    """
    if earlier:
        await asyncio.wait(earlier)
    while before.in_flight:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    await watches.end(link for link in before.links if link not in now.links)
    _close_fusion(before, now)


def _close_fusion(leaving: Fleet, stays: Fleet) -> None:
    """Unless the fleet that stays has the same."""
    fusion = leaving.parts.fusion
    if fusion is not None and fusion is not stays.parts.fusion:
        fusion.executor.close()
