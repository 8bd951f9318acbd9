"""What was announced, as a devices.toml: nothing that is hostile gets into it, and nothing that is
not is lost.
"""

from types import SimpleNamespace

import pytest

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.device.rpc.announcement import SERVICE, ranges
from edvit_tf.operate.discover import Found, Heard, _found, proposal

HOSTILE = '"\n[[device]]\nname = "evil\x1b[2J\u202e'


def announced(name="pi", addresses=("10.0.0.1",), port=8001, **properties):
    info = SimpleNamespace(
        name=f"{name}.{SERVICE}",
        port=port,
        properties={key.encode(): value.encode() for key, value in properties.items()},
    )
    return _found(info, addresses)


def test_of_several_addresses_the_nearest_to_use_comes_first():
    found = announced(addresses=["fe80::1%2", "169.254.0.9", "2001:db8::7", "10.0.0.1", "10.0.0.1"])
    assert found.addresses == ("10.0.0.1", "2001:db8::7", "169.254.0.9", "fe80::1%2")
    assert announced(addresses=["fe80::1%2"]).addresses == ("fe80::1%2",)
    assert announced(addresses=["0.0.0.0", "ff02::1", "nonsense"]) is None
    assert announced(port=0) is None


def test_an_entry_of_ipv6_is_read_as_one(tmp_path):
    (tmp_path / "devices.toml").write_text(
        proposal(Heard([announced(addresses=["2001:db8::7"])]), 5)
    )
    (device,) = fleet_devices(str(tmp_path / "devices.toml"))
    assert (device.name, device.address) == ("pi", "[2001:db8::7]:8001")


def test_one_address_is_one_entry_and_names_are_unique(tmp_path):
    found = [
        Found("pi", ("10.0.0.1",), 8001),
        Found("pi", ("10.0.0.2",), 8001),
        Found("twin", ("10.0.0.1",), 8001),
        Found("pi-2", ("10.0.0.3",), 8001),
        Found(announced(name=HOSTILE).name, ("10.0.0.4",), 8001),
        Found(announced(name="\u732b").name, ("10.0.0.5",), 8001),
    ]
    text = proposal(Heard(found), 5)
    (tmp_path / "devices.toml").write_text(text)
    devices = fleet_devices(str(tmp_path / "devices.toml"))
    assert len(devices) == 5 and "# announced 2 times: twin too" in text
    assert len({device.name for device in devices}) == 5


def test_of_two_that_claim_one_address_none_hides_the_other(tmp_path):
    found = [
        Found("a", ("10.0.0.1", "10.0.0.9"), 8001, fingerprint="b" * 64),  # of somebody else
        Found("pi", ("10.0.0.1", "10.0.0.8"), 8001, fingerprint="a" * 64),
        Found("pi-1", ("10.0.0.2",), 8001, fingerprint="c" * 64),
    ]
    text = proposal(Heard(found), 5)
    for said in ("AA:AA", "BB:BB", "CC:CC", "10.0.0.8", "10.0.0.9"):
        assert said in text
    assert text.count("# 2 announcements say that they are at this address") == 2
    (tmp_path / "devices.toml").write_text(text)
    assert [one.name for one in fleet_devices(str(tmp_path / "devices.toml"))] == ["pi-1"]

    # one is taken, as it says
    chosen = text
    for line in ("[[device]]", 'name = "pi"', 'host = "10.0.0.1"', "port = 8001"):
        before, _, after = chosen.rpartition(f"# {line}\n")
        chosen = f"{before}{line}\n{after}"
    (tmp_path / "devices.toml").write_text(chosen)
    devices = fleet_devices(str(tmp_path / "devices.toml"))
    assert (devices[0].name, devices[0].address) == ("pi", "10.0.0.1:8001")


@pytest.mark.parametrize(
    ("indices", "text"),
    [([], ""), ([3], "3"), ([2, 0, 1, 1, 5], "0-2,5"), ([1, 3, 4], "1,3-4")],
)
def test_sub_models_are_said_as_ranges(indices, text):
    assert ranges(indices) == text


def test_a_long_list_fits_a_record():
    said = ranges(range(0, 2000, 2))
    assert len(said) <= 200 and not said.endswith(",")
