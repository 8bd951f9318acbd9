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
from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.export.quantizer import RECIPES, check_installed, quantize
from edvit_tf.models import architecture
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
    quantizer: bool = False,
) -> list[Subject]:
    """Rows to measure; what they need is written into `folder`. Our files take
    `input_name` of `input_dtype`.

    `files` are .tflite files by flavour (None: both targets and int8 are exported); `against` names
    rivals; `naive` adds Keras's own export, and `quantizer` what ai-edge-quantizer makes of the
    litert graph, where our files are exported here. The first row is what others are compared with.
    """
    from edvit_tf.export.convert import RUNTIMES

    # The same values for every engine; our files take them in their own type.
    x = np.random.default_rng(0).integers(0, 256, (1, *config.image_shape))
    given = folder / "given.npy"
    floats = folder / "input.npy"
    np.save(floats, x.astype(np.float32))
    np.save(given, x.astype(input_dtype))

    if files is None:
        files = _exported(config, weights, folder, input_name, input_dtype)
        if quantizer:
            files |= _quantized(files["litert"], folder)

    runtimes = installed_runtimes()
    litert_alone = dict.fromkeys(("litert", *RECIPES), ("ai-edge-litert",))
    loads = {**RUNTIMES, **litert_alone}  # the runtimes that load a graph
    rows = []
    for count in threads:
        for graph, file in files.items():
            for runtime in runtimes:
                if runtime in loads.get(graph, runtimes):
                    macs = cost.macs_deployed(config)
                    rows.append(Subject(runtime, graph, file, given, count, macs))

        if naive:
            file = _naive(config, weights, folder)
            for runtime in runtimes:
                macs = cost.macs_full(config)
                rows.append(Subject(runtime, KERAS, file, floats, count, macs))

    # Rivals read the weights or an ONNX file; torch alone needs no ONNX.
    if against:
        _rival_files(config, weights, folder, onnx=set(against) != {"torch"})
    for count in threads:
        for engine in dict.fromkeys(against):
            graph = "eager" if engine == "torch" else "ONNX"
            rows.append(Subject(engine, graph, folder, floats, count, cost.macs_full(config)))
    return rows


def _exported(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    folder: Path,
    input_name: str,
    dtype: str,
) -> dict[str, Path]:
    """Our files of these weights, by name: for each target, and int8."""
    from edvit_tf.export.convert import convert

    known = architecture(config)
    files = {}
    for name, target, flavour in EXPORTED:
        files[name] = folder / f"{name}.tflite"
        graph, signature = known.graph(config, weights, input_name, dtype, target)
        convert(graph, signature, files[name], weights, flavour)
    return files


def _quantized(file: Path, folder: Path) -> dict[str, Path]:
    """ai-edge-quantizer's files of one of ours, by recipe."""
    files = {}
    for recipe in RECIPES:
        files[recipe] = folder / f"{recipe}.tflite"
        quantize(file, files[recipe], recipe)
    return files


def measure(rows: Sequence[Subject], runs: int = 40, turns: int = 5) -> list[dict]:
    """Each row's figures over `turns` alternating turns of `runs` after warm-up, in milliseconds;
    plain JSON.

    engine (with version), graph, threads, median, p95, min, load_ms (median over turns), first_ms,
    peak_rss_bytes (None for rivals), gmacs, gflops (2 MACs / median), ratio (median over turns of
    own median / the first row's in the same turn, with its least and largest), or failure.
    """
    reports: list[list[dict | str]] = [[] for _ in rows]  # of each row, one a turn
    for _ in range(turns):
        for row, own in zip(rows, reports, strict=True):
            # A row that failed would fail again, and take its time.
            if not _failure(own):
                own.append(_once(row, runs))

    result = []
    for row, own in zip(rows, reports, strict=True):
        entry = {
            "engine": row.engine,
            "graph": row.graph,
            "threads": row.threads,
            "gmacs": row.macs / 1e9,
            "file_bytes": row.file.stat().st_size if row.ours else None,
        }

        failure = _failure(own)
        entry |= {"failure": failure} if failure else _figures(row, own, reports[0])
        result.append(entry)
    return result


def _failure(reports: list[dict | str]) -> str | None:
    """How a row failed; it is not tried again after that."""
    if reports and isinstance(reports[-1], str):
        return reports[-1]
    return None


