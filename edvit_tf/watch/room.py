"""The file of `edvit watch --sensors`: the microphones of one room, and the workers that answer for
each.

tolerance_ms = 250              # that the sensors' windows may lie apart, 100 at least; left out:
                                # 250

[[sensor]]
name = "door"
source = "USB Audio"            # a device, "" for the machine's choice, a recording, a pipe that
                                # `mkfifo` made, "-", or rtsp://...; env:NAME reads that variable
rate = 48000                    # of raw sound from a pipe, Hz; left out: what the models take
delay_ms = 300                  # by which its sound always comes late; left out: 0
[sensor.workers]
submodel-00 = "pi-0.local:8001"
"""

import math
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edvit_tf.errors import ConfigError
from edvit_tf.watch.recorder import device_of
from edvit_tf.watch.sound_file import RECORDINGS

_KEYS = ("name", "source", "rate", "delay_ms", "workers")
_TOLERANCE_MS = 250.0
# A window's last samples are in a block of 50 ms that comes whole, and are looked for each 20 ms:
# with less next to no window is of all sensors
_LEAST_TOLERANCE_MS = 100.0
_MOST_MS = 10_000.0
_MOST_RATE = 384_000


@dataclass(frozen=True)
class Sensor:
    """A microphone."""

    name: str
    source: str
    workers: Mapping[str, str]  # HOST:PORT by sub-model, checked by `SensorFleet`
    rate: int | None = None  # Hz of raw sound
    delay: float = 0.0  # seconds


@dataclass(frozen=True)
class Room:
    """Sensors that hear the same."""

    sensors: tuple[Sensor, ...]
    tolerance: float  # seconds

    @property
    def workers(self) -> dict[str, str]:
        """HOST:PORT of each sub-model that has a sensor."""
        return {name: at for sensor in self.sensors for name, at in sensor.workers.items()}


def load_room(path: Path, sub_models: Sequence[str]) -> Room:
    """Raises ConfigError for a file that cannot be read, for what it must not hold, and for
    sub-models that the bundle does not have or that have two sensors.
    """
    try:
        # editors of Windows put a byte-order mark before the first line
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"--sensors {path} cannot be read ({error.strerror}). Check the path."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--sensors {path} is not TOML: {error}. Mend that line.") from error

    tables = content.get("sensor")
    if not (isinstance(tables, list) and tables and all(isinstance(t, dict) for t in tables)):
        raise ConfigError(
            f"{path.name} has no [[sensor]] table. Write one for each microphone, with its name, "
            "its source and its workers."
        )
    _check_keys(content, ("sensor", "tolerance_ms"), path.name)
    sensors = [
        _sensor(table, f"{path.name}, sensor {number}") for number, table in enumerate(tables, 1)
    ]
    _check_together(sensors, sub_models, path.name)
    tolerance = _milliseconds(
        content, "tolerance_ms", _TOLERANCE_MS, path.name, least=_LEAST_TOLERANCE_MS
    )
    return Room(tuple(sensors), tolerance)


def check_sources(sensors: Sequence[Sensor], sources: Sequence[str], file: str) -> None:
    """Raises ConfigError for two sensors that read one pipe, of which each would get a part, and
    for two of one device, which is opened once. `sources` are what stands for each sensor's source.
    """
    read_by: dict[tuple[int, ...], str] = {}
    for sensor, source in zip(sensors, sources, strict=True):
        pipe = _pipe(source)
        if pipe is None:
            continue
        if pipe in read_by:
            raise ConfigError(
                f"{file}: {read_by[pipe]} and {sensor.name} have one source, {source!r}, of which "
                "each would get a part. Make a pipe for each with mkfifo, or give the workers of "
                "both to one sensor."
            )
        read_by[pipe] = sensor.name
    _check_devices(sensors, sources, file)


def _check_devices(sensors: Sequence[Sensor], sources: Sequence[str], file: str) -> None:
    named = [
        (sensor.name, source)
        for sensor, source in zip(sensors, sources, strict=True)
        if _is_device(source)
    ]
    if len(named) < 2:  # PortAudio need not be asked
        return
    opened_by: dict[int | str, str] = {}
    for name, source in named:
        first = opened_by.setdefault(device_of(source), name)
        if first != name:
            raise ConfigError(
                f"{file}: {first} and {name} are one device, {source!r}. Give each a microphone of "
                "its own, or the workers of both to one sensor."
            )


def _is_device(source: str) -> bool:
    """Not standard input, nor what is, or is to be, a file, a pipe or an address."""
    is_file = "/" in source or source.lower().endswith(RECORDINGS)
    return source != "-" and not is_file and not (source and os.path.exists(source))


def _pipe(source: str) -> tuple[int, ...] | None:
    """What tells a pipe from others, by whatever path; None for what is no pipe."""
    if source == "-":
        return ()
    try:
        found = os.stat(source)
    except (OSError, ValueError):  # a device or an address; what is not there is said elsewhere
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISFIFO(found.st_mode) else None


def _sensor(table: dict[str, Any], where: str) -> Sensor:
    _check_keys(table, _KEYS, where)
    name = table.get("name")
    if not (isinstance(name, str) and name.strip()):
        raise ConfigError(f'{where}: name is {name!r}; it must be a text. Add name = "door".')
    where = f"{where} ({name})"
    source = table.get("source")
    if not isinstance(source, str):
        raise ConfigError(
            f"{where}: source is {source!r}; it must be a text: a device, a recording, a pipe, or "
            'an address. Add source = "" for the microphone of the machine\'s choice.'
        )
    workers = table.get("workers")
    if not (isinstance(workers, dict) and workers):
        raise ConfigError(
            f"{where}: workers are {workers!r}; it must name the sub-models that hear through it. "
            'Add [sensor.workers] and a line such as submodel-00 = "pi-0.local:8001".'
        )
    rate = table.get("rate")
    is_rate = isinstance(rate, int) and not isinstance(rate, bool) and 0 < rate <= _MOST_RATE
    if rate is not None and not is_rate:
        raise ConfigError(
            f"{where}: rate is {rate!r}; it must be a whole number of Hz from 1 to {_MOST_RATE}. "
            "Write rate = 48000, or leave it out."
        )
    return Sensor(name, source, workers, rate, _milliseconds(table, "delay_ms", 0.0, where))


def _check_together(sensors: Sequence[Sensor], sub_models: Sequence[str], file: str) -> None:
    names: set[str] = set()
    heard_by: dict[str, str] = {}
    for sensor in sensors:
        if sensor.name in names:
            raise ConfigError(f"{file}: two sensors have the name {sensor.name!r}. Rename one.")
        names.add(sensor.name)
        for name in sensor.workers:
            if name not in sub_models:
                raise ConfigError(
                    f"{file}, {sensor.name}: the bundle has no sub-model {name!r}; it has "
                    f"{', '.join(sub_models)}. Name one of these."
                )
            if name in heard_by:
                raise ConfigError(
                    f"{file}: {name} hears through {heard_by[name]} and through {sensor.name}; a "
                    "sub-model has one sensor. Drop it from one of the two."
                )
            heard_by[name] = sensor.name


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}. Drop it, or "
            "mend its spelling."
        )


def _milliseconds(
    table: Mapping[str, Any], key: str, default: float, where: str, *, least: float = 0.0
) -> float:
    """In seconds."""
    value = table.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and least <= value <= _MOST_MS):
        raise ConfigError(
            f"{where}: {key} is {value!r}; it must be a number from {least:g} to {_MOST_MS:g}. "
            f"Write for instance {key} = 250."
        )
    return value / 1e3
