"""Accuracy, latency and memory against the number of devices N, for several models (the paper's
Figures 3 to 5).

Three sources, each told apart in the rows. Sizes and MACs are planned, exactly and at once: by
Algorithm 1 with the model's budget. Milliseconds and memory are measured on exported files of these
widths (`timed.py`): for time random weights do. Accuracies are those of runs that are given: a
sweep, or bundles; nothing is trained here.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig
from edvit_tf.planning.partition import partition
from edvit_tf.planning.plan import plan
from edvit_tf.report.curves import Series, curves, mean_and_deviation
from edvit_tf.report.figures import note, panels, table
from edvit_tf.report.sweep import sweep_row
from edvit_tf.report.tables import LINE
from edvit_tf.study.flops import DEVICES, costs_of, series, widths_said
from edvit_tf.study.page import COLOURS, text_table

# The paper's budgets of all files together, in bytes.
BUDGETS = {"vit_small": 50 * 2**20, "vit_base": 180 * 2**20, "vit_large": 600 * 2**20}
UNSPLIT = "unsplit"


def against_n(
    models: Mapping[str, ModelConfig],
    devices: Sequence[int] = DEVICES,
    budgets: Mapping[str, int] = BUDGETS,
) -> list[dict]:
    """Planned rows: for each model one of the unsplit base (devices None), then one for each N.

    A row has model, devices, kept of shares, widths, macs, macs_full, weight_bytes, file_bytes (of
    the largest sub-model), total_bytes, budget_bytes (None: none given), config. Raises PlanError
    where a budget or the classes allow no such N.
    """
    rows = []
    for name, base in models.items():
        budget = budgets.get(name)
        whole = {"model": name, "devices": None, "kept": base.shares, "of": base.shares}
        rows.append({**whole, **costs_of(base), "budget_bytes": None, "config": base.to_dict()})
        rows += [_planned(name, base, count, budget) for count in devices]
    return rows


def _planned(name: str, base: ModelConfig, count: int, budget: int | None) -> dict:
    specs = [DeviceSpec(f"device-{i}") for i in range(count)]
    made = plan(base, partition(base.num_classes, count), specs, budget)
    largest = max(made.sub_models, key=lambda sub: sub.size_bytes)
    return {
        "model": name,
        "devices": count,
        "kept": largest.kept,
        "of": base.shares,
        **costs_of(largest.config),
        "total_bytes": made.total_bytes,
        "budget_bytes": budget,
        "config": largest.config.to_dict(),
    }


def accuracies(sources: Sequence[Path]) -> list[dict]:
    """Rows {run, devices, seed, accuracy, base, data, synthetic, recordings} of finished runs: of a
    sweep's sweep.json (or its folder), or of a bundle; accuracies are the .tflite files'.

    Raises ConfigError for what is neither; BundleError for a damaged bundle.
    """
    rows = []
    for source in sources:
        name = source.parent.name if source.is_file() else source.resolve().name
        for row in _sweep_rows(source):
            found = row["models"]
            rows.append(
                {
                    "run": name,
                    "devices": row["devices"],
                    "seed": row["seed"],
                    "accuracy": found["fused"]["accuracy"],
                    "base": found.get("base", {}).get("accuracy"),
                    "data": row["data"],
                    "synthetic": row["synthetic"],
                    "recordings": row["recordings"],
                }
            )
    return rows


def _sweep_rows(source: Path) -> list[dict]:
    file = source / "sweep.json" if source.is_dir() else source
    if source.is_dir() and (source / "manifest.json").is_file():
        return [sweep_row(source)]
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        [row["models"]["fused"]["accuracy"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{source} has no accuracies ({error!r}); give the folder of `edvit sweep`, its "
            "sweep.json, or a bundle."
        ) from error
    return rows


def speedups(rows: Sequence[dict]) -> list[dict]:
    """Measured rows with "speedup" beside each median: how often a sub-model of N devices runs
    while the unsplit model of its name runs once, in the same runtime; None where either failed.
    """
    whole = {row["model"]: row["measured"] for row in rows if row["devices"] is None}
    done = []
    for row in rows:
        measured = {}
        for runtime, figures in row["measured"].items():
            base = whole.get(row["model"], {}).get(runtime, {}).get("median_ms")
            own = figures.get("median_ms")
            measured[runtime] = {**figures, "speedup": base / own if base and own else None}
        done.append({**row, "measured": measured})
    return done


NOTES = (
    "MACs without the products of attention. MiB: of the largest sub-model's float32 file, and of "
    "all files, planned by Algorithm 1 with the model's budget. A sub-model alone is timed: the "
    "slowest device, without network and fusion."
)


def against_n_text(rows: Sequence[dict], runs: Sequence[dict] = ()) -> str:
    """The tables for a terminal: planned and measured figures, and accuracies of given runs."""
    parts = [text_table(_planned_grid(rows), left=(0, 3)), textwrap.fill(NOTES, LINE)]
    if _is_measured(rows):
        parts += [text_table(_measured_grid(rows), left=(0, 2)), _how(rows)]
    if runs:
        parts.append(text_table(_accuracy_grid(runs), left=(0, 3)))
    return "\n\n".join(parts)


def _is_measured(rows: Sequence[dict]) -> bool:
    return any("measured" in row for row in rows)


def _how(rows: Sequence[dict]) -> str:
    """How the times came about, of the first that there are."""
    every = [figures for row in rows for figures in row.get("measured", {}).values()]
    one = every[0]
    threads = f"{one['threads']} thread{'s' * (one['threads'] > 1)}"
    said = (
        f"Milliseconds: median of {one['turns']} alternating turns of {one['runs']} runs, batch 1, "
        f"{threads}, each turn in a process of its own; in brackets the medians of the quickest "
        "and the slowest turn. RSS: the largest that such a process had, Python included. Random "
        "weights."
    )
    return textwrap.fill(said, LINE)


def _planned_grid(rows: Sequence[dict]) -> list[list[str]]:
    head = [
        "model",
        "N",
        "kept",
        "widths",
        "G MACs",
        "MiB a\nfile",
        "MiB of\nall files",
        "budget\nMiB",
    ]
    grid = [head]
    for row in rows:
        budget = row["budget_bytes"]
        grid.append(
            [
                row["model"],
                _count(row),
                f"{row['kept']} of {row['of']}",
                widths_said(row),
                f"{row['macs'] / 1e9:.4g}",
                f"{row['file_bytes'] / 2**20:.2f}",
                f"{row['total_bytes'] / 2**20:.2f}",
                "-" if budget is None else f"{budget / 2**20:g}",
            ]
        )
    return grid


def _count(row: dict) -> str:
    return UNSPLIT if row["devices"] is None else str(row["devices"])


def _measured_grid(rows: Sequence[dict]) -> list[list[str]]:
    grid = [["model", "N", "runtime", "ms", "(turns)", "times as fast\nas unsplit", "RSS\nMiB"]]
    for row in rows:
        for runtime, figures in row.get("measured", {}).items():
            grid.append([row["model"], _count(row), runtime, *_measured_cells(figures)])
    return grid


def _measured_cells(figures: dict) -> list[str]:
    if "failure" in figures:
        return [f"FAILED: {figures['failure']}", "-", "-", "-"]
    turns, peak, speedup = figures["turns_ms"], figures["peak_rss_bytes"], figures.get("speedup")
    return [
        f"{figures['median_ms']:.2f}",
        f"({min(turns):.2f}-{max(turns):.2f})",
        "-" if speedup is None else f"{speedup:.1f}",
        "-" if peak is None else f"{peak / 2**20:.0f}",
    ]


def _accuracy_grid(runs: Sequence[dict]) -> list[list[str]]:
    grid = [["run", "N", "seed", "data", "fused %", "base %", "test\nsamples"]]
    for row in runs:
        data = f"{row['data']} (SYNTHETIC)" if row["synthetic"] else row["data"]
        base = "-" if row["base"] is None else f"{100 * row['base']:.2f}"
        share = f"{100 * row['accuracy']:.2f}"
        count, seed, seen = (str(row[name]) for name in ("devices", "seed", "recordings"))
        grid.append([row["run"], count, seed, data, share, base, seen])
    return grid


def against_n_html(rows: Sequence[dict], runs: Sequence[dict] = ()) -> list[tuple[str, str]]:
    """(heading, HTML) of the sections of a page."""
    split = [row for row in rows if row["devices"] is not None]
    sections = []
    if runs:
        head, *body = _accuracy_grid(runs)
        chart = curves("Test accuracy, %", _accuracy_series(runs), from_zero=False)
        told = note("Accuracies of the .tflite files; whiskers: deviation over the seeds.")
        made_up = ""
        if any(row["synthetic"] for row in runs):
            made_up = note("SYNTHETIC DATA: these accuracies mean nothing.")
        figures = made_up + panels([chart]) + table(head, body, text=(0, 3)) + told
        sections.append(("Accuracy", figures))

    if _is_measured(rows):
        head, *body = _measured_grid(rows)
        figures = _drawn(_measured_charts(split), split) + table(head, body, text=(0, 2))
        sections.append(("Latency and memory, measured", figures + note(_how(rows))))

    charts = [
        curves("G MACs of a sub-model", series(split, "macs", 1e9)),
        curves("MiB of the largest file", series(split, "file_bytes", 2**20)),
        curves("MiB of all files", series(split, "total_bytes", 2**20)),
    ]
    head, *body = _planned_grid(rows)
    figures = _drawn(charts, split) + table(head, body, text=(0, 3)) + note(NOTES)
    sections.append(("Sizes and MACs, planned", figures))
    return sections


def _drawn(charts: Sequence[str], rows: Sequence[dict]) -> str:
    """The charts; none of a single N, of which each would be a dot, and the table says it."""
    return panels(charts) if len({row["devices"] for row in rows}) > 1 else ""


def _measured_charts(rows: Sequence[dict]) -> list[str]:
    """Time and memory, a chart of each for every runtime."""
    charts = []
    for runtime in dict.fromkeys(name for row in rows for name in row.get("measured", {})):
        flat = []
        for row in rows:
            flat.append({**row, **row.get("measured", {}).get(runtime, {})})
        charts.append(curves(f"ms of a sub-model, {runtime}", series(flat, "median_ms", 1)))
        charts.append(
            curves(f"MiB of the worker's process, {runtime}", series(flat, "peak_rss_bytes", 2**20))
        )
    return charts


def _accuracy_series(runs: Sequence[dict]) -> list[Series]:
    """A line for each run, mean and deviation over its seeds."""
    lines: list[Series] = []
    for i, name in enumerate(dict.fromkeys(row["run"] for row in runs)):
        own = [row for row in runs if row["run"] == name]
        found = {}
        for count in dict.fromkeys(row["devices"] for row in own):
            shares = [100 * row["accuracy"] for row in own if row["devices"] == count]
            mean, spread = mean_and_deviation(shares)
            found[count] = (mean, mean - spread, mean + spread)
        lines.append((name, COLOURS[i % len(COLOURS)], found))
    return lines
