"""Why a relay cannot be a device here: it has this server below it, or a device that is here too.

A tree has no circles, and each of its devices one place and one name: else a request would go round
until its time is over, a device would be asked twice as if it were two, and nobody could say which
of two of a name is missing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edvit_tf.device.rpc.below import NOT_ASKED


class Place(NamedTuple):
    """A device of this level."""

    name: str
    instance: str  # of its process; "" until it has said it


def why_not_below(
    relay: Place, below: Mapping[str, str], own: str, level: Sequence[Place]
) -> tuple[str, str] | None:
    """(state, reason), or None where it can.

    `own` is the instance of this server where it is a relay itself, else "". `level` are the
    devices here, the relay among them.
    """
    if own and relay.instance == own:
        return "cycle", "it is this relay itself; take it out of its own devices"
    for path, instance in below.items():
        if own and instance.removeprefix(NOT_ASKED) == own:
            return "cycle", (
                f"this relay is below it, as {path}; a relay cannot be asked by one that it asks. "
                "Take one of the two out of the other's devices"
            )

    # those that it does not ask are nobody's device twice
    asked = {path: one for path, one in below.items() if not one.startswith(NOT_ASKED)}
    here = {place.name for place in level}
    for path in asked:
        twice = here & set(path.split("/"))
        if twice:
            return "duplicate", (
                f"it has {path} below it, and {min(twice)} is a device here too; rename one of the "
                "two, or drop it"
            )

    instances = {place.instance: place.name for place in level if place.instance}
    for path, instance in asked.items():
        if instance in instances:
            return "duplicate", (
                f"{path} below it is the process that {instances[instance]} here is too; drop one "
                "of the two"
            )
    return None


def seen_from(device: Place, below: Mapping[str, str], own: str, asked: bool) -> dict[str, str]:
    """What a relay, `own`, says of one of its devices and of what that has below it.

    Of a circle all is said, whether it is asked or not, up to this relay itself: so every relay of
    the circle goes on to see it, and none says more with each turn.
    """
    if not device.instance:
        return {}

    found = {device.name: device.instance}
    ours = [path for path, one in below.items() if one.removeprefix(NOT_ASKED) == own]
    for path, instance in below.items():
        if not any(path.startswith(f"{end}/") for end in ours):
            found[f"{device.name}/{path}"] = instance
    if asked:
        return found
    return {path: NOT_ASKED + one.removeprefix(NOT_ASKED) for path, one in found.items()}
