"""The paper's experiment at its full size, from a checkpoint to a bundle, on few pictures: what it
takes and what it weighs. Its accuracies mean nothing.

ViT-Base at 224 x 224, the paper's order of cuts, ten devices and 180 MiB are whole. What is cut
short says so in the result: pictures, calibration samples, one epoch a fit of small batches.
"""

from collections import defaultdict
from pathlib import Path

from edvit_tf.config import RunConfig

PAPER_RATIO = 28.9  # of ViT-Base's latency to a sub-model's at ten devices: Liu et al. 2024


def bench_paper(config: RunConfig, dataset, out: Path, base: Path | None) -> dict:
    """Runs `config`, or goes on with it; the bundle comes to lie at `out`.

    {"base", "sub_model": {params, macs, macs_full, file_bytes, median_ms, parity}, "sub_models",
    "total_bytes", "budget_bytes", "ratio" (of the medians, the largest sub-model's), "paper_ratio",
    "peak_rss_bytes", "seconds" {stage: s}, "short": {what is cut short: how far}}. Raises as
    `pipeline.run.run`.
    """
    from edvit_tf.pipeline.run import run

    results = run(config, dataset, out, base=base)
    ms = {name: sorted(passes) for name, passes in results["turns"]["models"].items()}
    subs = [_row(sub, ms, results["parity"][sub["name"]]) for sub in results["sub_models"]]
    largest = max(subs, key=lambda sub: sub["file_bytes"])
    whole = _row({"name": "base", **results["base"]}, ms, results["base"]["parity"])
    return {
        "machine": results["machine"],
        "runtime": results["turns"]["runtime"],
        "base": whole,
        "sub_model": largest,
        "sub_models": len(subs),
        "total_bytes": sum(sub["file_bytes"] for sub in subs),
        "budget_bytes": config.budget_bytes,
        "parity": all(one["ok"] for one in (whole["parity"], *(sub["parity"] for sub in subs))),
        "ratio": whole["median_ms"] / largest["median_ms"],
        "paper_ratio": PAPER_RATIO,
        "peak_rss_bytes": results["peak_rss_bytes"],
        "seconds": _seconds(results["stage_seconds"]),
        "short": {
            "pictures": {split: dataset.size(split) for split in ("train", "validation", "test")},
            "calibration_samples": config.calibration_samples,
            "epochs": config.stage_training.epochs,
            "batch_size": config.stage_training.batch_size,
        },
    }


def _row(model: dict, ms: dict[str, list[float]], parity: dict) -> dict:
    """Of a model its sizes, its MACs, and the median of its passes' medians."""
    passes = ms[model["name"]]
    return {
        **{name: model[name] for name in ("name", "params", "macs", "macs_full", "file_bytes")},
        "median_ms": passes[len(passes) // 2],
        "spread_ms": (passes[0], passes[-1]),
        "parity": parity,
    }


def _seconds(stages: dict[str, float]) -> dict[str, float]:
    """Seconds by kind of stage: all members' cuts of one kind are one."""
    found: dict[str, float] = defaultdict(float)
    for name, seconds in stages.items():
        found[f"cut: {name.partition('.')[2]}" if "." in name else name] += seconds
    return {name: round(seconds, 1) for name, seconds in found.items()}


def paper_text(result: dict) -> str:
    """The result as a text table."""
    lines = [f"{'model':<14}{'params M':>10}{'MACs G':>9}{'full G':>9}{'MiB':>9}{'ms':>9}  spread"]
    for name in ("base", "sub_model"):
        row = result[name]
        low, high = row["spread_ms"]
        lines.append(
            f"{row['name']:<14}{row['params'] / 1e6:>10.2f}{row['macs'] / 1e9:>9.3f}"
            f"{row['macs_full'] / 1e9:>9.3f}{row['file_bytes'] / 2**20:>9.2f}"
            f"{row['median_ms']:>9.2f}  {low:.2f} to {high:.2f}"
        )

    budget = result["budget_bytes"]
    allowed = "" if budget is None else f", of {budget / 2**20:.0f} allowed"
    agree = "agree" if result["parity"] else "DO NOT agree"
    short = result["short"]
    pictures = ", ".join(f"{count} {split}" for split, count in short["pictures"].items())
    lines += [
        f"{result['sub_models']} sub-models: {result['total_bytes'] / 2**20:.1f} MiB{allowed}",
        f"latency, whole to sub-model: {result['ratio']:.1f} (the paper: {result['paper_ratio']}); "
        f"{result['runtime']}, one thread",
        f"Keras and .tflite {agree} on every model",
        f"peak memory of the run: {result['peak_rss_bytes'] / 2**30:.2f} GiB",
        "seconds: " + ", ".join(f"{name} {s:g}" for name, s in result["seconds"].items()),
        f"cut short: {pictures} pictures; {short['calibration_samples']} to score a cut on; epochs "
        f"a fit: {short['epochs']}, batch {short['batch_size']}. Accuracies mean nothing.",
    ]
    return "\n".join(lines)
