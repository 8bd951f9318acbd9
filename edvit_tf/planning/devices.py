"""devices.toml: what each device offers to the plan.

[[device]]
name = "pi-kitchen"
memory = "30 MB"        # bytes of model files; "28.6 MiB" or an integer of bytes; none: no limit
reserve = "2 MB"        # of that memory, kept free; left out: 0
compute = "0.5 GMAC"    # MACs it may spend on the planned samples; or a number; left out: no limit
board = "pi4b"          # whose published watts it draws (boards.toml); left out: no joules
speed = "7 GMAC"        # MACs a second that were measured; left out: as published of its board
energy = "20 kJ"        # it may spend on the planned samples, by --objective joules alone
host = "10.0.0.7"       # host and port are for the network part; the plan does not read them
port = 8500
submodels = [0, 2]      # all that an aggregator asks it for; left out: what the plan placed there
ssh = "me@10.0.0.7"     # where `edvit deploy` logs in; left out: the host
aggregator = true       # `edvit deploy` starts the aggregator there; left out: false
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import ConfigError
from edvit_tf.planning.boards import boards

_BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MACS = {"MAC": 1, "kMAC": 1e3, "MMAC": 1e6, "GMAC": 1e9, "TMAC": 1e12}
_MILLIJOULES = {"mJ": 1, "J": 1e3, "kJ": 1e6, "Wh": 3.6e6}
_KEYS = (
    *("name", "memory", "reserve", "compute", "board", "speed", "energy"),
    *("host", "port", "submodels", "ssh", "aggregator"),
)


def parse_size(text: str) -> int:
    """Bytes in `text`: "180MiB", "30 MB", "9.6 MiB", "512 kB", "1000 B"; rounded down to whole
    bytes.

    Raises ConfigError for anything else, a bare number without a unit included.
    """
    return _quantity(text, _BYTES, "a size")


def load_devices(path: str | Path) -> tuple[DeviceSpec, ...]:
    """The devices of a devices.toml file, in its order (form: at the head of this module). Raises
    ConfigError as `load_tables`.
    """
    return tuple(spec for spec, _ in load_tables(path))


def load_tables(path: str | Path) -> list[tuple[DeviceSpec, dict]]:
    """Each device with its table, for the keys that a plan does not read; from one reading of the
    file, which may be written to.

    Raises ConfigError if the file is missing or no TOML, has no [[device]], an unknown key, a value
    of a wrong type or two devices of one name; the message says which device.
    """
    path = Path(path)
    try:
        # Editors of Windows put a byte-order mark before the first line.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"Devices file {str(path)!r} cannot be read ({error.strerror}). Check the path."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Devices file {str(path)!r} is not TOML: {error}. Mend that line."
        ) from error

    # a slip: [device] for [[device]], or a limit outside its table
    unknown = sorted(set(content) - {"device"})
    entries = content.get("device")
    tables = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    if unknown or not tables or not entries:
        raise ConfigError(
            f"Devices file {str(path)!r} has the top-level keys {sorted(content)}; it must hold "
            "one [[device]] table a device and nothing else. Write [[device]] and a name line "
            "for each."
        )

    specs = []
    for number, entry in enumerate(entries, start=1):
        specs.append(_device(entry, f"{path.name}, device {number}"))

    # plans and manifests know a device by its name
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        quoted = ", ".join(map(repr, twice))
        raise ConfigError(
            f"Devices file {str(path)!r} names {quoted} more than once; each device needs a name "
            "of its own. Rename one of them."
        )
    return list(zip(specs, entries, strict=True))


def _device(entry: dict, where: str) -> DeviceSpec:
    """One [[device]] table as a DeviceSpec; `where` opens the message of a ConfigError."""
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {unknown[0]!r}; the keys are: {', '.join(_KEYS)}. Correct or "
            "drop it."
        )

    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f'{where}: name is {name!r}; every device needs a name. Add a line name = "...".'
        )

    # from here on a message can say which device it is
    where = f"{where} ({name})"

    memory = _limit(entry.get("memory"), _BYTES, True, f"{where}: memory")
    compute = _limit(entry.get("compute"), _MACS, False, f"{where}: compute")
    reserve = 0
    if "reserve" in entry:
        reserve = _reserve(entry["reserve"], memory, f"{where}: reserve")
    if "submodels" in entry:
        _check_sub_models(entry["submodels"], f"{where}: submodels")
    _check_deployment(entry, where)
    return DeviceSpec(
        name,
        memory_bytes=memory,
        compute_macs=compute,
        reserve_bytes=reserve,
        board=_board(entry.get("board"), f"{where}: board"),
        macs_per_second=_limit(entry.get("speed"), _MACS, False, f"{where}: speed"),
        energy_joules=_energy(entry.get("energy"), f"{where}: energy"),
    )


def _board(value: Any, where: str) -> str | None:
    """A board of which figures are published."""
    if value is None or (isinstance(value, str) and value in boards()):
        return value
    raise ConfigError(
        f"{where} is {value!r}; those with published figures are: {', '.join(boards())}. Take the "
        "nearest one, or leave the line out."
    )


def _energy(value: Any, where: str) -> float | None:
    """Joules of a string with a unit: a bare number could be watt-hours as well."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(
            f'{where} is {value!r}; it must be a string with a unit, such as "20 kJ" or "5 Wh".'
        )
    millijoules = _limit(value, _MILLIJOULES, True, where)
    assert millijoules is not None  # there is a value
    return millijoules / 1000


