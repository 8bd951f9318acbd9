"""The advice as a person reads it: a table for the terminal, a section of the page, plain JSON."""

import textwrap
from dataclasses import asdict
from typing import Any

from edvit_tf.data.names import printable
from edvit_tf.report.advice import Advice, Judged
from edvit_tf.report.compared import counted
from edvit_tf.report.curves import curves
from edvit_tf.report.entries import LEVEL
from edvit_tf.report.figures import note, panels, percent, points, table, wilson
from edvit_tf.report.known import KNOWN
from edvit_tf.report.options import Way
from edvit_tf.report.planned_energy import LEFT_OUT, range_text
from edvit_tf.report.results import Results
from edvit_tf.report.tables import wrapped
from edvit_tf.report.units import count as count_said
from edvit_tf.report.units import macs as macs_said
from edvit_tf.report.units import milliseconds, size
from edvit_tf.report.units import seconds as seconds_said


def advice_text(advice: Advice, results: Results) -> str:
    """The recommendation, why, the table of the ways, the causes: text for a terminal."""
    lines = [wrapped(advice.sentence), *map(_wrapped, advice.reasons), ""]
    if results.data.synthetic:
        lines.insert(0, "SYNTHETIC stand-in: these accuracies mean nothing.")
    if results.fleet.asked == "auto":
        lines += [_wrapped(_own_choice(results)), ""]

    # titles stand in two lines, the lower one next to the figures: the table fits a terminal
    split = [title.rpartition("\n") for title in _head(advice)]
    titles = [[upper for upper, _, _ in split], [lower for _, _, lower in split]]
    grid = [*titles, *(_cells(row, advice) for row in _shown(advice))]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    for cells in grid:
        first, *rest = cells
        shown = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *shown]).rstrip())

    lines += ["", *map(_wrapped, _unmeasured(advice))]
    if advice.causes:
        lines += ["", "What limits the fleet of this bundle:"]
        lines += map(_wrapped, advice.causes)
    lines += ["", _wrapped(_told(results))]
    if _has_joules(advice):
        lines.append(_wrapped(f"J: {LEFT_OUT}"))
    text = "\n".join(lines)
    # names and reasons are whoever's wrote results.json: none of them moves the cursor
    return "\n".join(map(printable, text.split("\n")))


def _own_choice(results: Results) -> str:
    """What the run itself took, on validation data, where it was left to it."""
    return f"The run took {KIND_NAMES[results.fleet.kind]}: {results.fleet.reason}."


def _wrapped(text: str) -> str:
    """Set in a little, in lines that a terminal shows whole."""
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ")


def advice_section(advice: Advice, results: Results) -> str:
    """The table of the ways and the causes: a section of the page."""
    rows = _shown(advice)
    strong = tuple(i for i, row in enumerate(rows) if row.way is advice.recommended)
    cells = [_cells(row, advice) for row in rows]

    html = table(_head(advice), cells, strong=strong)
    own = [_own_choice(results)] if results.fleet.asked == "auto" else []
    for line in (*own, *_unmeasured(advice), *advice.causes):
        html += note(line)
    html += note(_told(results))
    if _has_joules(advice):
        html += note(f"J: {LEFT_OUT}")
    if results.copies is not None and len(results.copies.by_view) > 1:
        html += panels([_copies_chart(results)])
    return html + _lost_table(advice)


def _lost_table(advice: Advice) -> str:
    """What every number of lost devices leaves, for every way that several devices answer."""
    ways = [row.way for row in _shown(advice) if row.way.key != "base" and row.way.devices > 1]
    copies = [way.answering for way in ways if way.key == "copies"]
    ways = [way for way in ways if way.key != "copies" or way.answering == max(copies)]
    most = max((way.devices for way in ways), default=1)
    if most == 1:
        return ""

    rows = []
    for lost in range(most):
        cells = []
        for way in ways:
            assert way.accuracy is not None
            count = way.accuracy.recordings
            at = {one.lost: one for one in way.lost}.get(lost)
            if lost == 0:
                cells.append(percent(way.accuracy.recording, count))
            elif at is None:
                cells.append("-")
            else:
                mean, worst = percent(at.mean, count), percent(at.worst, count)
                cells.append(mean if worst == mean else f"{mean} ({worst})")
        rows.append([lost, *cells])

    head = ["devices\nlost", *(way.name.replace(", ", ",\n") for way in ways)]
    return table(head, rows, text=(), caption="Accuracy that is left: mean (worst set)")


def advice_json(advice: Advice) -> dict[str, Any]:
    """Everything that is known, for programs."""
    rows = []
    for row in advice.rows:
        found = asdict(row)
        if row.way.accuracy is not None:
            share = row.way.accuracy
            found["way"]["interval"] = list(wilson(share.recording, share.recordings))
        else:
            found["way"]["known"] = _known(row.way)
        if row.against_single is not None:
            found["against_single"]["state"] = row.against_single.state
        rows.append(found)

    taken = advice.recommended
    return {
        "devices": advice.devices,
        "gap": advice.gap,
        "gap_split": advice.gap_split,
        "recommended": None if taken is None else {"key": taken.key, "devices": taken.answering},
        "sentence": advice.sentence,
        "reasons": list(advice.reasons),
        "causes": list(advice.causes),
        "ways": rows,
    }


