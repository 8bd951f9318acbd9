"""The sections of the page that show what was measured: models, stages, sub-models, confusions,
parity.
"""

from collections.abc import Iterable, Sequence
from html import escape

from edvit_tf.device.model.manifest import SubModelEntry
from edvit_tf.models import architecture
from edvit_tf.report.compared import Compared, compare, counted
from edvit_tf.report.figures import (
    Bar,
    bars,
    matrix,
    mib,
    number,
    percent,
    points,
    stage_chart,
    table,
    wilson,
)
from edvit_tf.report.results import Milliseconds, Parity, Process, Results, Step
from edvit_tf.report.tables import stage_cell, stage_steps
from edvit_tf.report.verdict import p_said

SHORT = {
    "base": "base",
    "single": "single model",
    "plain": "not distilled",
    "total": "of all files' size",
    "fused": "fleet, fused",
    "average": "fleet, average",
}
ARROW = "\N{RIGHTWARDS ARROW}"
MINUS = "\N{MINUS SIGN}"
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
        f"{_runtimes([row.process for row in rows])}{_passes(results)} Fleet: bytes of the fullest "
        "device; ms of the slowest device, its sub-models one after the other, plus the fusion, "
        "without network; RSS of the largest sub-model's process. The average needs no fusion file."
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
        *_process_cells(row.times, row.process),
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


def stages(results: Results) -> str:
    """What each cut cost and each fit mended, by sub-model."""
    first = results.sub_models[0].stages
    members = [(sub.name, ", ".join(sub.labels), sub.stages) for sub in results.sub_models]
    for key, model in results.rivals.items():
        own = model.stages[-len(first) :]  # without those of the shared model it starts from
        members.append((SHORT[key], "all classes", own))

    # A stage's steps stand in the head of its column, as "cut -> repair -> fit".
    keys = [list(stage_steps(step)) for step in first]
    columns = []
    for step, names in zip(first, keys, strict=True):
        columns.append(f"{step.stage}\n{f' {ARROW} '.join(names)}")

    charts = []
    for name, _, history in members:
        # A baseline knows all classes, a sub-model its group and "other": each has its
        # own chance.
        guessing = 1 / history[-1].config["num_classes"]

        charts.append(stage_chart(f"{name}, %", history, guessing))

    last = len(first) + 1
    every = [_stage_cells(member, keys, "all") for member in members]
    group = [_stage_cells(member, keys, "group") for member in members]
    return (
        panels(charts, small=True)
        + table(["balanced, %", *columns, "classes"], every, text=(0, last), wrap=last)
        + note(
            "Validation windows, balanced accuracy over the sub-model's classes and "
            '"other" (dashed: guessing). Hollow: before (of the head stage: the base) and after '
            "the cut; half: after the least-squares repair, before any training (of the stage "
            '"group": the head alone fitted); full: after the fit. The head stage cuts no widths: '
            'the rows of the group and "other" are taken from the base, and the head alone is '
            "fitted. Thin line: the table below."
        )
        + table(["own classes, %", *columns, "classes"], group, text=(0, last), wrap=last)
        + note(
            "Share of the validation windows of the sub-model's own classes alone that is named "
            "right."
        )
    )


def _stage_cells(
    member: tuple[str, str, Sequence[Step]], keys: list[list[str]], which: str
) -> list[str]:
    name, labels, history = member
    cells = [name]
    for step, names in zip(history, keys, strict=True):
        cells.append(stage_cell(step, names, f" {ARROW} ", which, width=0))
    return [*cells, labels]


