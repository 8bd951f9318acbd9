"""What an answer of very many devices would take of an aggregator: an estimate on paper, printed
with its arithmetic. Nothing of it has run; a tree of aggregators is not built.

The constants were measured by `edvit bench fleet` (docs/figures/latency.md, "The network part"): a
request to five workers took 3.1 ms of the aggregator's CPU, to ten 6.0 ms, with 150,528 bytes out
to each and 200 back, over mutual TLS.
"""

import math
from dataclasses import dataclass

from edvit_tf.errors import ConfigError

CPU_MS_A_WORKER = 0.61  # (3.1 / 5 + 6.0 / 10) / 2
OUT_BYTES = 150_528
BACK_BYTES = 200


@dataclass(frozen=True)
class Level:
    """Aggregators of one level of the tree, the root first."""

    aggregators: int
    asked: int  # by each, at most
    cpu_ms: float  # of each, an answer
    bytes_out: int
    bytes_back: int
    answers_a_core: float  # a second


@dataclass(frozen=True)
class Estimate:
    """What all levels take for one answer, and where it ends."""

    devices: int
    levels: tuple[Level, ...]
    cpu_ms: float  # of all aggregators
    bytes_out: int
    answers_a_link: float  # a second, by the bytes that the busiest aggregator sends


def estimate(
    devices: int,
    fan_out: int | None = None,
    *,
    cpu_ms: float = CPU_MS_A_WORKER,
    out_bytes: int = OUT_BYTES,
    back_bytes: int = BACK_BYTES,
    link_mbit: float = 1000.0,
) -> Estimate:
    """One aggregator for all devices, or a tree in which each asks at most `fan_out`.

    CPU and bytes are taken to grow with what is asked, which holds of five and ten workers. Raises
    ConfigError for a fan-out below 2, or CPU that is no time above 0.
    """
    if fan_out is not None and fan_out < 2:
        raise ConfigError(f"fan_out is {fan_out}; it must be 2 or more, or a tree has no end.")
    if not 0 < cpu_ms < math.inf:
        raise ConfigError(
            f"cpu_ms is {cpu_ms}; it must be a number of milliseconds above 0. Leave it out for "
            f"{CPU_MS_A_WORKER:g}, as measured."
        )
    most = devices if fan_out is None else fan_out

    # from the devices up: how many ask the level below
    below, levels = devices, []
    while True:
        count = math.ceil(below / most)
        asked = math.ceil(below / count)
        spent = asked * cpu_ms
        levels.append(
            Level(count, asked, spent, asked * out_bytes, asked * back_bytes, 1000 / spent)
        )
        if count == 1:
            break
        below = count

    levels.reverse()
    return Estimate(
        devices=devices,
        levels=tuple(levels),
        cpu_ms=sum(level.aggregators * level.cpu_ms for level in levels),
        bytes_out=sum(level.aggregators * level.bytes_out for level in levels),
        answers_a_link=1e6 * link_mbit / 8 / max(level.bytes_out for level in levels),
    )


def estimate_text(found: Estimate, cpu_ms: float, out_bytes: int, link_mbit: float) -> str:
    """The estimate, a line a level, with the arithmetic of each."""
    lines = [
        f"{found.devices} devices, by {cpu_ms:g} ms of CPU and {out_bytes} bytes for each that is "
        "asked: on paper, nothing of this has run"
    ]
    for number, level in enumerate(found.levels):
        lines.append(
            f"  level {number}: {level.aggregators} x asks {level.asked}: {level.asked} x "
            f"{cpu_ms:g} = {level.cpu_ms:.1f} ms of CPU an answer, so {level.answers_a_core:.2f} "
            f"answers a second and core; {level.asked} x {out_bytes} = "
            f"{level.bytes_out / 1e6:.2f} MB out, {level.bytes_back / 1e3:.1f} kB back"
        )
    busiest = max(level.bytes_out for level in found.levels)
    lines += [
        f"  all: {found.cpu_ms / 1000:.2f} s of CPU and {found.bytes_out / 1e6:.1f} MB an answer",
        f"  the busiest sends {busiest / 1e6:.2f} MB: over {link_mbit:g} Mbit/s "
        f"{8 * busiest / (1e6 * link_mbit):.2f} s, {found.answers_a_link:.2f} answers a second",
    ]
    return "\n".join(lines)
