"""The sections of the page that show the models side by side: the four figures at its top, and what
each model costs.
"""

from collections.abc import Iterable
from html import escape

from edvit_tf.report.compared import SHORT, Compared, compare, counted
from edvit_tf.report.entries import Milliseconds, Process
from edvit_tf.report.figures import (
    Bar,
    bars,
    mib,
    note,
    number,
    panels,
    percent,
    points,
    table,
    wilson,
)
from edvit_tf.report.results import Results
from edvit_tf.report.said import p_said

MACS = (
    "MACs: multiply-accumulates of one input as the paper counts them, without the attention "
    "products Q K\N{MODIFIER LETTER CAPITAL T} and A V"
)


def tiles(results: Results, rows: list[Compared]) -> str:
    """The four figures that a reader looks for first."""
    data = results.data
    by = {row.key: row for row in rows}
    # Without a single model the base is what a reader compares with.
    fused, other = by["fused"], by.get("single", by["base"])
    name = "the single model" if "single" in by else "the base"

    # The same data for both: one count of recordings.
    share, count = fused.accuracy.recording, fused.accuracy.recordings
    low, high = wilson(share, count)
    found = compare(results, other)

    beside = f"; {name}: {number(other.times.median)} ms" if other.times else ""

    # (figure, what it is)
    shown = [
        (
            percent(share, count),
            f"of {count} test {data.noun}s right, fused; 95 % interval {percent(low, count)} to "
            f"{percent(high, count)}",
        ),
        (
            f"{points(found.difference, count)} points",
            f"against {name} ({percent(other.accuracy.recording, count)}): {found.state}",
        ),
        (
            f"{mib(fused.device_bytes)} MiB",
            f"of model files on the fullest device; {name}: {mib(other.device_bytes)} MiB",
        ),
        (
            f"{number(fused.times.median if fused.times else 0)} ms",
            f"median, slowest device and fusion, without network{beside}",
        ),
    ]

    drawn = [f"<div><b>{escape(figure)}</b>{escape(told)}</div>" for figure, told in shown]
    return f'<div class="tiles">{"".join(drawn)}</div>'


def models(results: Results, rows: list[Compared]) -> str:
    """Base, single model, fleet: accuracy with its interval, bytes, MACs, milliseconds, memory."""
    what = results.data.noun
    head = [
        "",
        f"accuracy,\n{what}s",
        "95 %\ninterval",
        "accuracy,\nwindows",
        "file MiB,\none device",
        "file MiB,\nin all",
        "M MACs,\none device",
        "M MACs,\nin all",
        "median\nms",
        "p95\nms",
        "peak RSS\nMiB",
    ]
    body = [_model_cells(row) for row in rows]

    seen = rows[0].accuracy
    told = note(
        f"Test split: {seen.recordings} {what}s, {seen.windows} windows; Wilson's interval for "
        f"{seen.recordings} {what}s; dashed: guessing. {MACS}. "
        f"{runtimes_said([row.process for row in rows])}{_passes(results)} Fleet: bytes of the "
        "fullest device; ms of the slowest device, its sub-models one after the other, plus the "
        "fusion, without network; RSS of the largest sub-model's process. The average "
        "needs no fusion file."
    )

    # `compared` ends with the fused fleet and its average.
    fused = len(rows) - 2
    return (
        table(head, body, strong=(fused,))
        + told
        + _comparisons(results, rows)
        + _model_charts(results, rows)
    )


def _comparisons(results: Results, rows: list[Compared]) -> str:
    """The fused fleet against each of the others, recording by recording."""
    body = []
    for row in rows:
        if row.key not in results.comparisons:
            continue

        found = results.comparisons[row.key]
        count = found.recordings
        low, high = points(found.low, count), points(found.high, count)
        change = points(found.difference, count)
        interval = f"{low} to {high}"
        alone = [found.first_only, found.second_only]
        body.append([row.name, *alone, change, interval, p_said(found.p_value), found.state])
    if not body:
        return ""

    head = [
        "the fused fleet against",
        "fleet alone\nright",
        "it alone\nright",
        "difference,\npoints",
        "95 %\ninterval",
        "exact\nMcNemar",
        "the fleet is",
    ]
    return table(head, body, text=(0, 6)) + note(
        f"Both answered the same {results.data.noun}s (predictions.npz): those count on which one "
        "is right and the other wrong. Exact two-sided McNemar test, paired interval of Bonett and "
        "Price; better or worse where both agree that it is not chance, at 5 %."
    )


def _passes(results: Results) -> str:
    turns = results.turns
    if turns is None:
        return ""
    return (
        f" Medians: of {turns.passes} passes of {turns.runs} runs, in which all files take turns; "
        "95th percentiles: of the whole test split, one file after the other."
    )


def _model_cells(row: Compared) -> list[str]:
    share, count = row.accuracy.recording, row.accuracy.recordings
    low, high = wilson(share, count)

    return [
        row.name,
        percent(share, count),
        f"{percent(low, count)[:-2]} to {percent(high, count)}",
        percent(row.accuracy.window, row.accuracy.windows),
        mib(row.device_bytes),
        mib(row.total_bytes),
        number(row.device_macs / 1e6),
        number(row.macs / 1e6),
        *process_cells(row.times, row.process),
    ]


def _model_charts(results: Results, rows: list[Compared]) -> str:
    accuracies, files, times = [], [], []
    for row in rows:
        name = SHORT[row.key]
        share, count = row.accuracy.recording, row.accuracy.recordings
        interval = wilson(share, count)
        accuracies.append(Bar(name, share, percent(share, count), row.key, interval))
        files.append(Bar(name, row.device_bytes / 2**20, mib(row.device_bytes), row.key))
        if row.times:
            times.append(Bar(name, row.times.median, number(row.times.median), row.key))

    guessing = 1 / len(results.labels)
    title = f"Accuracy by {results.data.noun}, 95 % interval"
    return panels(
        [
            bars(title, accuracies, 1.0, guessing),
            bars("Model files on one device, MiB", files),
            bars("Median time of one input, ms, without network", times),
        ]
    )


def process_cells(times: Milliseconds | None, process: Process | None) -> list[str]:
    """median, p95, peak RSS of a measuring process; dashes where there was none."""
    if times is None or process is None:
        return ["-"] * 3
    rss = f"{process.peak_rss_bytes / 2**20:.0f}"
    return [number(times.median), number(times.p95), rss]


def runtimes_said(processes: Iterable[Process | None]) -> str:
    """Which runtime measured, with how many threads: one sentence, since it is as a rule the same
    for all.
    """
    found = set()
    for process in processes:
        if process is not None:
            found.add(f"{process.runtime}, {counted(process.threads, 'thread')}")

    return f"Times by {' or '.join(sorted(found))}."
