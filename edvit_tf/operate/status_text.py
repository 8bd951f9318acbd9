"""A fleet in a terminal: a line for the hub, a row for each device, the alerts."""

from collections.abc import Sequence
from typing import Any

from edvit_tf.device.rpc.condition import HOT_C
from edvit_tf.device.terminal import printable

_GAP = "  "
_DAYS = "cert. days"  # until a device's certificate ends
_LEAST = 6  # letters of a column that is cut
_RED, _GREEN, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[0m"


def status_text(said: dict[str, Any], width: int, colours: bool) -> str:
    """The status of `hub_pages.fleet_status`, no line wider than `width`."""
    paint = _painted if colours else _unpainted
    lines = [paint(cut(_hub_line(said), width), said["serving"])]
    lines += [cut(line, width) for line in _minutes_lines(said)]
    lines.append("")
    for row, good in _rows(said, width):
        lines.append(row if good is None else paint(row, good))

    missing = [name for name, available in said["submodels"].items() if not available]
    if missing:
        lines += [
            "",
            paint(cut(f"without a device: {', '.join(map(shown, missing))}", width), False),
        ]
    if said["alerts"]:
        lines.append("")
    for alert in said["alerts"]:
        lines.append(paint(cut(f"! {shown(alert)}", width), False))
    return "\n".join(lines)


def shown(text: Any) -> str:
    """A text of a device or a hub: no letter of it moves the cursor, or hides another."""
    return printable(str(text))


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _hub_line(said: dict[str, Any]) -> str:
    ready = sum(device["state"] == "ready" for device in said["devices"])
    words = [
        f"{said['hub']}: {'serving' if said['serving'] else 'NOT SERVING'}",
        f"{ready} of {len(said['devices'])} devices ready",
    ]
    # before the bundle, whose digest is what a narrow terminal may cut off
    if said.get("certificate") is not None:
        words.append(f"certificate {said['certificate']['days_left']:.0f} days")
    if said["bundle"] is not None:
        words.append(f"bundle {said['bundle']['bundle']} {said['bundle']['digest']}")
    return shown(" · ".join(words))


def _minutes_lines(said: dict[str, Any]) -> list[str]:
    minutes = said["minutes"]
    if minutes is None:
        return []
    answered = minutes["answered"]
    lasted = f"last {minutes['seconds']} s"
    if not answered:
        return [f"{lasted}: no answers, {minutes['refused']} refused"]
    return [
        f"{lasted}: {answered} answers, {100 * minutes['degraded'] / answered:.1f} % degraded, "
        f"{minutes['refused']} refused · p50 {minutes['p50_ms']:.1f} ms · "
        f"p95 {minutes['p95_ms']:.1f} ms"
    ]


def _rows(said: dict[str, Any], width: int) -> list[tuple[str, bool | None]]:
    """The table; of each row whether its device is well, of the heading None."""
    head = ["device", "address", "state", "breaker", "last ms", "°C", _DAYS, "sub-models"]
    cells = [_cells(device) for device in said["devices"]]
    if all(row[1] == row[0] for row in cells):  # without a devices.toml the name is the address
        head, *cells = [_without(row, 1) for row in (head, *cells)]
    if not any(device.get("certificate") for device in said["devices"]):  # without TLS
        head, *cells = [_without(row, head.index(_DAYS)) for row in (head, *cells)]
    widths = _widths([head, *cells], width)
    rows: list[tuple[str, bool | None]] = [(_row(head, widths, width), None)]
    for device, row in zip(said["devices"], cells, strict=True):
        rows.append((_row(row, widths, width), _is_well(device)))
    return rows


def _cells(device: dict[str, Any]) -> list[str]:
    last, degrees = device["last_ms"], device.get("temperature_c")
    held = device.get("throttled") or []
    certificate = device.get("certificate")
    warm = "-" if degrees is None else f"{degrees:.0f}"
    if held:
        warm += f" {', '.join(held)}"
    return [
        shown(device["device"]),
        shown(device["address"]),
        shown(device["state"]),
        shown(device["breaker"]),
        "-" if last is None else f"{last:.1f}",
        shown(warm),
        "-" if certificate is None else f"{certificate['days_left']:.0f}",
        shown(", ".join(device["hosts"]) or "-"),
    ]


def _is_well(device: dict[str, Any]) -> bool:
    degrees = device.get("temperature_c")
    hot = degrees is not None and degrees >= HOT_C
    well = device["state"] == "ready" and device["breaker"] == "closed"
    well = well and not (device.get("certificate") or {}).get("expiring")
    return well and not hot and not device.get("throttled")


def _without(row: Sequence[str], place: int) -> list[str]:
    return [cell for i, cell in enumerate(row) if i != place]


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Of each column; the widest give way until all fit, or have a few letters left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > _LEAST:
        # names of devices are the last to be cut
        others = [i for i in range(1, len(widths)) if widths[i] > _LEAST]
        widest = max(others, key=lambda i: widths[i], default=0)
        widths[widest] -= 1
    return widths


def _row(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    parts = [cut(cell, w).ljust(w) for cell, w in zip(cells, widths, strict=True)]
    return cut(_GAP.join(parts).rstrip(), width)


def _painted(line: str, good: bool) -> str:
    return f"{_GREEN if good else _RED}{line}{_PLAIN}"


def _unpainted(line: str, good: bool) -> str:
    return line
