"""Milliseconds of every way of making attention narrower, at the same width of all else: how many
heads stay, each of how many dims. Weights are drawn; none of these figures needs others.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.bench.calibrate import TIMED
from edvit_tf.bench.latency import Subject, measure
from edvit_tf.config import HEADS
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig

PRE_GELU = 1.5  # as in trained models
# The runtime for which each target's graph is written: the two rows of a table.
TARGET_OF = {"tflite-runtime": "portable", "ai-edge-litert": "litert"}


def bench_heads(
    base: ViTConfig,
    kept: int,
    shapes: Sequence[tuple[int, int]] = (),
    *,
    threads: int = 1,
    runs: int = 40,
    turns: int = 5,
) -> list[dict]:
    """A row for each of HEADS, `merge` first, and for further `shapes` (heads, head_dim) of the
    attention: {"heads", "num_heads", "head_dim", "macs_deployed", "file_bytes", "ms": {runtime:
    {"median", "p95", "min", "of_merge"}}}, the files in turns; `of_merge` is the ratio of the
    medians turn by turn: median, min, max.

    Raises ConfigError unless `kept` is in 1..h.
    """
    widths = [("merge", base.pruned(kept, base.num_classes, "merge"))]
    for heads in HEADS:
        config = base.pruned(kept, base.num_classes, heads)
        if config not in [known for _, known in widths]:  # whole heads are as wide as merged ones
            widths.append((heads, config))
    for num_heads, head_dim in shapes:
        if min(num_heads, head_dim) < 1:
            raise ConfigError(
                f"{num_heads}x{head_dim} are no heads; give heads and dims of at least 1, as 4x32."
            )
        config = widths[0][1].replace(num_heads=num_heads, head_dim=head_dim)
        widths.append((f"{num_heads}x{head_dim}", config))

    with tempfile.TemporaryDirectory(prefix="edvit-heads-") as name:
        rows = [_exported(Path(name), heads, config) for heads, config in widths]
        _timed(rows, Path(name), base, threads, runs, turns)
    return [{key: row[key] for key in row if key != "files"} for row in rows]


def _exported(folder: Path, heads: str, config: ViTConfig) -> dict:
    """The row of a choice, with its file for each runtime."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.deployed import graph
    from edvit_tf.models.vit.spread import spread_weights

    weights = spread_weights(config, PRE_GELU)
    files = {}
    for target in TIMED:
        files[target] = folder / f"{heads}-{target}.tflite"
        function, signature = graph(config, weights, "image", "uint8", target)
        size = convert(function, signature, files[target], weights)
    return {
        "heads": heads,
        "num_heads": config.num_heads,
        "head_dim": config.head_dim,
        "macs_deployed": cost.macs_deployed(config),
        "file_bytes": size,
        "ms": {},
        "files": files,
    }


def _timed(
    rows: list[dict], folder: Path, base: ViTConfig, threads: int, runs: int, turns: int
) -> None:
    """Puts into each row its milliseconds in every runtime that is installed."""
    inputs = folder / "input.npy"
    drawn = np.random.default_rng(0).integers(0, 256, (1, *base.image_shape))
    np.save(inputs, drawn.astype(np.uint8))

    for runtime in installed_runtimes():
        target = TARGET_OF[runtime]
        subjects = []
        for row in rows:
            file = row["files"][target]
            subjects.append(Subject(runtime, target, file, inputs, threads, row["macs_deployed"]))

        # the first is merge's: what the others are compared with, turn by turn
        for row, found in zip(rows, measure(subjects, runs, turns), strict=True):
            if "failure" in found:
                row["ms"][runtime] = {"failure": found["failure"]}
                continue
            times = {name: found[name] for name in ("median", "p95", "min")}
            row["ms"][runtime] = times | {"of_merge": found["ratio"]}


def heads_text(rows: list[dict]) -> str:
    """The rows as a text table."""
    runtimes = list(rows[0]["ms"])
    head = f"{'heads':<9}{'attention':>11}{'MMACs':>9}{'MiB':>8}"
    lines = [head + "".join(f"{runtime + ': ms, of merge':>40}" for runtime in runtimes)]
    for row in rows:
        shape = f"{row['num_heads']} x {row['head_dim']}"
        line = f"{row['heads']:<9}{shape:>11}{row['macs_deployed'] / 1e6:>9.1f}"
        line += f"{row['file_bytes'] / 2**20:>8.2f}"
        for runtime in runtimes:
            line += f"{_cell(row['ms'][runtime]):>40}"
        lines.append(line)
    return "\n".join(lines)


def _cell(ms: dict) -> str:
    if "failure" in ms:
        return "FAILED"
    told = f"{ms['median']:.3f} ({ms['min']:.3f}-{ms['p95']:.3f})"
    ratio = ms["of_merge"]
    if ratio is None:
        return told
    return f"{told}, {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
