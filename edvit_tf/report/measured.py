"""The sections of the page that show what was measured: models, stages, sub-models, confusions,
parity.
"""

from html import escape

from edvit_tf.report.figures import (
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
from edvit_tf.report.tables import RIVALS, stage_cell, stage_steps
from edvit_tf.report.verdict import counted, noun

SHORT = {
    "base": "base",
    "single": "single model",
    "plain": "not distilled",
    "total": "of all files' size",
    "fused": "fleet, fused",
    "average": "fleet, average",
}
ARROW = "\N{RIGHTWARDS ARROW}"
MACS = (
    "MACs: multiply-accumulates of one input as the paper counts them, without the attention "
    "products "
    "Q K\N{MODIFIER LETTER CAPITAL T} and A V"
)


def tiles(rows: list[dict], data: dict) -> str:
    """The four figures that a reader looks for first."""
    by = {row["key"]: row for row in rows}
    fused, other = by["fused"], by.get("single", by["base"])
    name = "the single model" if "single" in by else "the base"
    share, count = fused["accuracy"]["recording"], fused["accuracy"]["recordings"]
    low, high = wilson(share, count)
    beside = f"; {name}: {number(other['median'])} ms" if other["median"] else ""
    shown = [
        (
            percent(share, count),
            f"of {count} test {noun(data)}s right, fused; 95 % interval {percent(low, count)} to "
            f"{percent(high, count)}",
        ),
        (
            f"{points(share - other['accuracy']['recording'], count)} points",
            f"against {name} ({percent(other['accuracy']['recording'], count)})",
        ),
        (
            f"{mib(fused['device_bytes'])} MiB",
            f"of model files on the fullest device; {name}: {mib(other['device_bytes'])} MiB",
        ),
        (
            f"{number(fused['median'])} ms",
            f"median, slowest device and fusion, without network{beside}",
        ),
    ]
    return f'<div class="tiles">{"".join(f"<div><b>{escape(a)}</b>{escape(b)}</div>" for a, b in shown)}</div>'


def models(results: dict, rows: list[dict]) -> str:
    """Base, single model, fleet: accuracy with its interval, bytes, MACs, milliseconds, memory."""
    what, body, accuracies = noun(results["data"]), [], []
    for row in rows:
        share, count = row["accuracy"]["recording"], row["accuracy"]["recordings"]
        low, high = wilson(share, count)
        body.append(
            [
                row["name"],
                percent(share, count),
                f"{percent(low, count)[:-2]} to {percent(high, count)}",
                percent(row["accuracy"]["window"], row["accuracy"]["windows"]),
                mib(row["device_bytes"]),
                mib(row["total_bytes"]),
                number(row["device_macs"] / 1e6),
                number(row["macs"] / 1e6),
                *_process(row, row["process"]),
            ]
        )
        accuracies.append(
            (SHORT[row["key"]], share, percent(share, count), row["key"], (low, high))
        )
    count, windows = rows[0]["accuracy"]["recordings"], rows[0]["accuracy"]["windows"]
    files = [
        (SHORT[r["key"]], r["device_bytes"] / 2**20, mib(r["device_bytes"]), r["key"], None)
        for r in rows
    ]
    times = [
        (SHORT[r["key"]], r["median"], number(r["median"]), r["key"], None)
        for r in rows
        if r["median"]
    ]
    return (
        table(
            [
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
            ],
            body,
            strong=(len(rows) - 2,),
        )
        + note(
            f"Test split: {count} {what}s, {windows} windows; Wilson's interval for {count} "
            f"{what}s; dashed: guessing. "
            f"{MACS}. {_runtimes(rows)} Fleet: bytes of the fullest device; ms of the slowest "
            "device, its sub-models one "
            "after the other, plus the fusion, without network; RSS of the largest sub-model's "
            "process. The average "
            "needs no fusion file."
        )
        + panels(
            [
                bars(
                    f"Accuracy by {what}, 95 % interval",
                    accuracies,
                    1.0,
                    1 / len(results["labels"]),
                ),
                bars("Model files on one device, MiB", files),
                bars("Median time of one input, ms, without network", times),
            ]
        )
    )


def stages(results: dict) -> str:
    """What each cut cost and each fit mended, by sub-model."""
    members = [
        (sub["name"], ", ".join(sub["labels"]), sub["stages"]) for sub in results["sub_models"]
    ]
    names = [stage["stage"] for stage in members[0][2]]
    members += [
        (SHORT[key], "all classes", results[key]["stages"][-len(names) :])
        for key in RIVALS
        if results.get(key)
    ]
    keys = [list(stage_steps(stage)) for stage in members[0][2]]

    def rows(which):
        return [
            [
                name,
                *(
                    stage_cell(s, steps, f" {ARROW} ", which, width=0)
                    for s, steps in zip(history, keys, strict=True)
                ),
                labels,
            ]
            for name, labels, history in members
        ]

    last = len(names) + 1
    columns = [
        f"{name}\n{f' {ARROW} '.join(steps)}" for name, steps in zip(names, keys, strict=True)
    ]
    return (
        panels(
            [
                stage_chart(f"{name}, %", history, 1 / history[-1]["config"]["num_classes"])
                for name, _, history in members
            ],
            small=True,
        )
        + table(["balanced, %", *columns, "classes"], rows("all"), text=(0, last), wrap=last)
        + note(
            'Validation windows, balanced accuracy over the sub-model\'s classes and "other" (dashed: guessing). '
            "Hollow: before (of the head stage: the base) and after the cut; half: after the "
            "least-squares repair, before "
            'any training (of the stage "group": the head alone fitted); full: after the fit. The head stage cuts no '
            'widths: the rows of the group and "other" are taken from the base, and the head alone is '
            "fitted. Thin line: the table below."
        )
        + table(["own classes, %", *columns, "classes"], rows("group"), text=(0, last), wrap=last)
        + note(
            "Share of the validation windows of the sub-model's own classes alone that is named "
            "right."
        )
    )


def sub_models(manifest: dict, results: dict) -> str:
    """Widths, bytes, MACs and milliseconds of each file."""
    rows = []
    for entry, sub in zip(manifest["sub_models"], results["sub_models"], strict=True):
        graph = 100 * (sub["file_bytes"] - sub["weight_bytes"]) / sub["weight_bytes"]
        rows.append(
            [
                sub["name"],
                ", ".join(sub["devices"]),
                entry["config"]["hidden_dim"],
                entry["config"]["num_heads"],
                entry["config"]["mlp_dim"],
                f"{sub['params']:,}",
                number(sub["macs"] / 1e6),
                number(sub["macs_full"] / 1e6),
                mib(sub["weight_bytes"]),
                mib(sub["file_bytes"]),
                f"{graph:.1f}",
                number(sub["process"]["load_ms"]),
                *_process(sub["process"]["invoke_ms"], sub["process"]),
            ]
        )
    fusion, subs = results["fusion"], results["sub_models"]
    rows.append(
        [
            "fusion",
            "aggregator",
            *["-"] * 7,
            mib(fusion["file_bytes"]),
            "-",
            number(fusion["process"]["load_ms"]),
            *_process(fusion["process"]["invoke_ms"], fusion["process"]),
        ]
    )
    sizes = [(sub["name"], sub["file_bytes"]) for sub in subs]
    medians = [(sub["name"], sub["process"]["invoke_ms"]["median"]) for sub in subs]
    return (
        table(
            [
                "",
                "devices",
                "width\nd",
                "heads",
                "MLP\nc",
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
            ],
            rows,
            text=(0, 1),
        )
        + note(
            f'{MACS}; the column "attention" counts them too. Graph: what the file holds beside its weights, in % of '
            "them. Each file ran in a process of its own without TensorFlow. "
            f"{_runtimes([*subs, fusion])}"
        )
        + panels(
            [
                bars(
                    ".tflite file, MiB",
                    [(name, size / 2**20, mib(size), "fused", None) for name, size in sizes],
                ),
                bars(
                    "Median time of one input, ms",
                    [(name, ms, number(ms), "fused", None) for name, ms in medians],
                ),
            ]
        )
    )


def _process(quantiles: dict, process: dict | None) -> list[str]:
    """median, p95, peak RSS of a measuring process; dashes where there was none."""
    if process is None:
        return ["-"] * 3
    return [
        number(quantiles["median"]),
        number(quantiles["p95"]),
        f"{process['peak_rss_bytes'] / 2**20:.0f}",
    ]


def _runtimes(measured: list[dict]) -> str:
    """Which runtime measured, with how many threads: one sentence, since it is as a rule the same
    for all.
    """
    reports = [m["process"] for m in measured if m["process"]]
    found = {f"{report['runtime']}, {counted(report['threads'], 'thread')}" for report in reports}
    return f"Times by {' or '.join(sorted(found))}."


def calibration(results: dict) -> str:
    """How far the fused probabilities are from the shares that turn out right."""
    fusion, what = results["fusion"], noun(results["data"])
    told = fusion["validation_calibration"]
    rows = [
        [
            "validation, as trained",
            told["samples"],
            f"{100 * told['before']['ece']:.1f}",
            number(told["before"]["nll"]),
        ],
        [
            "validation, with the temperature",
            told["samples"],
            f"{100 * told['after']['ece']:.1f}",
            number(told["after"]["nll"]),
        ],
        [
            "test, as deployed",
            fusion["tflite"]["recordings"],
            f"{100 * fusion['calibration']['ece']:.1f}",
            number(fusion["calibration"]["nll"]),
        ],
    ]
    return table(["", f"{what}s", "ECE,\npoints", "NLL,\nnats"], rows) + note(
        f"Temperature {number(fusion['temperature'])}, the one of least negative log-likelihood on "
        "validation data. It "
        "stands in the fusion file and changes no answer. ECE: mean distance between the highest "
        "probability and the "
        "share that is right, 15 equal bins."
    )


def confusion(results: dict) -> str:
    """Counts of true against predicted classes, and how many errors cross from one sub-model's
    group to another's.
    """
    owner = {label: j for j, sub in enumerate(results["sub_models"]) for label in sub["labels"]}
    labels, counts = results["labels"], results["confusion"]
    errors = [
        (owner[labels[r]] != owner[labels[c]], count)
        for r, row in enumerate(counts)
        for c, count in enumerate(row)
        if r != c
    ]
    crossing = (
        ""
        if len(results["sub_models"]) == 1
        else (
            f" {sum(n for across, n in errors if across)} of the {sum(n for _, n in errors)} "
            "errors are between classes of "
            "different sub-models."
        )
    )
    return matrix(counts, labels) + note(
        f"Test {noun(results['data'])}s, fused .tflite files: counts, shaded by the share of the "
        f"true class.{crossing}"
    )


def parity(results: dict) -> str:
    """How far the .tflite files lie from the Keras models."""
    found = {
        **results["parity"],
        **{
            name: results[name]["parity"]
            for name in ("base", *RIVALS)
            if results.get(name) and "parity" in results[name]
        },
    }
    rows = [
        [
            name,
            p["samples"],
            *(
                f"{p[key]:.1e}" if key in p else "-"
                for key in ("max_relative_error", "p95_relative_error")
            ),
            f"{p['tolerance']:.0e}",
            p["differing_top1"],
            p["ties"],
            "yes" if p["ok"] else "NO",
        ]
        for name, p in found.items()
    ]
    absent = "" if "parity" in results["base"] else " The base has no .tflite file."
    return table(
        [
            "",
            "test windows",
            "max. relative error",
            "95th percentile",
            "tolerance",
            "other top-1",
            "ties",
            "ok",
        ],
        rows,
    ) + note(
        "Relative error of one sample's tensor: max |a \N{MINUS SIGN} b| / max |b|, b by Keras; "
        "the largest over "
        "samples and outputs, and the 95th percentile over samples, to which the tolerance applies "
        "(float32 rounding "
        "can grow on single samples). A tie: the two best Keras values lie within the "
        f"tolerance.{absent}"
    )


def flavours(results: dict) -> str:
    """Every flavour of the files in every runtime: bytes, fused accuracy, error, milliseconds."""
    first = results["flavours"][0]["tflite"]["recording"]
    rows = []
    for f in results["flavours"]:
        share = f["tflite"]["recording"]
        rows.append(
            [
                f["flavour"],
                f["runtime"],
                mib(f["file_bytes"]),
                percent(share, f["tflite"]["recordings"]),
                f"{100 * (share - first):+.2f}",
                f"{f['p95_relative_error']:.1e}",
                number(f["median_ms"]),
            ]
        )
    return table(
        [
            "flavour",
            "runtime",
            "file MiB,\nall sub-models",
            "fused\naccuracy",
            "change,\npoints",
            "error of\nlogits",
            "median\nms",
        ],
        rows,
        text=(0, 1),
    ) + note(
        "Fused accuracy on the test split, fusion in float32; error: max |a \N{MINUS SIGN} b| / "
        "max |b| of a sample's "
        "logits against the first row's files, 95th percentile over samples, worst sub-model; ms "
        "of the slowest "
        "sub-model, one thread."
    )


def latency(result: dict) -> str:
    """One sub-model in each engine that was measured: a bar chart for each number of threads, and
    the figures.
    """
    charts, rows = [], []
    for threads in sorted({row["threads"] for row in result["rows"]}):
        drawn = [
            (
                f"{row['engine'].split()[0]}, {row['graph']}",
                row["median"],
                f"{number(row['median'])} ms",
                "fused" if row["file_bytes"] else "single",
                (row["min"], row["p95"]),
            )
            for row in result["rows"]
            if row["threads"] == threads and "failure" not in row
        ]
        charts.append(
            bars(
                f"{result['submodel']}: median ms, {counted(threads, 'thread')}",
                drawn,
                top=max(row[4][1] for row in drawn),
            )
        )
    for row in result["rows"]:
        head = [row["engine"], row["graph"], str(row["threads"])]
        if "failure" in row:
            rows.append([*head, *["-"] * 6, row["failure"]])
            continue
        rss, ratio = row["peak_rss_bytes"], row["ratio"]
        rows.append(
            [
                *head,
                *(number(row[key]) for key in ("median", "p95", "min", "load_ms")),
                "-" if rss is None else f"{rss / 2**20:.0f}",
                f"{row['gflops'] / result['sgemm_gflops'][str(row['threads'])]:.0%}",
                f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-",
            ]
        )
    return (
        panels(charts)
        + table(
            [
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
            ],
            rows,
            text=(0, 1),
        )
        + note(
            f"{result['turns']} alternating turns of {result['runs']} runs, batch 1, each in a "
            "process of its own; bars "
            "from zero to the median, whiskers from the minimum to the 95th percentile. Our graphs "
            "run the last block for "
            "the class token alone; Keras's own export and the other runtimes run it on all tokens."
        )
    )


def panels(charts: list[str], small: bool = False) -> str:
    """Charts side by side, as many as fit."""
    return f'<div class="panels{" small" if small else ""}">{"".join(charts)}</div>'


def note(text: str) -> str:
    """A paragraph in the quieter colour."""
    return f'<p class="soft">{escape(text)}</p>'