def sub_models(entries: Sequence[SubModelEntry], results: Results) -> str:
    """Widths, bytes, MACs and milliseconds of each file."""
    columns = architecture(entries[0].config.get("architecture", "vit")).COLUMNS
    head = [
        "",
        "devices",
        *columns,
        "parameters",
        "M\nMACs",
        "M MACs,\nattention",
        "weights\nMiB",
        "file\nMiB",
        "graph\n%",
        "load\nms",
        "median\nms",
        "p95\nms",
        "peak RSS\nMiB",
    ]

    rows = []
    for entry, sub in zip(entries, results.sub_models, strict=True):
        # Names, shapes and operators: what a file holds that is no weight.
        graph = 100 * (sub.file_bytes - sub.weight_bytes) / sub.weight_bytes
        # Which widths there are is the architecture's to say.
        widths = [entry.config.get(field, "-") for field in columns.values()]
        rows.append(
            [
                sub.name,
                ", ".join(sub.devices),
                *widths,
                f"{sub.params:,}",
                number(sub.macs / 1e6),
                number(sub.macs_full / 1e6),
                mib(sub.weight_bytes),
                mib(sub.file_bytes),
                f"{graph:.1f}",
                number(sub.process.load_ms),
                *_process_cells(sub.process.invoke_ms, sub.process),
            ]
        )
    rows.append(_fusion_cells(results, len(columns)))

    sizes, medians = [], []
    for sub in results.sub_models:
        median = sub.process.invoke_ms.median
        sizes.append(Bar(sub.name, sub.file_bytes / 2**20, mib(sub.file_bytes), "fused"))
        medians.append(Bar(sub.name, median, number(median), "fused"))

    processes = [sub.process for sub in results.sub_models]
    told = note(
        f'{MACS}; the column "attention" counts them too. Graph: what the file holds beside its '
        "weights, in % of them. Each file ran in a process of its own without TensorFlow. "
        f"{_runtimes([*processes, results.fusion.process])}"
    )

    charts = [bars(".tflite file, MiB", sizes), bars("Median time of one input, ms", medians)]
    return table(head, rows, text=(0, 1)) + told + panels(charts)


def _fusion_cells(results: Results, columns: int) -> list[str]:
    fusion = results.fusion
    return [
        "fusion",
        "aggregator",
        *["-"] * (columns + 4),  # widths, parameters, MACs twice, weights
        mib(fusion.file_bytes),
        "-",
        number(fusion.process.load_ms),
        *_process_cells(fusion.process.invoke_ms, fusion.process),
    ]


def _process_cells(times: Milliseconds | None, process: Process | None) -> list[str]:
    """median, p95, peak RSS of a measuring process; dashes where there was none."""
    if times is None or process is None:
        return ["-"] * 3
    rss = f"{process.peak_rss_bytes / 2**20:.0f}"
    return [number(times.median), number(times.p95), rss]


def _runtimes(processes: Iterable[Process | None]) -> str:
    """Which runtime measured, with how many threads: one sentence, since it is as a rule the same
    for all.
    """
    found = set()
    for process in processes:
        if process is not None:
            found.add(f"{process.runtime}, {counted(process.threads, 'thread')}")

    return f"Times by {' or '.join(sorted(found))}."


def confusion(results: Results) -> str:
    """Counts of true against predicted classes, and how many errors cross from one sub-model's
    group to another's.
    """
    labels = results.labels
    # label -> index of the sub-model that knows it
    group_of = {}
    for j, sub in enumerate(results.sub_models):
        for label in sub.labels:
            group_of[label] = j

    # An error within a group is the sub-model's own; one across groups is the split's.
    errors = across = 0
    for r, row in enumerate(results.confusion):
        for c, count in enumerate(row):
            if r == c:
                continue
            errors += count
            if group_of[labels[r]] != group_of[labels[c]]:
                across += count

    crossing = ""
    if len(results.sub_models) > 1:
        crossing = f" {across} of the {errors} errors are between classes of different sub-models."

    return matrix(results.confusion, labels) + note(
        f"Test {results.data.noun}s, fused .tflite files: counts, shaded by the share of the true "
        f"class.{crossing}"
    )


def parity(results: Results) -> str:
    """How far the .tflite files lie from the Keras models."""
    found = dict(results.parity)
    for name, model in {"base": results.base, **results.rivals}.items():
        if model.parity is not None:
            found[name] = model.parity

    rows = []
    for name, one in found.items():
        errors = []
        for error in (
            one.max_relative_error,
            one.p95_relative_error,
            one.max_probability_error,
            one.p95_probability_error,
        ):
            errors.append("-" if error is None else f"{error:.1e}")
        verdict = "yes" if one.ok else "NO"
        limit = f"{one.tolerance:.0e}"
        rows.append([name, one.samples, *errors, limit, one.differing_top1, one.ties, verdict])

    head = [
        "",
        "test windows",
        "features, logits:\nlargest error",
        "95th\npercentile",
        "probabilities:\nlargest error",
        "95th\npercentile",
        "tolerance",
        "other top-1",
        "ties",
        "ok",
    ]
    return table(head, rows) + note(_parity_said(results, list(found.values())))


