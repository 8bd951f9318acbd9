"""The section of the page that shows a sub-model beside other runtimes."""

from edvit_tf.report.compared import counted
from edvit_tf.report.figures import Bar, bars, note, panels, table
from edvit_tf.report.units import milliseconds, size


def latency(result: dict) -> str:
    """One sub-model in each engine that was measured: a bar chart for each number of threads, and
    the figures. `result` is what `edvit bench latency --store` kept.
    """
    head = [
        "engine",
        "graph",
        "threads",
        "median",
        "95th\npercentile",
        "least",
        "load",
        "RSS",
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
        shown = milliseconds(row["median"])
        drawn.append(Bar(name, row["median"], shown, colour, (row["min"], row["p95"])))

    title = f"{result['submodel']}: median time, {counted(threads, 'thread')}"
    return bars(title, drawn, top=max(bar.interval[1] for bar in drawn if bar.interval))


def _latency_cells(row: dict, sgemm_gflops: dict) -> list[str]:
    head = [row["engine"], row["graph"], str(row["threads"])]
    if "failure" in row:
        return [*head, *["-"] * 6, row["failure"]]

    times = [milliseconds(row[key], 3) for key in ("median", "p95", "min", "load_ms")]
    rss, ratio = row["peak_rss_bytes"], row["ratio"]
    compared = f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-"
    return [
        *head,
        *times,
        "-" if rss is None else size(rss),
        f"{row['gflops'] / sgemm_gflops[str(row['threads'])]:.0%}",
        compared,
    ]