def _figures(row: Subject, reports: list, first: list) -> dict:
    """The figures of a row from its turns; `first` are those of the row that others are compared
    with.
    """
    # (turns * runs,)
    times = np.concatenate([report["times_ms"][WARM_UP:] for report in reports])
    # Pooled: every run of every turn counts alike.
    median = float(np.median(times))
    peak = max(report["peak_rss_bytes"] or 0 for report in reports)

    return {
        "engine": reports[0]["engine"],
        "median": median,
        "p95": float(np.quantile(times, 0.95)),
        "min": float(times.min()),
        "load_ms": statistics.median(report["load_ms"] for report in reports),
        "first_ms": statistics.median(report["times_ms"][0] for report in reports),
        "peak_rss_bytes": peak or None,
        "gflops": 2 * row.macs / median / 1e6,
        "ratio": None if _failure(first) else _ratio(reports, first),
    }


def _ratio(reports: list, first: list) -> dict:
    """Own median over the first row's, turn by turn."""
    ratios = []
    # Of one turn each: what slowed the machine then slowed both.
    for own, other in zip(reports, first, strict=True):
        ratios.append(np.median(own["times_ms"][WARM_UP:]) / np.median(other["times_ms"][WARM_UP:]))
    return {
        "median": float(np.median(ratios)),
        "min": float(min(ratios)),
        "max": float(max(ratios)),
    }


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
    quantizer: bool = False,
) -> dict:
    """`measure` of a model in every engine that is there (`against`: these rivals), and the
    machine's sgemm rate.

    Raises ConfigError for a rival, or the quantizer, that is not installed.
    """
    from edvit_tf.errors import ConfigError

    # Before anything is exported, which takes its time.
    known = rivals.installed()
    missing = [name for name in against or () if name not in known]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} cannot be measured here; installed: "
            f"{', '.join(known) or 'none'}. Run: pip install -e '.[bench]'."
        )
    if against is None:
        against = known
    if quantizer:
        check_installed()

    with tempfile.TemporaryDirectory(prefix="edvit-bench-") as name:
        folder = Path(name)
        rows = subjects(
            config,
            weights,
            folder,
            threads,
            against,
            files,
            input_name,
            input_dtype,
            naive,
            quantizer,
        )
        measured = measure(rows, runs, turns)
        # What the machine can do at its best with as many threads.
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
        f"{'engine':<24}{'graph':<22}{'thr':>4}{'median ms':>11}{'p95':>9}{'min':>9}"
        f"{'load':>8}{'first':>8}{'bytes':>12}{'RSS MiB':>9}{'GMACs':>8}{'of sgemm':>10}"
        f"{'ratio (least-largest)':>24}"
    ]
    for row in result["rows"]:
        head = f"{row['engine']:<24}{row['graph']:<22}{row['threads']:>4}"
        if "failure" in row:
            lines.append(f"{head}  FAILED: {row['failure']}")
        else:
            lines.append(head + _cells(row, result["sgemm_gflops"][row["threads"]]))

    rates = []
    for count, rate in result["sgemm_gflops"].items():
        rates.append(f"{rate:.0f} GFLOP/s on {count} thread{'s' * (count > 1)}")
    lines += [
        f"{result['turns']} alternating turns of {result['runs']} runs after {WARM_UP} to warm up, "
        "batch 1, each turn in a process of its own.",
        "GMACs: multiply-accumulates that the graph computes, attention products included; in our "
        "graphs the last block",
        "runs for the class token alone, where the head reads nothing else. "
        f"sgemm: {', '.join(rates)} (numpy, 1,536 squared).",
    ]
    return "\n".join(lines)


def _cells(row: dict, sgemm_gflops: float) -> str:
    """The figures of one row of the table."""
    # Of rivals nobody knows it.
    size = f"{row['file_bytes']:,}" if row["file_bytes"] else "-"
    rss = f"{row['peak_rss_bytes'] / 2**20:.0f}" if row["peak_rss_bytes"] else "-"
    ratio = "-"
    if row["ratio"]:
        shares = row["ratio"]
        ratio = f"{shares['median']:.3f} ({shares['min']:.3f}-{shares['max']:.3f})"

    return (
        f"{row['median']:>11.3f}{row['p95']:>9.3f}{row['min']:>9.3f}"
        f"{row['load_ms']:>8.1f}{row['first_ms']:>8.2f}{size:>12}{rss:>9}{row['gmacs']:>8.3f}"
        f"{row['gflops'] / sgemm_gflops:>10.0%}{ratio:>24}"
    )


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
        # Keras lists every variable; figures alone go to standard output
        with contextlib.redirect_stdout(sys.stderr):
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