def _parity_said(results: Results, found: list[Parity]) -> str:
    """What the figures of `parity` are of."""
    absent = "" if results.base.parity else " The base has no .tflite file."
    if all(one.max_probability_error is None for one in found):  # up to 0.3.0
        return (
            f"Error of a sample: max |a {MINUS} b| / max |b|, b by Keras; of its tensors the "
            "largest. The tolerance applies to the 95th percentile over samples. A tie: the two "
            f"best Keras values lie within the tolerance.{absent}"
        )

    return (
        f"Error of a sample: max |a {MINUS} b|, b by Keras; of features and logits over their "
        "spread, the root mean square deviation over all samples, of probabilities as it is. The "
        "tolerance applies to the 95th percentile over samples of the probabilities, ten times as "
        "much to features and logits (float32 rounding can grow on single samples). A tie: the "
        f"two best Keras probabilities lie within twice the tolerance.{absent}"
    )


def flavours(results: Results) -> str:
    """Every flavour of the files in every runtime: bytes, fused accuracy, error, milliseconds."""
    first = results.flavours[0].tflite.recording
    rows = []
    for one in results.flavours:
        share = one.tflite.recording
        rows.append(
            [
                one.flavour,
                one.runtime,
                mib(one.file_bytes),
                percent(share, one.tflite.recordings),
                f"{100 * (share - first):+.2f}",
                "-" if one.paired is None else p_said(one.paired.p_value),
                f"{one.p95_relative_error:.1e}",
                number(one.median_ms),
            ]
        )

    head = [
        "flavour",
        "runtime",
        "file MiB,\nall sub-models",
        "fused\naccuracy",
        "change,\npoints",
        "exact\nMcNemar",
        "error of\nlogits",
        "median\nms",
    ]
    return table(head, rows, text=(0, 1)) + note(
        f"Fused accuracy on the test split, fusion in float32; error: max |a {MINUS} b| / max |b| "
        "of a sample's logits against the first row's files, 95th percentile over samples, worst "
        "sub-model; ms of the slowest sub-model, one thread."
    )


def latency(result: dict) -> str:
    """One sub-model in each engine that was measured: a bar chart for each number of threads, and
    the figures. `result` is what `edvit bench latency --store` kept.
    """
    head = [
        "engine",
        "graph",
        "threads",
        "median\nms",
        "p95\nms",
        "min\nms",
        "load\nms",
        "RSS\nMiB",
        "of\nsgemm",
        "ratio to the first\n(least-largest)",
    ]

    counts = sorted({row["threads"] for row in result["rows"]})
    charts = [_latency_chart(result, threads) for threads in counts]
    rows = [_latency_cells(row, result["sgemm_gflops"]) for row in result["rows"]]

    told = note(
        f"{result['turns']} alternating turns of {result['runs']} runs, batch 1, each in a process "
        "of its own; bars from zero to the median, whiskers from the minimum to the 95th "
        "percentile. Our graphs run the last block for the class token alone; Keras's own export "
        "and the other runtimes run it on all tokens."
    )
    return panels(charts) + table(head, rows, text=(0, 1)) + told


def _latency_chart(result: dict, threads: int) -> str:
    drawn = []
    for row in result["rows"]:
        # An engine that failed is in the table alone, with its reason.
        if row["threads"] != threads or "failure" in row:
            continue

        name = f"{row['engine'].split()[0]}, {row['graph']}"
        # Of our own graphs alone the bytes of a file are known.
        colour = "fused" if row["file_bytes"] else "single"
        shown = f"{number(row['median'])} ms"
        drawn.append(Bar(name, row["median"], shown, colour, (row["min"], row["p95"])))

    title = f"{result['submodel']}: median ms, {counted(threads, 'thread')}"
    return bars(title, drawn, top=max(bar.interval[1] for bar in drawn if bar.interval))


def _latency_cells(row: dict, sgemm_gflops: dict) -> list[str]:
    head = [row["engine"], row["graph"], str(row["threads"])]
    if "failure" in row:
        return [*head, *["-"] * 6, row["failure"]]

    times = [number(row[key]) for key in ("median", "p95", "min", "load_ms")]
    rss, ratio = row["peak_rss_bytes"], row["ratio"]
    compared = f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-"
    return [
        *head,
        *times,
        "-" if rss is None else f"{rss / 2**20:.0f}",
        f"{row['gflops'] / sgemm_gflops[str(row['threads'])]:.0%}",
        compared,
    ]


def panels(charts: list[str], small: bool = False) -> str:
    """Charts side by side, as many as fit."""
    return f'<div class="panels{" small" if small else ""}">{"".join(charts)}</div>'


def note(text: str) -> str:
    """A paragraph in the quieter colour."""
    return f'<p class="soft">{escape(text)}</p>'
