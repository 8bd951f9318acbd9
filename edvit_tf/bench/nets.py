"""Split-CNN's and Split-SNN's nets at their full size: bytes of the files, MACs, milliseconds in
each runtime. The weights are drawn: none of these figures needs others.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.bench.latency import Subject, measure
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig, architecture, preset
from edvit_tf.planning.fleets import most_kept

SIDE = 32  # CIFAR-10's
CLASSES = 10  # of a base; a sub-model has one, and "other"


def bench_nets(
    nets: Sequence[str],
    kept: Sequence[int] = (),
    most_bytes: Sequence[int] = (),
    runs: int = 40,
    turns: int = 5,
) -> list[dict]:
    """A row for each net as it is, for each share in percent of it that is `kept`, and for the
    largest share whose file has at most so many bytes, found by their formula: {"net", "kept",
    "features", "macs", "file_bytes", "ms": {runtime: {"median", "p95", "min"}}}, one
    thread, the files in turns. `runs` 0: nothing is timed.

    Raises ConfigError for a net without filters, and for bytes that hold not even one share.
    """
    with tempfile.TemporaryDirectory(prefix="edvit-nets-") as name:
        rows = []
        for net in nets:
            for share, config in _cuts(net, kept, most_bytes):
                rows.append(_exported(Path(name) / f"{len(rows)}.tflite", net, share, config))
        if runs:
            _timed(rows, Path(name), runs, turns)
    return [{key: row[key] for key in row if key != "file"} for row in rows]


def _cuts(
    net: str, kept: Sequence[int], most_bytes: Sequence[int]
) -> list[tuple[int, ModelConfig]]:
    base = preset(net, (SIDE, SIDE, 3), CLASSES)
    if not hasattr(architecture(base), "by_threshold"):
        raise ConfigError(f"{net} is no net of filters; give presets of vgg or snn, as vgg16.")

    shares = list(kept)
    for most in most_bytes:
        found = most_kept(base.replace(num_classes=2), most, "keep")
        if not found:
            raise ConfigError(f"no share of {net} has a file of {most} bytes; give more.")
        shares.append(found)
    return [(base.shares, base), *((share, base.pruned(share, 2)) for share in shares)]


def _exported(file: Path, net: str, share: int, config: ModelConfig) -> dict:
    from edvit_tf.export.convert import convert
    from edvit_tf.models.weights import initial_weights

    known = architecture(config)
    weights = initial_weights(config, 0)
    size = convert(*known.graph(config, weights, "image", "uint8"), file, weights)
    return {
        "net": net,
        "kept": share,
        "filters": list(config.filters),
        "features": config.feature_dim,
        "macs": known.macs(config),
        "file_bytes": size,
        "ms": {},
        "file": file,
    }


def _timed(rows: list[dict], folder: Path, runs: int, turns: int) -> None:
    """Puts into each row the milliseconds of its file in every runtime."""
    inputs = folder / "input.npy"
    np.save(inputs, np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8))
    places, subjects = [], []
    for row in rows:
        for runtime in installed_runtimes():
            places.append(row)
            subjects.append(Subject(runtime, row["net"], row["file"], inputs, 1, row["macs"]))

    for row, found in zip(places, measure(subjects, runs, turns), strict=True):
        row["ms"][found["engine"]] = {name: found[name] for name in ("median", "p95", "min")}


def nets_text(rows: list[dict]) -> str:
    """The rows as a text table; milliseconds are median, least and 95th percentile of all runs."""
    engines = list(rows[0]["ms"])
    head = f"{'net':<12}{'kept %':>7}{'F':>6}{'MMACs':>9}{'MiB':>9}"
    lines = [head + "".join(f"{engine + ', ms':>34}" for engine in engines)]
    for row in rows:
        line = f"{row['net']:<12}{row['kept']:>7}{row['features']:>6}{row['macs'] / 1e6:>9.1f}"
        line += f"{row['file_bytes'] / 2**20:>9.2f}"
        for engine in engines:
            ms = row["ms"][engine]
            told = f"{ms['median']:.3f} ({ms['min']:.3f}-{ms['p95']:.3f})"
            line += f"{told:>34}"
        lines.append(line)
    return "\n".join(lines)
