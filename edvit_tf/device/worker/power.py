"""Does this machine run at full speed now? Under-voltage, throttling and temperature, where the
system tells.

A Pi on a weak supply or without a heat sink halves its clock: answers stay right and come late.
Sources: `vcgencmd get_throttled` (Raspberry Pi documentation, "OS / vcgencmd"), the kernel's hwmon
driver rpi_volt, its thermal zones.
"""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

# Bit n: now; bit 16 + n: since boot.
_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_ADVICE = {"under-voltage": "use the supply made for this board and a short, thick cable"}


def power(system: Path = Path("/sys")) -> dict:
    """{"temperature_c": float or None, "now": [what is wrong], "since_boot": [...], "source": who
    told, or None}.
    """
    # one word of flags: what holds now in its low bits, since boot in the high ones
    bits, source = _throttled(system)
    now = [name for bit, name in _NOW.items() if bits >> bit & 1]
    past = [name for bit, name in _NOW.items() if bits >> (16 + bit) & 1]

    # the kernel's own alarm, also where the firmware cannot be asked
    for chip in sorted(system.glob("class/hwmon/hwmon*")):
        if _text(chip / "name") == "rpi_volt":
            source = source or "rpi_volt"
            if _text(chip / "in0_lcrit_alarm") == "1" and "under-voltage" not in now:
                now.append("under-voltage")

    # a zone that is switched off cannot be read: its text is empty
    zones = [_text(zone) for zone in system.glob("class/thermal/thermal_zone*/temp")]
    degrees = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdecimal()]

    return {
        "temperature_c": max(degrees, default=None),
        "now": now,
        "since_boot": past,
        "source": source,
    }


def problems(state: dict) -> list[str]:
    """What of a `power` result makes a check fail: that which holds now, with advice."""
    return [
        f"{name} now: {_ADVICE.get(name, 'cool the board (heat sink, fan)')}"
        for name in state["now"]
    ]


def _throttled(system: Path) -> tuple[int, str | None]:
    """The firmware's word of flags, and where it comes from."""
    program = shutil.which("vcgencmd")
    if program is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(
                [program, "get_throttled"], capture_output=True, text=True, timeout=5, check=True
            )
            found = re.search(r"throttled=(0x[0-9a-fA-F]+)", said.stdout)
            if found:
                return int(found[1], 16), "vcgencmd"

    # without the program: the same word, from a file of the kernel
    for file in sorted(system.glob("devices/platform/soc/*firmware/get_throttled")):
        with contextlib.suppress(ValueError):
            return int(_text(file), 16), "firmware"

    return 0, None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
