"""What an answer of very many devices would take of an aggregator: an estimate on paper, printed
with its arithmetic. Nothing of that size has run.

The constants were measured by `python -m tests.tree_figures` with 100 workers
(docs/figures/faults.md, "Many devices, flat and by a tree"): what a request takes of an
aggregator's CPU for each worker that it asks itself, what of that is for the answer, which every
level above has to read too, and what a device takes that is not asked, but looked at once a second.
"""

import math
from dataclasses import dataclass

from edvit_tf.errors import ConfigError

CPU_MS_A_WORKER = 0.35  # 34.8 / 100
ANSWER_MS = 0.24  # of these: 25.5 = 100 answers and 10 relays that are asked, at 0.35 - 0.24 each
# Of a relay, which reads an answer and gives one: 9.37 / 10, less what asking takes.
RELAY_ANSWER_MS = 0.83
PROBE_MS = 0.78  # a second
OUT_BYTES = 150_528
BACK_BYTES = 200


@dataclass(frozen=True)
class Level:
    """Aggregators of one level of the tree, the root first."""

    aggregators: int
    asked: int  # by each, at most
    answers: int  # of workers, that each of them reads
    cpu_ms: float  # of each, an answer
    bytes_out: int
    bytes_back: int
    answers_a_core: float  # a second
    idle_ms: float  # of CPU, a second, of each: it looks at those that it asks


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
    answer_ms: float = ANSWER_MS,
    relay_answer_ms: float = RELAY_ANSWER_MS,
    probe_ms: float = PROBE_MS,
    out_bytes: int = OUT_BYTES,
    back_bytes: int = BACK_BYTES,
    link_mbit: float = 1000.0,
) -> Estimate:
    """One aggregator for all devices, or a tree in which each asks at most `fan_out`.

    `answer_ms` of `cpu_ms` are spent by the topmost for each worker's answer, the rest for each
    device that is asked; a relay spends `relay_answer_ms` for an answer. All are taken to grow with
    their number, which holds up to 100 workers. Raises ConfigError for a fan-out below 2, CPU that
    is no time above 0, or an answer that takes more than all.
    """
    if fan_out is not None and fan_out < 2:
        raise ConfigError(f"fan_out is {fan_out}; it must be 2 or more, or a tree has no end.")
    if not 0 < cpu_ms < math.inf:
        raise ConfigError(
            f"cpu_ms is {cpu_ms}; it must be a number of milliseconds above 0. Leave it out for "
            f"{CPU_MS_A_WORKER:g}, as measured."
        )
    if not 0 <= answer_ms <= cpu_ms:
        raise ConfigError(
            f"answer_ms is {answer_ms}; it must be 0 to {cpu_ms:g}, which is cpu_ms: an answer is "
            "a part of it."
        )
    most = devices if fan_out is None else fan_out

    # from the devices up: how many ask the level below
    below, levels = devices, []
    while True:
        count = math.ceil(below / most)
        asked = math.ceil(below / count)
        answers = math.ceil(devices / count)
        each = answer_ms if count == 1 else relay_answer_ms
        spent = asked * (cpu_ms - answer_ms) + answers * each
        levels.append(
            Level(
                aggregators=count,
                asked=asked,
                answers=answers,
                cpu_ms=spent,
                bytes_out=asked * out_bytes,
                bytes_back=answers * back_bytes,
                answers_a_core=1000 / spent,
                idle_ms=asked * probe_ms,
            )
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


def estimate_text(
    found: Estimate,
    cpu_ms: float = CPU_MS_A_WORKER,
    answer_ms: float = ANSWER_MS,
    relay_answer_ms: float = RELAY_ANSWER_MS,
    probe_ms: float = PROBE_MS,
    out_bytes: int = OUT_BYTES,
    link_mbit: float = 1000.0,
) -> str:
    """The estimate, a line a level, with the arithmetic of each."""
    send_ms = cpu_ms - answer_ms
    lines = [
        f"{found.devices} devices, by {send_ms:.2f} ms of CPU and {out_bytes} bytes for each that "
        f"is asked, {answer_ms:g} ms for each answer ({relay_answer_ms:g} of a relay), "
        f"{probe_ms:g} ms a second for each that is looked at: on paper, nothing of this has run"
    ]
    for number, level in enumerate(found.levels):
        each = relay_answer_ms if number else answer_ms
        lines.append(
            f"  level {number}: {level.aggregators} x asks {level.asked}: {level.asked} x "
            f"{send_ms:.2f} + {level.answers} x {each:g} = {level.cpu_ms:.1f} ms of CPU an "
            f"answer, so {level.answers_a_core:.2f} answers a second and core; {level.asked} x "
            f"{probe_ms:g} = {level.idle_ms:.0f} ms a second without any; {level.asked} x "
            f"{out_bytes} = {level.bytes_out / 1e6:.2f} MB out, "
            f"{level.bytes_back / 1e3:.1f} kB back"
        )
    busiest = max(level.bytes_out for level in found.levels)
    lines += [
        f"  all: {found.cpu_ms / 1000:.2f} s of CPU and {found.bytes_out / 1e6:.1f} MB an answer",
        f"  the busiest sends {busiest / 1e6:.2f} MB: over {link_mbit:g} Mbit/s "
        f"{8 * busiest / (1e6 * link_mbit):.2f} s, {found.answers_a_link:.2f} answers a second",
    ]
    return "\n".join(lines)
