"""The section of the page that shows the models side by side: what each gives and costs."""

from collections.abc import Iterable

from edvit_tf.report.compared import SHORT, Compared, counted
from edvit_tf.report.entries import Milliseconds, Process
from edvit_tf.report.figures import (
    Bar,
    bars,
    note,
    panels,
    percent,
    points,
    table,
    wilson,
)
from edvit_tf.report.results import Results
from edvit_tf.report.said import p_said
from edvit_tf.report.units import macs, milliseconds, size

MACS = (
    "MACs: multiply-accumulates of one input as the paper counts them, without the attention "
    "products Q K\N{MODIFIER LETTER CAPITAL T} and A V"
)


def models(results: Results, rows: list[Compared]) -> str:
    """Base, single model, fleet: accuracy with its interval, bytes, MACs, milliseconds, memory."""
    what = results.data.noun
    head = [
        "",
        f"accuracy,\n{what}s",
        "95 %\ninterval",
        "accuracy,\nwindows",
        "files,\none device",
        "files,\nin all",
        "MACs,\none device",
        "MACs,\nin all",
        "median\ntime",
        "95th\npercentile",
        "peak\nRSS",
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
        size(row.device_bytes, 3),
        size(row.total_bytes, 3),
        macs(row.device_macs),
        macs(row.macs),
        *process_cells(row.times, row.process),
    ]


def _model_charts(results: Results, rows: list[Compared]) -> str:
    accuracies, files, times = [], [], []
    for row in rows:
        name = SHORT[row.key]
        share, count = row.accuracy.recording, row.accuracy.recordings
        interval = wilson(share, count)
        accuracies.append(Bar(name, share, percent(share, count), row.key, interval))
        files.append(Bar(name, row.device_bytes, size(row.device_bytes), row.key))
        if row.times:
            times.append(Bar(name, row.times.median, milliseconds(row.times.median), row.key))

    guessing = 1 / len(results.labels)
    title = f"Accuracy by {results.data.noun}, 95 % interval"
    return panels(
        [
            bars(title, accuracies, 1.0, guessing),
            bars("Model files on one device", files),
            bars("Median time of one input, without network", times),
        ]
    )


def process_cells(times: Milliseconds | None, process: Process | None) -> list[str]:
    """median, p95, peak RSS of a measuring process; dashes where there was none."""
    if times is None or process is None:
        return ["-"] * 3
    rss = size(process.peak_rss_bytes)
    return [milliseconds(times.median, 3), milliseconds(times.p95, 3), rss]


def runtimes_said(processes: Iterable[Process | None]) -> str:
    """Which runtime measured, with how many threads: one sentence, since it is as a rule the same
    for all.
    """
    found = set()
    for process in processes:
        if process is not None:
            found.add(f"{process.runtime}, {counted(process.threads, 'thread')}")

    return f"Times by {' or '.join(sorted(found))}."
