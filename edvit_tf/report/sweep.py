"""One page over several bundles of one recipe: accuracy, latency and memory against the number of
devices N.
"""

import textwrap
from base64 import b64encode
from collections import Counter
from dataclasses import asdict
from html import escape
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.terminal import counted
from edvit_tf.report.compared import SHORT, compare, compared
from edvit_tf.report.curves import mean_and_deviation
from edvit_tf.report.entries import BETTER, LEVEL, WORSE
from edvit_tf.report.figures import Link, note, panels, percent, points, table
from edvit_tf.report.results import read_results
from edvit_tf.report.said import p_said
from edvit_tf.report.style import finished, page_end, page_head
from edvit_tf.report.sweep_charts import budget_of, model_values, sweep_charts
from edvit_tf.report.sweep_csv import FILE, sweep_csv
from edvit_tf.report.tables import LINE
from edvit_tf.report.units import macs, milliseconds, size

COLUMNS = (
    "N",
    "fleet, or\ngroups",
    "training\nbudget",
    "seed",
    "fused",
    "average",
    "single",
    "equal\ntraining",
    "copies,\nviews",
    "not\ndistilled",
    "of all\nfiles' size",
    "base",
    "fleet less\nsingle",
    "the fleet\nis",
    "exact\nMcNemar",
    "bytes a\ndevice",
    "all\nfiles",
    "single\nbytes",
    "MACs a\ndevice",
    "device\nand fusion",
    "single\ntime",
    "one lost,\nmean",
    "worst",
)


def sweep_row(folder: Path) -> dict:
    """What the tables and figures need of one finished bundle: plain JSON. Shares 0..1, bytes, ms,
    MACs.
    """
    bundle = open_bundle(folder)
    results = read_results(bundle.path)
    fused = results.fusion.tflite

    models = {}
    comparisons = {}
    for row in compared(bundle.fusion, results):
        models[row.key] = {
            "accuracy": row.accuracy.recording,
            "device_bytes": row.device_bytes,
            "total_bytes": row.total_bytes,
            "device_macs": row.device_macs,
            "median": row.times.median if row.times else None,
        }
        if row.key != "fused":
            found = compare(results, row)
            comparisons[row.key] = {**asdict(found), "state": found.state}

    one_lost = None
    if results.missing_one:
        shares = [lost.tflite.recording for lost in results.missing_one]
        one_lost = {"mean": sum(shares) / len(shares), "worst": min(shares)}

    plan = bundle.manifest.plan

    return {
        "devices": len(plan.devices),
        "strategy": plan.strategy,
        "asked": results.fleet.asked,
        "budget": bundle.manifest.run.get("training_budget"),
        "seed": results.seed,
        "bundle": folder.name,
        "data": results.data.name,
        "synthetic": results.data.synthetic,
        "noun": results.data.noun,
        "recordings": fused.recordings,
        "machine": results.machine.cpu,
        "models": models,
        "comparisons": comparisons,
        "one_lost": one_lost,
        "training_macs": results.training_macs or None,
        "seconds": results.seconds,
    }


def sweep_page(title: str, rows: list[dict], command: str) -> str:
    """The HTML text: accuracy, latency and memory against N, and the table behind them."""
    # One recipe on one machine: what the first row says of them holds for all.
    first = rows[0]

    charts = sweep_charts(rows)

    banner = ""
    if any(row["synthetic"] for row in rows):
        banner = '<p class="banner" role="alert">SYNTHETIC DATA: these accuracies mean nothing.</p>'

    head, *body = _grid(rows)
    for cells, row in zip(body, rows, strict=True):
        cells.insert(0, Link("report", f"{quote(row['bundle'])}/report.html"))
    figures = table(["of the\nrun", *head], body, text=(0, 2))
    encoded = b64encode(sweep_csv(rows).encode()).decode()
    seen = f"{escape(first['data'])}, {first['recordings']} test {escape(first['noun'])}s"
    machine = escape(first["machine"])

    return finished(f"""{page_head(title)}{banner}
<h1>{escape(title)}</h1>
{_MEASURED.format(seen=seen, machine=machine)}
<section><h2>Against the number of devices{_and_budget(rows)}</h2>{panels(charts)}</section>
<section><h2>Figures</h2>{figures}
{_seeds(rows)}{note(_spread(rows))}
<p><a download="{FILE}" href="data:text/csv;base64,{encoded}">{FILE}</a>: every figure of every
run, for a spreadsheet; the same file lies beside this page.</p></section>
<section><h2>Command</h2><p class="soft">A click marks all of it.</p>
<pre class="paste" tabindex="0">{escape(command)}</pre></section>
{page_end()}""")


