"""What came of a load: percentiles, who had no answer and why, how late the generator itself was,
and up to which rate the fleet carried it.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from edvit_tf.bench.load.drive import DEGRADED, Row

PERCENTILES = (50, 90, 95, 99, 99.9)
_LATE_SECONDS = 0.005  # behind its time that a request may be sent by the generator
# Of requests that were so late: the figures are the generator's. One alone is no rule.
_LATE_SHARE = 0.01
CARRIED_SHARE = 0.99  # of requests that have an answer
CARRIED_TIMES = 3.0  # what p99 may be of that at the lowest rate
# By which share more may arrive than are answered: a queue of them grows without end.
_GROWTH_SHARE = 0.05


def figures(sent: Sequence[Row], rate: float, seconds: float, warm_up_seconds: float = 0.0) -> dict:
    """{"rate", "requests", "answered" (degraded ones too), "degraded", "failed": {code: requests},
    "answered_per_second": answers that came while it was measured, whenever they were asked for,
    "growth_ms": see `growth`, "latency_ms": from the moment at which each was to be sent, {"p50",
    ..., "max"} of those that were answered, "sent_latency_ms": the same from the moment at which it
    was sent, "waited_for_place": requests, "late": requests that the generator came to more than
    5 ms behind their time, "late_ms": {"p50", ..., "max"} of all, "is_generator_s": bool} of all
    that was `sent`, to warm up too.
    """
    rows = [row for row in sent if row.intended >= warm_up_seconds]
    over = warm_up_seconds + seconds
    came = sum(row.answered and warm_up_seconds <= row.done < over for row in sent)
    answered = [row for row in rows if row.answered]
    failed = Counter(row.code for row in rows if not row.answered)
    behind = [row.turn - row.intended for row in rows]
    late = sum(each > _LATE_SECONDS for each in behind)
    return {
        "rate": rate,
        "requests": len(rows),
        "answered": len(answered),
        "degraded": sum(row.code == DEGRADED for row in rows),
        "failed": dict(sorted(failed.items())),
        "answered_per_second": came / seconds,
        "growth_ms": 1e3 * growth(answered),
        "latency_ms": spread([row.done - row.intended for row in answered]),
        "sent_latency_ms": spread(
            [row.done - row.sent for row in answered if row.sent is not None]
        ),
        "waited_for_place": sum(row.held for row in rows),
        "late": late,
        "late_ms": spread(behind),
        "is_generator_s": late > max(1, _LATE_SHARE * len(rows)),
    }


def growth(answered: Sequence[Row]) -> float:
    """How many seconds longer an answer took in the last third of them than in the first, by their
    medians: about as much longer as the queue became.
    """
    third = len(answered) // 3
    if not third:
        return 0.0
    took = [row.done - row.intended for row in answered]
    return statistics.median(took[-third:]) - statistics.median(took[:third])


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds by percentile, each a value that was measured (nearest rank); {} of none. One
    that `is_told` does not hold of is the maximum.
    """
    if not len(seconds):
        return {}
    in_order = sorted(seconds)
    found = {}
    for percentile in PERCENTILES:
        # whole numbers: 99.9 of 1,000 are 999, and not a little more
        rank = math.ceil(round(10 * percentile) * len(in_order) / 1000)
        found[f"p{percentile:g}"] = 1e3 * in_order[rank - 1]
    return {**found, "max": 1e3 * in_order[-1]}


def is_told(percentile: float, count: int) -> bool:
    """Whether so many values have one that lies above their percentile: 1,000 have for p99.9."""
    return count * round(1000 - 10 * percentile) >= 1000


def knee(rates: Sequence[dict], seconds: float) -> dict | None:
    """{"carried": the highest rate up to which each was carried, or None, "not_carried": the next
    one, or None, "why": why it was not} of the figures of several rates; None of a single one.

    A rate is carried where 99 of 100 requests are answered, no queue of them grew in these
    `seconds`, p99 is at most 3 times that at the lowest rate, and the generator kept up.
    """
    if len(rates) < 2:
        return None

    in_order = sorted(rates, key=lambda each: each["rate"])
    carried = None
    for each in in_order:
        why = why_not_carried(each, in_order[0], seconds)
        if why is not None:
            return {"carried": carried, "not_carried": each["rate"], "why": why}
        carried = each["rate"]

    return {"carried": carried, "not_carried": None, "why": None}


