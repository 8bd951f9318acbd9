"""Does this machine run at full speed now? Under-voltage, throttling and temperature, where the
system tells.

A Pi on a weak supply or without a heat sink halves its clock: answers stay right and come late.
Sources: the firmware's word of flags in a file of the Pi's kernel, `vcgencmd get_throttled` for the
same word (Raspberry Pi documentation, "OS / vcgencmd"), the kernel's hwmon driver rpi_volt, its
thermal zones.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edvit_tf.device.rpc.condition import REASONS, Condition, plausible

SYSTEM = Path("/sys")
_FIRMWARE = "devices/platform/soc/*firmware/get_throttled"
_ADVICE = {"under-voltage": "use the supply made for this board and a short, thick cable"}
_VCGENCMD_SECONDS = 5.0


class Zone(NamedTuple):
    """A thermal zone of the kernel."""

    name: str  # thermal_zone0
    kind: str  # its type, such as cpu-thermal
    temperature_c: float


class Power(NamedTuple):
    """What the system tells."""

    zones: tuple[Zone, ...]
    now: Mapping[str, bool]  # by reason; one that nobody tells of is absent
    since_boot: Mapping[str, bool]
    source: str | None  # who told of the reasons

    def condition(self) -> Condition:
        degrees = [zone.temperature_c for zone in self.zones]
        return Condition(max(degrees, default=None), self.now, self.since_boot)


def read_power(system: Path = SYSTEM, program: str | None = None) -> Power:
    """What the system tells now. `program` is a vcgencmd, which is started where the kernel has no
    file of the flags; it may take seconds.
    """
    now: dict[str, bool] = {}
    past: dict[str, bool] = {}
    # one word of flags: what holds now in its low bits, since boot in the high ones
    bits, source = _by_file(system), "firmware"
    if bits is None and program is not None:
        bits, source = _by_program(program), "vcgencmd"
    if bits is not None:
        now = {reason: bool(bits >> bit & 1) for bit, reason in enumerate(REASONS)}
        past = {reason: bool(bits >> (16 + bit) & 1) for bit, reason in enumerate(REASONS)}

    # the kernel's own alarm, also where the firmware cannot be asked
    alarm = _alarm(system)
    if alarm is not None:
        now[REASONS[0]] = now.get(REASONS[0], False) or alarm
        if bits is None:
            source = "rpi_volt"

    return Power(_zones(system), now, past, source if now else None)


def power(system: Path = SYSTEM) -> dict:
    """{"temperature_c": float or None, "now": [what is wrong], "since_boot": [...], "source": who
    told, or None}, for --check.
    """
    read = read_power(system, shutil.which("vcgencmd"))
    return {
        "temperature_c": read.condition().temperature_c,
        "now": [reason for reason, holds in read.now.items() if holds],
        "since_boot": [reason for reason, holds in read.since_boot.items() if holds],
        "source": read.source,
    }


def problems(state: dict) -> list[str]:
    """What of a `power` result makes a check fail: that which holds now, with advice."""
    return [
        f"{name} now: {_ADVICE.get(name, 'cool the board (heat sink, fan)')}"
        for name in state["now"]
    ]


def has_firmware_file(system: Path = SYSTEM) -> bool:
    """Whether the kernel tells the flags, so that nobody needs to be asked for them."""
    return _by_file(system) is not None


def _by_file(system: Path) -> int | None:
    for file in sorted(system.glob(_FIRMWARE)):
        with contextlib.suppress(ValueError):
            return int(_text(file), 16)
    return None


def _by_program(program: str) -> int | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [program, "get_throttled"],
            capture_output=True,
            text=True,
            timeout=_VCGENCMD_SECONDS,
            check=True,
        )
        found = re.search(r"throttled=(0x[0-9a-fA-F]+)", said.stdout)
        if found:
            return int(found[1], 16)
    return None


def _alarm(system: Path) -> bool | None:
    """Under-voltage now, by the kernel's driver; None where there is none."""
    for chip in sorted(system.glob("class/hwmon/hwmon*")):
        if _text(chip / "name") == "rpi_volt":
            said = _text(chip / "in0_lcrit_alarm")
            return said == "1" if said in ("0", "1") else None
    return None


def _zones(system: Path) -> tuple[Zone, ...]:
    found = []
    for folder in sorted(system.glob("class/thermal/thermal_zone*")):
        # a zone that is switched off cannot be read: its text is empty
        text = _text(folder / "temp")
        if text.lstrip("-").isdecimal():
            degrees = plausible(str(int(text[:9]) / 1000))
            if degrees is not None:
                found.append(Zone(folder.name, _text(folder / "type"), degrees))
    return tuple(found)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
