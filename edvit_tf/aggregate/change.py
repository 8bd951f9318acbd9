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
from edvit_tf.device.errors import DeviceError
from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.process_limits import check_descriptors
from edvit_tf.errors import ConfigError, EdvitError

if TYPE_CHECKING:
    from edvit_tf.aggregate.service import AggregatorService

# That devices are given to answer a first probe; one that is not there takes two handshakes.
LOOK_SECONDS = 6.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Reading:
    """What of a command line is read again."""

    bundle: Path
    devices: str
    least: int | None


async def renew(service: "AggregatorService", own: tls.Identity) -> str | None:
    """The same devices by connections with another identity, or why not: each device that could be
    asked before can be asked by it. It is tried again (`reload.py`).
    """
    before = service.fleet
    fleet = await _looked_at(service, replace(before.parts, own=own))
    why = _why_not(before, fleet)
    if why is None:
        service.put(fleet)
    else:
        await _dropped(service, fleet)
    return why


def _why_not(before: Fleet, fleet: Fleet) -> str | None:
    """`fleet` is of the same devices, with another identity."""
    lost = [
        f"{new.device.name} is {new.state} ({new.seen.reason})"
        for old, new in zip(before.links, fleet.links, strict=True)
        # one that refuses the old one as well says nothing against the new one
        if (old.state == "ready" or new.state == "auth") and new.state not in ("ready", old.state)
    ]
    if lost:
        return f"with it {'; '.join(lost)}. Both sides need certificates of one authority."

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


async def reload(service: "AggregatorService", reading: Reading) -> None:
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
        fusion = Fusion(bundle)
        return checked_parts(
            bundle, bundle_input(bundle), devices, reading.least, before.own, fusion
        )
    except (EdvitError, DeviceError, OSError) as error:
        refused["bundle"] = str(error)
        return before


def _with_devices(before: FleetParts, devices: tuple[Device, ...]) -> FleetParts:
    """Raises ConfigError, DescriptorsShort."""
    check_descriptors(peers=len(before.devices) + len(devices))
    return checked_parts(
        before.bundle, before.model_input, devices, before.least, before.own, before.fusion
    )


async def _looked_at(service: "AggregatorService", parts: FleetParts) -> Fleet:
    """A fleet of these parts, each device of which was probed, if that is possible in time."""
    fleet = make_fleet(parts, service.deadline_seconds, service.fleet)
    service.watches.begin(fleet.links)
    ends = time.monotonic() + LOOK_SECONDS
    while any(link.state == "unknown" for link in fleet.links) and time.monotonic() < ends:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return fleet


async def _dropped(service: "AggregatorService", fleet: Fleet) -> None:
    """It does not come to answer."""
    await service.watches.end(link for link in fleet.links if link not in service.fleet.links)
    if fleet.parts.fusion is not service.fleet.parts.fusion:
        fleet.parts.fusion.executor.close()


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
    if before.parts.fusion is not now.parts.fusion:
        before.parts.fusion.executor.close()