def why_not_carried(found: dict, lowest: dict, seconds: float) -> str | None:
    """None where a rate was carried."""
    if found["is_generator_s"]:
        return "the generator was late"
    if found["answered"] < CARRIED_SHARE * found["requests"]:
        return f"{found['answered']} of {found['requests']} were answered"
    # from the middle of the first third to that of the last
    if found["growth_ms"] > 1e3 * _GROWTH_SHARE * seconds * 2 / 3:
        return (
            f"an answer took {found['growth_ms']:.0f} ms longer at the end than at the beginning: "
            "more arrive than are answered"
        )

    p99, least = found["latency_ms"]["p99"], lowest["latency_ms"]["p99"]
    if p99 > CARRIED_TIMES * least:
        return f"p99 is {p99:.1f} ms, {p99 / least:.1f} times that at the lowest rate"
    return None


# ---- as text


def load_text(result: dict) -> str:
    """The result of `bench_load` as a table, and below it what it is not to be taken for."""
    lines = [
        f"{result['server']}, bundle {result['bundle_digest'][:12]}: {result['input']}, "
        f"{result['arrivals']} arrivals,",
        f"{result['seconds']:g} s a rate after {result['warm_up_seconds']:g} s to warm up, at most "
        f"{result['most_in_flight']} in flight over {result['connections']} connections, "
        f"{result['timeout_ms']:g} ms each",
        "milliseconds from the moment at which a request was to be sent; in brackets from when it "
        "was sent",
        f"{'a second':>9}{'requests':>9}{'answered':>9}{'degraded':>9}{'failed':>7}{'late':>6}"
        + "".join(f"{name:>16}" for name in (*(f"p{p:g}" for p in PERCENTILES), "max")),
    ]
    for row in result["rates"]:
        lines.append(_line(row))

    lines += _failures(result["rates"]) + _warnings(result["rates"])
    if result["knee"] is not None:
        lines.append(_knee_text(result["knee"]))
    return "\n".join([*lines, *_rival_lines(result["perf_analyzer"])])


def _line(row: dict) -> str:
    failed = row["requests"] - row["answered"]
    line = f"{row['rate']:>9g}{row['requests']:>9}{row['answered']:>9}{row['degraded']:>9}"
    line += f"{failed:>7}{row['late']:>6}"
    for name, value in row["latency_ms"].items():
        told = f"{value:.1f} ({row['sent_latency_ms'][name]:.1f})"
        if name != "max" and not is_told(float(name[1:]), row["answered"]):
            told = "-"
        line += f"{told:>16}"
    return line


def _failures(rates: Sequence[dict]) -> list[str]:
    lines = []
    for row in rates:
        if row["failed"]:
            codes = ", ".join(f"{count} {code}" for code, count in row["failed"].items())
            lines.append(f"{row['rate']:g} a second, without an answer: {codes}")
    return lines


def _warnings(rates: Sequence[dict]) -> list[str]:
    lines = []
    for row in rates:
        if row["is_generator_s"]:
            lines.append(
                f"{row['rate']:g} a second: {row['late']} of {row['requests']} were late on this "
                f"side (p99 {row['late_ms']['p99']:.0f} ms); the figures are the generator's. Ask "
                "from another machine, or less."
            )
        if row["waited_for_place"]:
            lines.append(
                f"{row['rate']:g} a second: {row['waited_for_place']} waited for a place in flight "
                "(--most-in-flight); the first figure has that time"
            )
    return lines


def _knee_text(found: dict) -> str:
    if found["not_carried"] is None:
        return f"knee: none found; {found['carried']:g} a second is carried"
    if found["carried"] is None:
        return (
            f"knee: below {found['not_carried']:g} a second, the lowest rate ({found['why']}); "
            "give a lower one in --rates"
        )
    return (
        f"knee: {found['carried']:g} a second is carried, {found['not_carried']:g} is not "
        f"({found['why']})"
    )


def _rival_lines(found: dict) -> list[str]:
    if "missing" in found:
        return [f"perf_analyzer: {found['missing']}"]
    lines = ["perf_analyzer at the same rates, milliseconds from when a request was sent:"]
    for row in found["rates"]:
        if "problem" in row:
            lines.append(f"{row['rate']:>9g}  {row['problem']}")
            continue
        told = "  ".join(f"{name} {value:.1f}" for name, value in row["latency_ms"].items())
        lines.append(
            f"{row['rate']:>9g}  {row['answered_per_second']:.1f} answers a second  {told}"
        )
    return lines