def _and_budget(rows: list[dict]) -> str:
    return " and the training budget" if len(set(map(budget_of, rows))) > 1 else ""


_MEASURED = (
    '<p class="soft">{seen}, measured on the .tflite\n'
    "files, one thread, on {machine}; the network is not included. Whiskers: deviation over\n"
    "the seeds; of an accuracy of one seed the 95 % Wilson interval. The axis of accuracies does "
    "not start at zero.</p>"
)


# Of COLUMNS, those that a terminal is given first: what a fleet is, how well it answers, what it
# takes. The others follow as far as there is room.
_FIRST = (
    *("N", "fleet, or\ngroups", "training\nbudget", "seed", "fused", "single"),
    *("fleet less\nsingle", "the fleet\nis", "bytes a\ndevice", "device\nand fusion", "base"),
    *("average", "all\nfiles", "one lost,\nmean", "equal\ntraining", "copies,\nviews"),
    *("exact\nMcNemar", "MACs a\ndevice", "single\nbytes", "single\ntime", "worst"),
)


def sweep_text(rows: list[dict], width: int = LINE) -> str:
    """The table for a terminal of `width` characters: the columns of most weight that fit, what the
    others are, and what the figures say.
    """
    width = max(width, 40)  # below that nothing could be read
    grid = _grid(rows)
    titles = grid[0]
    lines = [*zip_longest(*(title.split("\n") for title in titles), fillvalue=""), *grid[1:]]
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]

    by_weight = sorted(range(len(titles)), key=lambda i: _weight(titles[i]))
    shown: list[int] = []
    room = width + 2  # no gap after the last one
    for i in by_weight:
        if sizes[i] + 2 <= room:
            shown.append(i)
            room -= sizes[i] + 2
    shown.sort()

    said = ["  ".join(line[i].rjust(sizes[i]) for i in shown).rstrip() for line in lines]
    left_out = [title.replace("\n", " ") for i, title in enumerate(titles) if i not in shown]
    if left_out:
        said.append(f"No room here, but in --json, {FILE} and the page: {'; '.join(left_out)}.")
    said.append(_spread(rows))
    return "\n".join(
        textwrap.fill(line, width, break_on_hyphens=False) if len(line) > width else line
        for line in said
    )


def _weight(title: str) -> int:
    return _FIRST.index(title) if title in _FIRST else len(_FIRST)


def _grid(rows: list[dict]) -> list[list[str]]:
    """The titles and a row for each run."""
    return _used([[*COLUMNS], *(_cells(row) for row in rows)])


def _used(grid: list[list]) -> list[list[str]]:
    """Titles and rows without the columns that no row has anything for."""
    cells = [[str(cell) for cell in row] for row in grid]
    used = [i for i in range(len(cells[0])) if any(row[i] != "-" for row in cells[1:])]
    return [[row[i] for i in used] for row in cells]


def _by_fleet(rows: list[dict]) -> dict[tuple[int, str, str], list[dict]]:
    """Rows by (number of devices, way of grouping classes, training budget or ""): the seeds of one
    fleet together.
    """
    fleets: dict[tuple[int, str, str], list[dict]] = {}
    for row in rows:
        key = (row["devices"], row["strategy"], budget_of(row) or "")
        fleets.setdefault(key, []).append(row)
    return fleets


