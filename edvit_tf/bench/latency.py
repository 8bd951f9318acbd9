"""Latency, memory and load time of a sub-model in the TFLite runtimes, beside other runtimes on the
same architecture.

Every engine runs in a process of its own; the engines take turns, so that a slow moment of the
machine hits all of them, and ratios are taken turn by turn. One input, batch 1. In our files the
last block runs for the class token alone, where the head reads nothing else; Keras's own export and
the rivals run it on all tokens (the figures say how many MACs each computes).
"""

import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.bench import rivals
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.device.model.subprocess_run import ModelFailed, run_model
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig

WARM_UP = 5  # runs of every process that are not counted
EXPORTED = (
    ("portable", "portable", "float32"),
    ("litert", "litert", "float32"),
    ("int8", "litert", "int8"),
)
KERAS = "Keras as it is"  # the graph that Keras's own exporter writes


@dataclass(frozen=True)
class Subject:
    """One row: an engine on one file with a number of threads."""

    engine: str  # a TFLite runtime, or one of rivals.MODULES
    graph: str  # "portable", "litert", "float16" ..., KERAS; for rivals "ONNX" or "eager"
    file: Path  # .tflite; the folder of `rivals` otherwise
    inputs: Path  # .npy (1, H, W, C), of the dtype that the file takes
    threads: int
    macs: int

    @property
    def ours(self) -> bool:
        return self.engine not in rivals.MODULES


def subjects(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    folder: Path,
    threads: Sequence[int],
    against: Sequence[str],
    files: Mapping[str, Path] | None = None,
    input_name: str = "image",
    input_dtype: str = "uint8",
    naive: bool = False,
) -> list[Subject]:
    """Rows to measure; what they need is written into `folder`. Our files take
    `input_name` of `input_dtype`.

    `files` are .tflite files by flavour (None: both targets and int8 are exported); `against` names
    rivals; `naive` adds Keras's own export. The first row is what others are compared with.
    """
    from edvit_tf.export.convert import RUNTIMES, convert
    from edvit_tf.models.vit.deployed import graph as deployed

    x = np.random.default_rng(0).integers(0, 256, (1, *config.image_shape))
    given, floats = folder / "given.npy", folder / "input.npy"
    np.save(floats, x.astype(np.float32))
    np.save(given, x.astype(input_dtype))
    if files is None:
        files = {}
        for name, target, flavour in EXPORTED:
            files[name] = folder / f"{name}.tflite"
            graph_of = deployed(config, weights, input_name, input_dtype, target)
            convert(*graph_of, files[name], weights, flavour)
    rows = []
    runtimes, loads = installed_runtimes(), {**RUNTIMES, "litert": ("ai-edge-litert",)}
    for count in threads:
        for graph, file in files.items():
            rows += [
                Subject(runtime, graph, file, given, count, cost.macs_deployed(config))
                for runtime in runtimes
                if runtime in loads.get(graph, runtimes)
            ]
        if naive:
            file = _naive(config, weights, folder)
            rows += [
                Subject(runtime, KERAS, file, floats, count, cost.macs_full(config))
                for runtime in runtimes
            ]
    if against:
        _rival_files(config, weights, folder, onnx=set(against) != {"torch"})
        graphs = {engine: "eager" if engine == "torch" else "ONNX" for engine in against}
        rows += [
            Subject(engine, graph, folder, floats, count, cost.macs_full(config))
            for count in threads
            for engine, graph in graphs.items()
        ]
    return rows


def measure(rows: Sequence[Subject], runs: int = 40, turns: int = 5) -> list[dict]:
    """Each row's figures over `turns` alternating turns of `runs` after warm-up, in milliseconds;
    plain JSON.

    engine (with version), graph, threads, median, p95, min, load_ms (median over turns), first_ms,
    peak_rss_bytes (None for rivals), gmacs, gflops (2 MACs / median), ratio (median over turns of
    own median / the first row's in the same turn, with its least and largest), or failure.
    """
    found: list[list[dict | str]] = [[] for _ in rows]
    for _ in range(turns):
        for row, reports in zip(rows, found, strict=True):
            if not (reports and isinstance(reports[-1], str)):
                reports.append(_once(row, runs))
    result = []
    for row, reports in zip(rows, found, strict=True):
        entry = {
            "engine": row.engine,
            "graph": row.graph,
            "threads": row.threads,
            "gmacs": row.macs / 1e9,
            "file_bytes": row.file.stat().st_size if row.ours else None,
        }
        failed = next((r for r in reports if isinstance(r, str)), None)
        if failed:
            result.append({**entry, "failure": failed})
            continue
        times = np.concatenate([r["times_ms"][WARM_UP:] for r in reports])
        median = float(np.median(times))
        ratios = (
            [
                np.median(r["times_ms"][WARM_UP:]) / np.median(first["times_ms"][WARM_UP:])
                for r, first in zip(reports, found[0], strict=True)
            ]
            if not isinstance(found[0][-1], str)
            else []
        )
        result.append(
            {
                **entry,
                "engine": reports[0]["engine"],
                "median": median,
                "p95": float(np.quantile(times, 0.95)),
                "min": float(times.min()),
                "load_ms": statistics.median(r["load_ms"] for r in reports),
                "first_ms": statistics.median(r["times_ms"][0] for r in reports),
                "peak_rss_bytes": max((r["peak_rss_bytes"] or 0 for r in reports), default=0)
                or None,
                "gflops": 2 * row.macs / median / 1e6,
                "ratio": {
                    "median": float(np.median(ratios)),
                    "min": float(min(ratios)),
                    "max": float(max(ratios)),
                }
                if ratios
                else None,
            }
        )
    return result


