"""One page over several bundles of one recipe: accuracy, latency and memory against the number of devices N."""

import json
from html import escape
from pathlib import Path

from edvit_tf.report.figures import CSS, bars, mib, number, percent, points, table, wilson
from edvit_tf.report.measured import note, panels
from edvit_tf.report.verdict import compared, noun

COLUMNS = ("N", "classes\ngrouped", "seed", "fused", "average", "single", "base", "fleet less\nsingle",
           "device\nMiB", "all files\nMiB",
           "single\nMiB", "M MACs a\ndevice", "ms, device\nand fusion", "single\nms", "one lost,\nmean", "worst")


def sweep_row(bundle: Path) -> dict:
    """What the tables and figures need of one finished bundle: plain JSON. Shares 0..1, bytes, ms, MACs."""
    results = json.loads((bundle / "results.json").read_text(encoding="utf-8"))
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    by = {row["key"]: row for row in compared(manifest, results)}
    lost = [row["tflite"]["recording"] for row in results["missing_one"]]
    return {
        "devices": len(results["sub_models"]), "strategy": manifest["plan"]["strategy"], "seed": results["seed"],
        "bundle": bundle.name,
        "data": results["data"]["name"], "synthetic": results["data"]["synthetic"], "noun": noun(results["data"]),
        "recordings": by["fused"]["accuracy"]["recordings"], "machine": results["machine"]["cpu"],
        "models": {key: {"accuracy": row["accuracy"]["recording"], **{k: row[k] for k in (
            "device_bytes", "total_bytes", "device_macs", "median")}} for key, row in by.items()},
        "one_lost": {"mean": sum(lost) / len(lost), "worst": min(lost)} if lost else None,
        "training_macs": results.get("training_macs"), "seconds": results["seconds"],
    }


def sweep_page(title: str, rows: list[dict], command: str) -> str:
    """The HTML text: the three figures over N and the table behind them."""
    first = rows[0]
    charts = []
    for key, name in (("fused", "fleet, fused"), ("single", "single model of a device's size")):
        found = [row for row in rows if key in row["models"]]
        if found:
            charts.append(bars(f"Test accuracy, {name}", [
                (_named(row, rows), row["models"][key]["accuracy"],
                 percent(row["models"][key]["accuracy"], row["recordings"]), key,
                 wilson(row["models"][key]["accuracy"], row["recordings"])) for row in found], top=1.0))
    for what, field, scale, unit in (("Latency: slowest device and fusion", "median", 1, "ms"),
                                     ("Memory: model files on the fullest device", "device_bytes", 2**20, "MiB"),
                                     ("Memory: model files of all devices", "total_bytes", 2**20, "MiB")):
        charts.append(bars(f"{what}, {unit}", [
            (_named(row, rows), row["models"]["fused"][field] / scale, number(row["models"]["fused"][field] / scale),
             "fused", None) for row in rows]))
    banner = '<p class="banner" role="alert">SYNTHETIC DATA: these accuracies mean nothing.</p>' \
        if any(row["synthetic"] for row in rows) else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{CSS}</style></head><body><main>{banner}
<h1>{escape(title)}</h1>
<p class="soft">{escape(first["data"])}, {first["recordings"]} test {escape(first["noun"])}s, measured on the .tflite
files, one thread, on {escape(first["machine"])}; the network is not included. Whiskers: 95 % Wilson intervals.</p>
<section><h2>Against the number of devices</h2>{panels(charts)}</section>
<section><h2>Figures</h2>{table(list(COLUMNS), [_cells(row) for row in rows], text=(1,))}
{note(_spread(rows))}</section>
<section><h2>Command</h2><pre>{escape(command)}</pre></section>
</main></body></html>
"""


def sweep_text(rows: list[dict]) -> str:
    """The same table for a terminal."""
    cells = [[name.replace("\n", " ") for name in COLUMNS], *([str(c) for c in _cells(row)] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([*lines, _spread(rows)])


def _named(row: dict, rows: list[dict]) -> str:
    seeds, ways = {r["seed"] for r in rows}, {r["strategy"] for r in rows}
    way = f", {row['strategy']}" if len(ways) > 1 else ""
    return f"N = {row['devices']}{way}" + (f", seed {row['seed']}" if len(seeds) > 1 else "")


def _cells(row: dict) -> list:
    models, count, lost = row["models"], row["recordings"], row["one_lost"]
    fused, single = models["fused"], models.get("single")

    def share(key):
        return percent(models[key]["accuracy"], count) if key in models else "-"

    return [
        row["devices"], row["strategy"], row["seed"], share("fused"), share("average"), share("single"), share("base"),
        points(fused["accuracy"] - single["accuracy"], count) if single else "-", mib(fused["device_bytes"]),
        mib(fused["total_bytes"]), mib(single["device_bytes"]) if single else "-", number(fused["device_macs"] / 1e6),
        number(fused["median"]), number(single["median"]) if single else "-",
        *((percent(lost[key], count) for key in ("mean", "worst")) if lost else "--")]


def _spread(rows: list[dict]) -> str:
    """Mean and deviation over the seeds, where there are several."""
    by: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        by.setdefault((row["devices"], row["strategy"]), []).append(100 * row["models"]["fused"]["accuracy"])
    if max(map(len, by.values())) == 1:
        return "One seed a row: the spread between seeds is not in these figures."
    said = []
    for (devices, way), shares in sorted(by.items()):
        mean = sum(shares) / len(shares)
        spread = (sum((s - mean) ** 2 for s in shares) / max(1, len(shares) - 1)) ** 0.5
        name = f"N = {devices}" + (f", {way}" if len({w for _, w in by}) > 1 else "")
        said.append(f"{name}: {mean:.2f} +- {spread:.2f} % ({len(shares)} seeds)")
    return "Fused accuracy, mean and deviation: " + "; ".join(said) + "."