def _seeds(rows: list[dict]) -> str:
    """Mean and deviation of every model's accuracy over the seeds, where there are several."""
    fleets = _by_fleet(rows)
    if max(map(len, fleets.values())) == 1:
        return ""

    # A model is a column where any of the runs trained it.
    keys = [key for key in SHORT if any(key in row["models"] for row in rows)]
    names = [SHORT[key] for key in keys]
    lines = []
    for (count, way, budget), own in fleets.items():
        shares = [_over_seeds(own, key) for key in keys]
        lines.append([count, way, budget or "-", len(own), *shares])
    head, *body = _used([["N", "fleet, or\ngroups", "training\nbudget", "seeds", *names], *lines])
    return table(
        head,
        body,
        text=(1,),
        caption="Accuracy in %, mean and deviation over the seeds",
    )


def _over_seeds(rows: list[dict], key: str) -> str:
    shares = [100 * share for share in model_values(rows, key, "accuracy")]
    if not shares:
        return "-"

    mean, spread = mean_and_deviation(shares)
    return f"{mean:.2f} \u00b1 {spread:.2f}"


def _cells(row: dict) -> list:
    """The values of COLUMNS."""
    models, count, lost = row["models"], row["recordings"], row["one_lost"]
    fused, single = models["fused"], models.get("single")

    shares = []
    for key in ("fused", "average", "single", "equal", "copies", "plain", "total", "base"):
        known = key in models
        shares.append(percent(models[key]["accuracy"], count) if known else "-")

    gain = state = p_value = single_bytes = single_ms = "-"
    if single:
        against = row["comparisons"]["single"]
        gain = points(against["difference"], count)
        state = against["state"]
        p_value = p_said(against["p_value"])
        single_bytes = size(single["device_bytes"])
        single_ms = _milliseconds(single)

    mean = worst = "-"
    if lost:
        mean = percent(lost["mean"], count)
        worst = percent(lost["worst"], count)

    return [
        row["devices"],
        row["strategy"],
        budget_of(row) or "-",
        row["seed"],
        *shares,
        gain,
        state,
        p_value,
        size(fused["device_bytes"]),
        size(fused["total_bytes"]),
        single_bytes,
        macs(fused["device_macs"]),
        _milliseconds(fused),
        single_ms,
        mean,
        worst,
    ]


def _milliseconds(model: dict) -> str:
    """Of one answer; "-" where no file ran."""
    return "-" if model["median"] is None else milliseconds(model["median"])


def _spread(rows: list[dict]) -> str:
    """How the fleets stand against the single model, and mean and deviation over the seeds, where
    there are several.
    """
    return " ".join(part for part in (_stands(rows), _over_the_seeds(rows)) if part)


def _stands(rows: list[dict]) -> str:
    """In how many runs the fleet is better than the single model, worse, or neither; paired by
    recording, each run for itself.
    """
    states = Counter(
        row["comparisons"]["single"]["state"] for row in rows if "single" in row["comparisons"]
    )
    if not states:
        return ""
    return (
        f"Fleet against the single model, by recording: better in {states[BETTER]}, worse in "
        f"{states[WORSE]}, {LEVEL} in {states[LEVEL]} of {states.total()} runs."
    )


def _over_the_seeds(rows: list[dict]) -> str:
    fleets = _by_fleet(rows)
    if max(map(len, fleets.values())) == 1:
        return "One seed a row: the spread between seeds is not in these figures."

    ways = {row["strategy"] for row in rows}
    budgets = set(map(budget_of, rows))
    said = []
    for (devices, way, budget), own in sorted(fleets.items()):
        shares = [100 * row["models"]["fused"]["accuracy"] for row in own]
        mean, spread = mean_and_deviation(shares)
        name = f"N = {devices}"
        if len(ways) > 1:
            name += f", {way}"
        if len(budgets) > 1:
            name += f", {budget or 'no budget'}"
        seeds = counted(len(shares), "seed")
        said.append(f"{name}: {mean:.2f} +- {spread:.2f} % ({seeds}){_less_single(own)}")

    return "Fused accuracy, mean and deviation: " + "; ".join(said) + "."


def _less_single(rows: list[dict]) -> str:
    """The paired difference to the single model, over the seeds of one fleet."""
    changes = []
    for row in rows:
        if "single" in row["comparisons"]:
            changes.append(100 * row["comparisons"]["single"]["difference"])
    if not changes:
        return ""

    mean, spread = mean_and_deviation(changes)
    return f", less the single model {mean:+.2f} +- {spread:.2f} points"
