"""What a relay says of the devices below it, in its models' metadata: their names, those of all
levels, and the processes that answer there.

By it an aggregator sees that a relay has itself below, or a device that is on two levels. Those
that a relay does not ask are named as well: two relays that refuse each other go on to see why.
"""

import json
from collections.abc import Mapping

from edvit_tf.device.rpc import messages

# Property of a model's metadata, as JSON: {"rack-1/pi-0": instance}. Only a relay has it.
BELOW = "below"
# Before the instance of one that is not asked, and of what is below that.
NOT_ASKED = "-"
_MOST = 2000  # devices that are named: an answer has 256 KiB at most
_LONGEST = 100_000  # characters of the property


def said(below: Mapping[str, str]) -> dict[str, str]:
    """The property. Other relays come first: workers have nothing below that would matter."""
    relays = {name.rpartition("/")[0] for name in below}
    names = sorted(below, key=lambda name: (name not in relays, name))
    found, left = {}, _LONGEST - len("{}")
    for name in names[:_MOST]:
        left -= len(json.dumps({name: below[name]}))  # with its brackets, for a comma and a space
        if left < 0:
            break
        found[name] = below[name]
    return {BELOW: json.dumps(found)}


def heard(properties: Mapping[str, str]) -> dict[str, str] | None:
    """The devices below one that is a relay; None of a worker. Raises WireError."""
    text = properties.get(BELOW)
    if text is None:
        return None

    try:
        found = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise messages.wrong(f"property {BELOW!r}", repr(text[:80]), 'JSON, {"DEVICE": "INSTANCE"}')

    return found
