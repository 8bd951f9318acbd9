"""The file of --sensors: what it says, and one clear error for each mistake in it."""

import os
import sys

import pytest

from edvit_tf.errors import ConfigError
from edvit_tf.watch import recorder
from edvit_tf.watch.room import Sensor, check_sources, load_room

NAMES = ("submodel-00", "submodel-01", "submodel-02")
DOOR = """
[[sensor]]
name = "door"
source = "USB"
[sensor.workers]
submodel-00 = "pi-0:8001"
"""
WINDOW = """
[[sensor]]
name = "window"
source = "/run/window"
rate = 48000
delay_ms = 300
[sensor.workers]
submodel-01 = "pi-1:8001"
submodel-02 = "pi-2:8001"
"""


def loaded(folder, text: str):
    file = folder / "room.toml"
    file.write_text(text)
    return load_room(file, NAMES)


def test_a_room_is_its_sensors_with_their_workers(tmp_path):
    room = loaded(tmp_path, "\ufefftolerance_ms = 100\n" + DOOR + WINDOW)
    assert room.tolerance == 0.1
    assert room.sensors == (
        Sensor("door", "USB", {"submodel-00": "pi-0:8001"}),
        Sensor("window", "/run/window", room.sensors[1].workers, rate=48000, delay=0.3),
    )
    assert room.workers == dict(zip(NAMES, ("pi-0:8001", "pi-1:8001", "pi-2:8001"), strict=True))
    assert loaded(tmp_path, DOOR).tolerance == 0.25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"room.toml has no \[\[sensor\]\] table"),
        ("[sensor]\nname = 'door'", r"has no \[\[sensor\]\] table"),
        ("sensor = [1]", r"has no \[\[sensor\]\] table"),
        ("sensor = 1 2", "is not TOML: .*Mend that line"),
        ("tolerance = 5\n" + DOOR, "unknown key 'tolerance'; the keys are sensor, tolerance_ms"),
        (DOOR.replace("source", "sorce"), r"sensor 1: unknown key 'sorce'; the keys are name, so"),
        (DOOR.replace('source = "USB"', ""), r"sensor 1 \(door\): source is None"),
        (DOOR.replace('"USB"', "1"), "source is 1; it must be a text"),
        (DOOR.replace('"door"', '" "'), "sensor 1: name is ' '"),
        (DOOR.replace('name = "door"', ""), "sensor 1: name is None"),
        (DOOR.replace('submodel-00 = "pi-0:8001"', ""), r"\(door\): workers are {}; it must name"),
        ("[[sensor]]\nname = 'a'\nsource = ''", "workers are None; it must name the sub-models"),
        (DOOR.replace("-00", "-7"), "door: the bundle has no sub-model 'submodel-7'; it has subm"),
        (DOOR + WINDOW.replace("-01", "-00"), "submodel-00 hears through door and through window"),
        (DOOR + DOOR.replace("-00", "-01"), "two sensors have the name 'door'"),
        (
            DOOR + WINDOW.replace("48000", "0"),
            r"sensor 2 \(window\): rate is 0; it must be a whole",
        ),
        (DOOR + WINDOW.replace("48000", "true"), "rate is True"),
        (DOOR + WINDOW.replace("300", "-1"), "delay_ms is -1; it must be a number from 0 to 10000"),
        ("tolerance_ms = nan\n" + DOOR, "tolerance_ms is nan"),
        ("tolerance_ms = '5'\n" + DOOR, "tolerance_ms is '5'"),
        ("tolerance_ms = 0\n" + DOOR, "tolerance_ms is 0; it must be a number from 100 to 10000"),
        ("tolerance_ms = 99.9\n" + DOOR, "tolerance_ms is 99.9"),
    ],
)
def test_each_mistake_is_one_error_that_says_what_to_do(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        loaded(tmp_path, text)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_two_sensors_that_read_one_pipe_are_one_error(tmp_path):
    sensors = loaded(tmp_path, DOOR + WINDOW).sensors
    one, other, link = (tmp_path / name for name in ("one", "other", "link"))
    os.mkfifo(one)
    os.mkfifo(other)
    link.symlink_to(one)
    for sources in (["-", "-"], [str(one)] * 2, [str(one), str(link)]):
        with pytest.raises(ConfigError, match="room.toml: door and window have one source, "):
            check_sources(sensors, sources, "room.toml")
    recording = str(tmp_path / "room.toml")  # each reads all of it
    for sources in (["-", str(one)], [str(one), str(other)], [recording] * 2, ["", "USB"]):
        check_sources(sensors, sources, "room.toml")


def test_two_sensors_of_one_device_are_one_error(tmp_path, monkeypatch):
    """By its name, its number, or as the machine's choice; by names alone without PortAudio."""

    class Sounddevice:
        class PortAudioError(Exception):
            pass

        @staticmethod
        def query_devices(device, kind):
            if device == "gone":
                raise ValueError("no input device matches 'gone'")
            return {"index": {None: 3, 3: 3, "USB Audio": 3, "usb": 3}.get(device, 4)}

    sensors = loaded(tmp_path, DOOR + WINDOW).sensors
    message = "room.toml: door and window are one device, "
    monkeypatch.setitem(sys.modules, "sounddevice", Sounddevice)
    for sources in (["", "3"], ["USB Audio", "usb"], ["3", "USB Audio"], ["gone", "Gone "]):
        if sources == ["gone", "Gone "]:
            monkeypatch.setitem(sys.modules, "sounddevice", None)  # cannot be imported
        with pytest.raises(ConfigError, match=message):
            check_sources(sensors, sources, "room.toml")
    check_sources(sensors, ["", "USB Audio"], "room.toml")

    monkeypatch.setitem(sys.modules, "sounddevice", Sounddevice)
    address = "rtsp://door/1"  # each asks for a stream of its own
    for sources in (["3", "other"], ["gone", "3"], [address, address], ["-", "3"]):
        check_sources(sensors, sources, "room.toml")


def test_a_number_beyond_any_device_is_looked_for_as_a_name():
    """PortAudio's numbers are C ints: a larger one is an OverflowError there."""
    assert [recorder._asked(one) for one in ("", "3", "USB")] == [None, 3, "USB"]
    assert recorder._asked("9" * 30) == "9" * 30 and recorder._asked("9" * 5000) == "9" * 5000


def test_a_file_that_is_not_there_or_no_text_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml cannot be read \(No such file"):
        load_room(tmp_path / "none.toml", NAMES)
    (tmp_path / "room.toml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_room(tmp_path / "room.toml", NAMES)