def bench_latency(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    *,
    threads: Sequence[int] = (1,),
    runs: int = 40,
    turns: int = 5,
    against: Sequence[str] | None = None,
    files: Mapping[str, Path] | None = None,
    input_name: str = "image",
    input_dtype: str = "uint8",
    naive: bool = False,
) -> dict:
    """`measure` of a model in every engine that is there (`against`: these rivals), and the
    machine's sgemm rate.

    Raises ConfigError for a rival that is not installed.
    """
    from edvit_tf.errors import ConfigError

    known = rivals.installed()
    missing = [name for name in against or () if name not in known]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} cannot be measured here; installed: "
            f"{', '.join(known) or 'none'}. "
            "Run: pip install -e '.[bench]'."
        )
    with tempfile.TemporaryDirectory(prefix="edvit-bench-") as name:
        folder = Path(name)
        rows = subjects(
            config,
            weights,
            folder,
            threads,
            known if against is None else against,
            files,
            input_name,
            input_dtype,
            naive,
        )
        measured = measure(rows, runs, turns)
        peak = {count: rivals.run_rival("sgemm", folder, count, 10)["gflops"] for count in threads}
    return {
        "config": config.to_dict(),
        "params": cost.params(config),
        "runs": runs,
        "turns": turns,
        "rows": measured,
        "sgemm_gflops": peak,
    }


def latency_text(result: dict) -> str:
    """The result as a text table; ratios are to the first row, over turns."""
    lines = [
        f"{'engine':<24}{'graph':<16}{'thr':>4}{'median ms':>11}{'p95':>9}{'min':>9}{'load':>8}{'first':>8}"
        f"{'RSS MiB':>9}{'GMACs':>8}{'of sgemm':>10}{'ratio (least-largest)':>24}"
    ]
    for row in result["rows"]:
        head = f"{row['engine']:<24}{row['graph']:<16}{row['threads']:>4}"
        if "failure" in row:
            lines.append(f"{head}  FAILED: {row['failure']}")
            continue
        rss = f"{row['peak_rss_bytes'] / 2**20:.0f}" if row["peak_rss_bytes"] else "-"
        ratio = row["ratio"]
        shown = f"{ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f})" if ratio else "-"
        lines.append(
            f"{head}{row['median']:>11.3f}{row['p95']:>9.3f}{row['min']:>9.3f}{row['load_ms']:>8.1f}{row['first_ms']:>8.2f}"
            f"{rss:>9}{row['gmacs']:>8.3f}{row['gflops'] / result['sgemm_gflops'][row['threads']]:>10.0%}{shown:>24}"
        )
    rates = ", ".join(
        f"{rate:.0f} GFLOP/s on {count} thread{'s' * (count > 1)}"
        for count, rate in result["sgemm_gflops"].items()
    )
    lines.append(
        f"{result['turns']} alternating turns of {result['runs']} runs after {WARM_UP} to warm up, "
        "batch 1, each turn "
        "in a process of its own.\nGMACs: multiply-accumulates that the graph computes, attention "
        "products included; "
        "in our graphs the last block\nruns for the class token alone, where the head reads "
        "nothing else. "
        f"sgemm: {rates} (numpy, 1,536 squared)."
    )
    return "\n".join(lines)


def spread_weights(config: ViTConfig, pre_gelu: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a model whose pre-GELU values spread as a trained one's do (standard
    deviation `pre_gelu`).

    Freshly initialised models have values near 0 there, on which the erf of a native GELU is
    several times faster.
    """
    from edvit_tf.models.weights import initial_weights

    weights, rng = initial_weights(config, seed), np.random.default_rng(seed)
    for i in range(config.num_layers):
        name = f"block_{i:02d}.mlp.expand.kernel"
        weights[name] = rng.normal(
            0, pre_gelu / config.hidden_dim**0.5, weights[name].shape
        ).astype(np.float32)
    return weights


def _once(row: Subject, runs: int) -> dict | str:
    """One process: times_ms, load_ms, engine; or how it failed."""
    if row.ours:
        try:
            _, report = run_model(
                row.file, row.inputs, threads=row.threads, repeat=WARM_UP + runs, runtime=row.engine
            )
        except ModelFailed as failure:
            return str(failure)
        return {**report, "engine": report["runtime"]}
    return {
        "peak_rss_bytes": None,
        **rivals.run_rival(row.engine, row.file, row.threads, WARM_UP + runs),
    }


def _naive(config: ViTConfig, weights: Mapping[str, np.ndarray], folder: Path) -> Path:
    """The .tflite file that TensorFlow's converter makes of the Keras model, batch 1."""
    import tensorflow as tf

    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import set_weights

    file = folder / "keras.tflite"
    if not file.is_file():
        model = build_vit(config, batch_size=1)
        set_weights(model, weights)
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # Keras lists every variable; figures alone go to standard output
            file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return file


def _rival_files(
    config: ViTConfig, weights: Mapping[str, np.ndarray], folder: Path, onnx: bool
) -> None:
    if onnx:
        from edvit_tf.bench.onnx_graph import write_onnx

        write_onnx(config, weights, folder / "model.onnx")
    np.savez(folder / "weights.npz", **weights)
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
