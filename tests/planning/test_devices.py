"""devices.toml: units, limits left out, and errors that name the device."""

import pytest

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import ConfigError
from edvit_tf.planning.devices import load_devices, parse_size


@pytest.mark.parametrize(
    "text, size",
    [
        ("180MiB", 180 * 2**20),
        ("30 MB", 30_000_000),
        (" 28.6 MiB ", 29_989_273),
        ("512 kB", 512_000),
        ("7B", 7),
        ("1KiB", 1024),
        ("2 GB", 2_000_000_000),
        ("1.5GiB", 3 * 2**29),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "180", "MB", "-3 MB", "3 mb", "1e3 MB", "3 MiBs", "1,5 MB"])
def test_a_wrong_size_is_named_with_the_units(text):
    with pytest.raises(ConfigError, match="B, kB, MB, GB, KiB, MiB, GiB") as error:
        parse_size(text)
    assert repr(text) in str(error.value)


def write(tmp_path, text):
    path = tmp_path / "devices.toml"
    path.write_text(text, "utf-8")
    return path


def test_devices_are_read_in_order(tmp_path):
    path = write(
        tmp_path,
        """
        [[device]]
        name = "pi-kitchen"
        memory = "30 MB"
        reserve = "2 MB"
        compute = "0.5 GMAC"
        host = "10.0.0.7"
        port = 8500
        [[device]]
        name = "pi-attic"
        memory = 4096
        reserve = 0
        compute = 1.6e9
        [[device]]
        name = "server"
    """,
    )
    assert load_devices(path) == (
        DeviceSpec("pi-kitchen", 30_000_000, 500_000_000, 2_000_000),
        DeviceSpec("pi-attic", 4096, 1_600_000_000),
        DeviceSpec("server"),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "top-level keys .*one \\[\\[device\\]\\]"),
        ("[device]\nname = 'a'", "one \\[\\[device\\]\\]"),
        ("[[device]]\nname = 'a'\n[more]", "top-level keys \\['device', 'more'\\]"),
        ("[[device]\n", "is not TOML"),
        ("[[device]]\nmemory = 3", "device 1: name is None"),
        (
            "[[device]]\nname = 'a'\n[[device]]\nname = 'b'\nram = 3",
            "device 2: unknown key 'ram'; the keys are: name",
        ),
        ("[[device]]\nname = 'a'\n[[device]]\nname = 'a'", "names 'a' more than once"),
        ("[[device]]\nname = 'a'\nmemory = '3 G'", r"device 1 \(a\): memory is '3 G'.*MiB"),
        ("[[device]]\nname = 'a'\nmemory = 3.5", r"memory is 3.5; it must be a number or a string"),
        ("[[device]]\nname = 'a'\nmemory = true", "memory is True"),
        ("[[device]]\nname = 'a'\nmemory = 0", "memory is 0; it must be positive"),
        (
            "[[device]]\nname = 'a'\nreserve = '2 MB'",
            r"device 1 \(a\): reserve is '2 MB', but .* no memory limit",
        ),
        (
            "[[device]]\nname = 'a'\nmemory = '2 MB'\nreserve = '2 MB'",
            r"reserve is '2 MB' .*less than .* 2000000 bytes",
        ),
        (
            "[[device]]\nname = 'a'\nmemory = '2 MB'\nreserve = -1",
            "reserve is -1; it must be positive",
        ),
        (
            "[[device]]\nname = 'a'\nmemory = '2 MB'\nreserve = false",
            "reserve is False; it must be a number",
        ),
        ("[[device]]\nname = 'a'\ncompute = '2 GFLOP'", "compute is '2 GFLOP'.*GMAC"),
        ("[[device]]\nname = 'a'\ncompute = inf", "compute is inf"),
        ("[[device]]\nname = 'a'\ncompute = nan", "compute is nan; it must be positive"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_devices(write(tmp_path, text))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_of_an_editor_of_windows_is_read(tmp_path, end):
    path = tmp_path / "devices.toml"
    text = f'[[device]]{end}name = "pi"{end}'
    path.write_bytes(text.encode("utf-8-sig"))
    assert [device.name for device in load_devices(path)] == ["pi"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none.toml.*No such file"):
        load_devices(tmp_path / "none.toml")