def _check_sub_models(value: Any, where: str) -> None:
    """The indices that an aggregator may ask a device for; the plan does not read them."""
    listed = isinstance(value, list) and value
    if not listed or not all(type(index) is int and index >= 0 for index in value):
        raise ConfigError(
            f"{where} is {value!r}; it must be a list of sub-models, such as [0, 2]. Leave the "
            "line out for those that the plan placed there."
        )


def _check_deployment(entry: dict, where: str) -> None:
    """What `edvit deploy` reads; the plan does not."""
    ssh = entry.get("ssh", "host")
    if not isinstance(ssh, str) or not re.fullmatch(r"[^\s-]\S*", ssh):
        raise ConfigError(
            f"{where}: ssh is {ssh!r}; it must be what `ssh` is given, a name or USER@HOST. Write "
            'for instance ssh = "me@10.0.0.7".'
        )
    aggregator = entry.get("aggregator", False)
    if not isinstance(aggregator, bool):
        raise ConfigError(
            f"{where}: aggregator is {aggregator!r}; it must be true or false. Leave the line out "
            "where it is false."
        )


def _reserve(value: Any, memory_bytes: int | None, where: str) -> int:
    """The bytes that a device keeps free of its memory; 0 keeps none."""
    # none at all, which a file may say
    if type(value) is int and value == 0:
        return 0

    reserve = _limit(value, _BYTES, True, where) or 0
    if memory_bytes is None:
        raise ConfigError(
            f'{where} is {value!r}, but the device has no memory limit. Add a line memory = "...".'
        )
    if reserve >= memory_bytes:
        raise ConfigError(
            f"{where} is {value!r} ({reserve} bytes); it must be less than the device's memory of "
            f"{memory_bytes} bytes, else no file fits. Lower it, or drop the device."
        )

    return reserve


def _limit(value: Any, units: dict, whole: bool, where: str) -> int | None:
    """A limit as an integer: None, a plain number, or a string with a unit."""
    if value is None:
        return None

    # True is an int to Python, and no amount
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if whole and isinstance(value, float):
        known = False

    if isinstance(value, str):
        number = _quantity(value, units, where)
    elif not known or abs(value) == float("inf"):
        raise ConfigError(
            f'{where} is {value!r}; it must be a number or a string such as "30 {list(units)[2]}".'
        )
    elif value != value:  # NaN is no limit
        number = 0
    else:
        number = int(value)

    if number <= 0:
        raise ConfigError(
            f"{where} is {value!r}; it must be positive. Leave the line out for no limit."
        )
    return number


def _quantity(text: str, units: dict, what: str) -> int:
    """`text` = number and unit, as an integer of the first unit of `units`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if not match or match[2] not in units:
        raise ConfigError(
            f"{what} is {text!r}; it must be a number and a unit, one of {', '.join(units)}. "
            f'Write for instance "30 {list(units)[2]}".'
        )

    # rounded down: a limit is never taken to be more than it says
    return int(float(match[1]) * units[match[2]])
