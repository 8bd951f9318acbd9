"""Why a relay cannot be a device: circles, and devices on two levels."""

import pytest

from edvit_tf.aggregate.levels import Place, seen_from, why_not_below
from edvit_tf.device.rpc import below
from edvit_tf.device.rpc.messages import WireError

RACK = Place("rack-1", "aa")


@pytest.mark.parametrize(
    "beneath, own, level, wanted",
    [
        ({}, "", [], None),
        ({"pi-0": "01"}, "me", [Place("pi-1", "02")], None),
        ({"pi-0": "01"}, "aa", [], ("cycle", "it is this relay itself")),
        ({"hall/rack": "me"}, "me", [], ("cycle", "this relay is below it, as hall/rack")),
        # one that it does not ask any more, since it found the circle first
        ({"hall": "-me"}, "me", [], ("cycle", "this relay is below it, as hall")),
        ({"pi-1": "01"}, "", [Place("pi-1", "")], ("duplicate", "it has pi-1 below it")),
        ({"a/rack-1": "01"}, "", [], ("duplicate", "rack-1 is a device here too")),
        ({"pi-9": "02"}, "", [Place("pi-1", "02")], ("duplicate", "pi-9 below it is the process")),
        ({"pi-1": "-02"}, "", [Place("pi-1", "02")], None),
        # a process that does not say who it is, is nobody's twin
        ({"pi-0": ""}, "", [Place("pi-1", "")], None),
    ],
)
def test_a_tree_has_no_circles_and_each_device_one_place(beneath, own, level, wanted):
    found = why_not_below(RACK, beneath, own, [RACK, *level])
    if wanted is None:
        assert found is None
    else:
        assert found[0] == wanted[0] and wanted[1] in found[1]


def test_what_is_below_is_heard_as_it_was_said_and_rubbish_is_none():
    beneath = {"pi-0": "01", "rack/pi-1": "02", "rack": "03"}
    assert below.heard(below.said(beneath)) == beneath
    assert below.heard({}) is None
    for rubbish in ("[]", "{", '{"a": 1}', "[" * 50_000, " " * 200_000):
        with pytest.raises(WireError, match="property 'below'"):
            below.heard({below.BELOW: rubbish})


def test_where_there_are_too_many_to_be_named_relays_are():
    beneath = {f"a{j}": "1" for j in range(5000)}
    beneath |= {"z": "2", "z/a": "3"}
    heard = below.heard(below.said(beneath))
    assert 1000 < len(heard) <= 2000 and heard["z"] == "2"

    # as many as the property may have characters, where their names are long
    beneath = {f"{j:04d}" + "é" * 60: "1" for j in range(1500)}
    beneath |= {"z": "2", "z/a": "3"}
    said = below.said(beneath)
    heard = below.heard(said)
    assert 90_000 < len(said[below.BELOW]) <= 100_000
    assert 200 < len(heard) < 1500 and heard["z"] == "2"


@pytest.mark.parametrize(
    "asks, circles",
    [
        ({"a": "b", "b": "a"}, {"ab", "ba"}),
        ({"a": "b", "b": "c", "c": "a"}, {"ab", "bc", "ca"}),
        ({"a": "b", "b": "cd", "c": "b", "d": ""}, {"bc", "cb"}),
        ({"a": "ab", "b": ""}, {"aa"}),
        ({"a": "bc", "b": "d", "c": "d", "d": ""}, set()),
    ],
)
def test_every_relay_of_a_circle_sees_it_and_goes_on_to(asks, circles):
    """Each looks at its devices in turn, again and again, as probes do."""
    says: dict[str, dict[str, str]] = {name: {} for name in asks}
    refused: set[str] = set()
    history = []
    for _ in range(12):
        for name, devices in asks.items():
            level = [Place(f"n{one}", one) for one in devices]
            said: dict[str, str] = {}
            for place in level:
                why = why_not_below(place, says[place.instance], name, level)
                edge = name + place.instance
                refused = refused - {edge} if why is None else refused | {edge}
                said |= seen_from(place, says[place.instance], name, why is None)
            says[name] = said
        history.append((set(refused), {name: len(one) for name, one in says.items()}))

    assert history[-1][0] == circles
    assert history[6:] == [history[-1]] * 6
