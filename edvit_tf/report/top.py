"""The first thing on the page: the verdict in three short lines, each with its interval. What the
fleet gives over one model, what a device pays for it, and what a lost device costs.
"""

import re
from html import escape
from typing import NamedTuple

from edvit_tf.report.compared import Compared, compare, counted
from edvit_tf.report.entries import Comparison
from edvit_tf.report.figures import difference, percent, points, wilson
from edvit_tf.report.results import Results
from edvit_tf.report.units import milliseconds, size

NO_BREAK = "\N{NO-BREAK SPACE}"


class Line(NamedTuple):
    """One line: its heading, the figure that is set large, the sentence that a reader in a hurry
    needs, what stands behind it, and a word for the colour of its mark.
    """

    name: str
    figure: str
    gist: str
    said: str
    state: str = ""


def top(results: Results, rows: list[Compared]) -> str:
    """The three lines as HTML."""
    drawn = []
    for line in top_lines(results, rows):
        kind = f' class="{line.state}"' if line.state else ""
        drawn.append(
            f"<li{kind}><b><small>{escape(line.name)}</small> {_shown(line.figure)}</b> "
            f"<span><strong>{_shown(line.gist)}</strong> {_shown(line.said)}</span></li>"
        )
    return f'<ol class="top">{"".join(drawn)}</ol>'


def top_lines(results: Results, rows: list[Compared]) -> tuple[Line, Line, Line]:
    """Accuracy, what one device pays, what a lost device costs."""
    by = {row.key: row for row in rows}
    return _accuracy(results, by), _device(results, by), _lost(results)


def _accuracy(results: Results, by: dict[str, Compared]) -> Line:
    fused = by["fused"].accuracy
    count = fused.recordings
    low, high = wilson(fused.recording, count)

    # Without a single model the base is what a reader compares with.
    other, name = by.get("single"), "one model on one device"
    if other is None:
        other, name = by["base"], "the unsplit base"
    found = compare(results, other)
    gist = (
        f"{points(found.difference, count)} points against {name} "
        f"({percent(other.accuracy.recording, count)}): {found.state}."
    )
    said = (
        f"{_interval(found)}. Of {count:,} test {results.data.noun}s the fleet names "
        f"{percent(low, count)[:-2]} to {percent(high, count)} right."
    )
    return Line("Accuracy", percent(fused.recording, count), gist, said, found.state.split()[0])


def _device(results: Results, by: dict[str, Compared]) -> Line:
    """Bytes have no interval; milliseconds that of the passes, or the 95th percentile."""
    fused = by["fused"]
    figure = f"{size(fused.device_bytes)}, {_time(fused)}"
    spread = ""
    if fused.passes:
        least, most = milliseconds(min(fused.passes)), milliseconds(max(fused.passes))
        spread = f" ({least} to {most})"
    elif fused.times is not None:
        spread = f" (95 % within {milliseconds(fused.times.p95)})"

    others = []
    for key, name in (("single", "one model"), ("base", "the unsplit base")):
        if key in by:
            others.append(f"{name} {size(by[key].device_bytes)}, {_time(by[key])}")
    gist = f"{'; '.join(others)}."
    said = f"Files on the fullest device, and the time of an answer{spread}, without network."
    return Line("A device", figure, gist[0].upper() + gist[1:], said)


def _time(row: Compared) -> str:
    return "time not measured" if row.times is None else milliseconds(row.times.median)


def _lost(results: Results) -> Line:
    """Of one lost device; where an older version did not store that, of one lost sub-model."""
    what, found = "device", [(one.device, one.paired, one.tflite) for one in results.lost_devices]
    if not found:
        what = "sub-model"
        found = [(one.name, one.paired, one.tflite) for one in results.missing_one]
    if not found:
        gist = "The one device holds all there is."
        return Line("A lost device", "No answer", gist, "", "worse")

    fused = results.fusion.tflite
    count = fused.recordings
    changes = []
    for name, paired, left in found:
        if paired is None:
            low, high = difference(left.recording, fused.recording, count)
            paired = Comparison(count, left.recording - fused.recording, low, high)
        changes.append((paired.difference, name, paired))

    worst, name, paired = min(changes, key=lambda change: change[:2])
    mean = sum(change[0] for change in changes) / len(changes)
    gist = f"At worst {points(worst, count)} points, without {name}."
    said = f"{_interval(paired)}; the figure is the mean of {counted(len(changes), what)}."
    if "single" in results.rivals and len(changes) > 1:
        said += " With one model on each device a lost one changes nothing."
    return Line(f"A lost {what}", f"{points(mean, count)} points", gist, said)


def _shown(text: str) -> str:
    """Escaped, and no line breaks between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|ms|s\b|KB|MB|GB|B\b|points)", NO_BREAK, escape(text))


def _interval(found: Comparison) -> str:
    low, high = points(found.low, found.recordings), points(found.high, found.recordings)
    return f"95 % interval {low} to {high}"