def _head(advice: Advice) -> list[str]:
    lost = [f"{gone} lost" for gone in _shown_losses(advice.devices)]
    return [
        "",
        "accuracy",
        "95 %\ninterval",
        "less one\nmodel",
        "one\nanswer",
        *(["J an answer,\ncomputing"] if _has_joules(advice) else []),
        "bytes a\ndevice",
        f"answers/s,\n{counted(advice.devices, 'device')}",
        *lost,
        "training",
    ]


# Of copies, beside the most of them: how many are in a table. JSON has every number.
_FEWER_COPIES = (2, 3, 5)


def _shown(advice: Advice) -> list[Judged]:
    """The rows of a table: the ways that were measured, of copies some numbers."""
    rows = [row for row in advice.rows if row.way.accuracy is not None]
    most = max(_copies(advice), default=0)
    shown = (*_FEWER_COPIES, most)
    return [row for row in rows if row.way.key != "copies" or row.way.answering in shown]


def _shown_losses(devices: int) -> list[int]:
    """How many lost devices are told of: one, half of them, all but one."""
    return sorted({lost for lost in (1, devices // 2, devices - 1) if 0 < lost < devices})


def _cells(row: Judged, advice: Advice) -> list[str]:
    way = row.way
    accuracy = way.accuracy
    assert accuracy is not None
    count = accuracy.recordings
    low, high = wilson(accuracy.recording, count)

    change = "-"
    if row.against_single is not None:
        state = row.against_single.state
        word = "level" if state == LEVEL else state
        change = f"{points(row.against_single.difference, count)} {word}"

    lost = {at.lost: at.mean for at in way.lost}
    shares = []
    for gone in _shown_losses(advice.devices):
        # of a fleet that fewer devices answer, only so many can be lost from an answer
        shares.append(percent(lost[gone], count) if gone in lost else "-")

    return [
        way.name,
        percent(accuracy.recording, count),
        f"{percent(low, count)[:-2]} to {percent(high, count)[:-2]}",
        change,
        "-" if way.latency_ms is None else milliseconds(way.latency_ms),
        *([_joules_said(way)] if _has_joules(advice) else []),
        "-" if way.device_bytes is None else size(way.device_bytes),
        "-" if way.answers_per_second is None else count_said(way.answers_per_second, 3),
        *shares,
        _training_said(way),
    ]


def _has_joules(advice: Advice) -> bool:
    """Whether the plan named boards: of others nothing is known."""
    return any(row.way.joules is not None for row in _shown(advice))


def _joules_said(way: Way) -> str:
    return "-" if way.joules is None else range_text(way.joules)


def _training_said(way: Way) -> str:
    if way.training.elsewhere:
        return "elsewhere"
    seconds, macs = way.training.seconds, way.training.macs
    told = []
    if seconds is not None:
        told.append(seconds_said(seconds))
    if macs:
        told.append(f"{macs_said(macs, 2)} MACs")
    return ", ".join(told) or "-"


def _unmeasured(advice: Advice) -> list[str]:
    """What is known of each way that the run did not measure."""
    return [
        f"{row.way.name}: {_known(row.way)}." for row in advice.rows if row.way.accuracy is None
    ]


def _known(way: Way) -> str:
    if way.known is not None:
        return way.known
    if way.key == "single":
        return "not trained here; --baselines single trains it"
    return f"not measured here. {KNOWN[way.key]}"


def _told(results: Results) -> str:
    """What the columns mean."""
    beside = ""
    if results.copies_beside is not None:
        beside = " Copies were measured by their file alone: without the view and the fusion."
    return (
        f"Test {results.data.noun}s, .tflite files; interval: Wilson's; less one model: by "
        f"{results.data.noun}, level where chance is not excluded. One answer: "
        "median time, one thread, without network. Answers a second: of all devices "
        "together, each at work all the time, without network: with one model on each device "
        f"every device answers for itself.{beside} Lost: accuracy that is left, mean over the "
        "measured sets; of fewer copies in the order of their views. Training: after the base; "
        "of the whole base its own."
    )


KIND_NAMES = {
    "copies": "copies of the one model with views",
    "classes": "the class split",
    "joint": "a joint fleet",
}


def _copies(advice: Advice) -> list[int]:
    return [row.way.answering for row in advice.rows if row.way.key == "copies"]


def _copies_chart(results: Results) -> str:
    """Accuracy of copies by their number, on validation and test data."""
    assert results.copies is not None
    tested = {}
    for at in results.copies.by_view:
        share = at.tflite.recording
        low, high = wilson(share, at.tflite.recordings)
        tested[at.devices] = (100 * share, 100 * low, 100 * high)

    validated = {}
    for count, share in results.copies.validated.items():
        validated[count] = (100 * share, 100 * share, 100 * share)

    series = [("test", "fused", tested)]
    if validated:
        series.append(("validation", "average", validated))
    return curves("Copies of one model, %, mean of N views", series, False)
