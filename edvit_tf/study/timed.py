"""Milliseconds and memory of models on exported files, against the number of devices: each file in
each TFLite runtime that is installed.

Random weights do for this, of a ViT with values before GELU spread as a trained one's, since erf is
faster near 0. Every measurement is a worker's process of its own, without TensorFlow; files and
runtimes take turns, so that a slow moment of the machine hits all of them.
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edvit_tf.checked import digest
from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig, architecture, config_from_dict

WARM_UP = 3  # runs of every process that are not counted
PRE_GELU = 1.5  # standard deviation of what a trained ViT gives its GELU


def timed(
    rows: Sequence[dict],
    *,
    threads: int = 1,
    runs: int = 10,
    turns: int = 3,
    runtimes: Sequence[str] | None = None,
) -> list[dict]:
    """The rows of `against_n.against_n` with "measured": {runtime with version: figures}, and
    "exported_bytes". Rows of equal widths have one file, and are measured once.

    Figures: median_ms over all counted runs; turns_ms, the median of each turn, whose spread says
    how sure it is; p95_ms; load_ms; peak_rss_bytes of the process; threads, runs, turns. Or
    {"failure": words}, of a file that does not run here. Raises ConfigError for a runtime that is
    not installed.
    """
    chosen = _runtimes(runtimes)
    with tempfile.TemporaryDirectory(prefix="edvit-timed-") as name:
        files = dict(_exported(rows, Path(name)))
        jobs = [(key, runtime) for key in files for runtime in chosen]

        reports: dict[tuple[str, str], list] = {job: [] for job in jobs}
        for _ in range(turns):
            for key, runtime in jobs:
                own = reports[key, runtime]
                # what failed once would fail again, and take its time
                if not own or isinstance(own[-1], dict):
                    own.append(_once(*files[key], runtime, threads, runs))
            jobs.reverse()
        sizes = {key: file.stat().st_size for key, (file, _) in files.items()}

    settings = {"threads": threads, "runs": runs, "turns": turns}
    done = []
    for row in rows:
        key = _key(row)
        measured = {}
        for runtime in chosen:
            title, figures = _figures(runtime, reports[key, runtime])
            measured[title] = {**figures, **settings}
        done.append({**row, "exported_bytes": sizes[key], "measured": measured})
    return done


def _runtimes(wanted: Sequence[str] | None) -> tuple[str, ...]:
    here = installed_runtimes()
    missing = [name for name in wanted or () if name not in here]
    if missing or not here:
        raise ConfigError(
            f"{', '.join(missing) or 'no TFLite runtime'} cannot be measured here; installed: "
            f"{', '.join(here) or 'none'}. Install it, or leave it out."
        )
    return tuple(wanted or here)


def _key(row: dict) -> str:
    return digest(row["config"])[:16]


def _exported(rows: Sequence[dict], folder: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """(key, (file, its input)) of every width that there is, once."""
    for key, row in {_key(row): row for row in rows}.items():
        config = config_from_dict(row["config"])
        given = folder / f"{key}.npy"
        np.save(given, _input(config))
        yield key, (_export(config, folder / f"{key}.tflite"), given)


def _input(config: ModelConfig) -> np.ndarray:
    """One made-up input (1, ...): a picture, or pieces of a text."""
    rng = np.random.default_rng(0)
    shape = (1, *config.input_shape)
    if len(shape) == 2:
        return rng.integers(1, config.vocab_size, shape).astype(np.int32)
    return rng.integers(0, 256, shape).astype(np.uint8)


def _export(config: ModelConfig, path: Path) -> Path:
    """The float32 file of a configuration, as bundles have it."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.spread import spread_weights
    from edvit_tf.models.weights import initial_weights

    if config.architecture == "vit":
        weights = spread_weights(config, PRE_GELU)
    else:
        weights = initial_weights(config, 0)

    name, dtype = ("text", "int32") if len(config.input_shape) == 1 else ("image", "uint8")
    graph, signature = architecture(config).graph(config, weights, name, dtype, "portable")
    convert(graph, signature, path, weights)
    return path


def _once(file: Path, given: Path, runtime: str, threads: int, runs: int) -> dict | str:
    """One process: its report; or how it failed."""
    try:
        _, report = run_model(file, given, threads=threads, repeat=WARM_UP + runs, runtime=runtime)
    except ModelFailed as failure:
        return str(failure)
    return report


def _figures(runtime: str, reports: Sequence[dict | str]) -> tuple[str, dict]:
    """Name with version, and the figures of all turns."""
    if isinstance(reports[-1], str):
        return runtime, {"failure": reports[-1]}

    counted = [report["times_ms"][WARM_UP:] for report in reports]
    every = np.concatenate(counted)
    figures = {
        "median_ms": round(float(np.median(every)), 4),
        "p95_ms": round(float(np.quantile(every, 0.95)), 4),
        "turns_ms": [round(float(np.median(times)), 4) for times in counted],
        "load_ms": round(statistics.median(report["load_ms"] for report in reports), 3),
        "peak_rss_bytes": max(report["peak_rss_bytes"] or 0 for report in reports) or None,
    }
    return reports[0]["runtime"], figures
