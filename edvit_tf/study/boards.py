"""The published figures of the boards, each with its source: `edvit study energy --boards`."""

from edvit_tf.planning.boards import Range, boards
from edvit_tf.report.planned_energy import range_text


def boards_text() -> str:
    """A line for each figure, and what the estimates take from them."""
    lines = []
    for board in boards().values():
        lines.append(f"{board.key}: {board.name}")
        for power in board.power:
            lines.append(
                f"  {power.idle:g} W idle, {power.loaded:g} W loaded ({power.said}), {power.date}"
            )
            lines.append(f"    {power.source}")
        for speed in board.speed:
            rate = speed.macs_per_second / 1e9
            lines.append(f"  {speed.ms:g} ms, {rate:.3g} GMAC/s ({speed.said}), {speed.date}")
            lines.append(f"    {speed.source}")
        if board.wifi is None:
            lines.append("  Wi-Fi: no measured rate was found")
        else:
            lines.append(f"  {board.wifi.mbit:g} Mbit/s over Wi-Fi, {board.wifi.date}")
            lines.append(f"    {board.wifi.source}")

        per_gmac = 1e9 / board.macs_per_second * board.working_watts
        rates = board.macs_per_second
        giga = Range(rates.low / 1e9, rates.middle / 1e9, rates.high / 1e9)
        lines.append(
            f"  taken: {range_text(board.working_watts)} W for computing, {range_text(giga)} "
            f"GMAC/s, so {range_text(per_gmac)} J a GMAC; {range_text(board.idle_watts)} W idle"
        )
    return "\n".join(lines)
