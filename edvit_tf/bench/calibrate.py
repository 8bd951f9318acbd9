"""Calibrates the estimate of milliseconds (`edvit_tf.planning.latency`) on one processor: ViTs of
many widths are timed, costs of each kind of work fitted to most of them, and the rest say how wrong
the estimate is.

The weights are drawn. Files to fit and files held out have no widths in common.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edvit_tf.config import TARGETS
from edvit_tf.device.model.timing import LIST
from edvit_tf.errors import ConfigError, DataError
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.operator_work import latency_terms
from edvit_tf.planning.latency import Calibration, Speed

# The runtime that each target's graph is for; "portable" runs in both.
TIMED = {"portable": ("tflite-runtime", "ai-edge-litert"), "litert": ("ai-edge-litert",)}
VECTORS = (4, 8, 16, 32)
PATCH = 16
PRE_GELU = 1.5  # spread of what GELU sees, as in trained models

# Image sides of 17, 50, 101, 145 and 197 tokens: the estimate has to know how the work grows.
# (side, blocks, d, heads, head_dim, c)
FITTED = (
    *((side, 4, 64, h, w, 256) for side in (64, 112, 224) for h, w in ((1, 64), (6, 10), (3, 24))),
    *((side, 4, 128, h, w, 512) for side in (112, 224) for h, w in ((2, 64), (12, 10), (4, 32))),
    *((side, 3, 192, h, w, 768) for side in (112, 192) for h, w in ((3, 64), (6, 32), (12, 16))),
    *((112, blocks, 96, 3, 32, 384) for blocks in (1, 2, 12)),
    (160, 2, 256, 4, 64, 1024),
    (160, 3, 48, 2, 24, 192),
    (160, 3, 32, 1, 32, 512),
    (192, 3, 256, 8, 32, 256),
    (64, 12, 384, 6, 64, 1536),
)
HELD_OUT = (
    (112, 12, 64, 2, 32, 256),
    (112, 12, 64, 4, 16, 256),
    (112, 6, 160, 5, 32, 640),
    (160, 4, 80, 4, 20, 320),
    (192, 6, 128, 8, 16, 512),
    (224, 12, 128, 2, 64, 512),
    (224, 12, 128, 12, 10, 512),
    (224, 12, 128, 6, 20, 512),
)


def probes() -> list[tuple[ViTConfig, bool]]:
    """Every ViT that is timed, and whether it is held out of the fit."""
    found = [(_config(*widths), False) for widths in FITTED]
    return found + [(_config(*widths), True) for widths in HELD_OUT]


def _config(side: int, blocks: int, d: int, heads: int, head_dim: int, c: int) -> ViTConfig:
    return ViTConfig(
        image_shape=(side, side, 3),
        patch_size=PATCH,
        num_layers=blocks,
        hidden_dim=d,
        num_heads=heads,
        head_dim=head_dim,
        mlp_dim=c,
        num_classes=10,
    )


def write_files(folder: Path, targets: Sequence[str] = TARGETS) -> None:
    """The .tflite files of every probe and target, and the list that
    `python -m edvit_tf.device.model.timing FOLDER` reads. Raises DataError where the folder holds
    something already.
    """
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.deployed import graph
    from edvit_tf.models.vit.spread import spread_weights

    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; give a folder that is new, or empty.")
    folder.mkdir(parents=True, exist_ok=True)

    listed = []
    for number, (config, held_out) in enumerate(probes()):
        weights = spread_weights(config, PRE_GELU)
        for target in targets:
            name = f"{number:03d}-{target}.tflite"
            function, signature = graph(config, weights, "image", "uint8", target)
            convert(function, signature, folder / name, weights)
            listed.append(
                {
                    "file": name,
                    "input": "image",
                    "shape": list(config.image_shape),
                    "dtype": "uint8",
                    "runtimes": list(TIMED[target]),
                    "target": target,
                    "held_out": held_out,
                    "config": config.to_dict(),
                }
            )

    text = json.dumps({"files": listed}, indent=1)
    (folder / LIST).write_text(text, encoding="utf-8")


def calibration(folder: Path, times: Mapping) -> tuple[Calibration, list[dict]]:
    """The calibration that `times` (of `timing.time_files`) of the files of `folder` give, and a
    row for each file held out: runtime, threads, target, config, ms and estimated_ms.

    Raises ConfigError for a folder that lists no files, for times of other files, or of too few,
    and for one that is no time.
    """
    groups: dict[tuple, list[tuple[ViTConfig, bool, float]]] = {}
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))["files"]
        by_name = {file["file"]: file for file in listed}
        for row in times["rows"]:
            file = by_name[row["file"]]
            key = (row["runtime"], row["threads"], file["target"])
            config = ViTConfig.from_dict(file["config"])
            groups.setdefault(key, []).append((config, file["held_out"], _time(row)))
        processor = str(times["processor"])
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"these are no times of the files of {folder} ({error!r:.200}). Time them with "
            f"`python -m edvit_tf.device.model.timing {folder}`."
        ) from error

    speeds = []
    judged = []
    for (runtime, threads, target), timed in groups.items():
        speed, rows = _fitted(runtime, threads, target, timed)
        speeds.append(speed)
        judged += rows
    return Calibration(processor=processor, speeds=tuple(speeds)), judged


def _time(row: Mapping) -> float:
    """The milliseconds of a row. Raises ValueError unless they are above 0, and finite."""
    ms = float(row["ms"])
    if not 0 < ms < np.inf:
        raise ValueError(f"{ms} ms of {row['file']} are no time")
    return ms


def _fitted(runtime: str, threads: int, target: str, timed: list) -> tuple[Speed, list[dict]]:
    """The costs of one runtime, and how far off they are on what is held out."""
    seen = [(config, ms) for config, held_out, ms in timed if not held_out]
    unseen = [(config, ms) for config, held_out, ms in timed if held_out]
    if len(seen) < len(FITTED) or not unseen:
        raise ConfigError(
            f"of {runtime} with {threads} threads {len(seen)} files were timed; the fit needs all "
            f"{len(FITTED)}, and one at least that is held out. Time the whole folder."
        )

    # the width of the processor's vectors is not asked for: what fits best is taken
    tried = [(*_costs(seen, vector), vector) for vector in VECTORS]
    costs, _, vector = min(tried, key=lambda one: one[1])

    speed = Speed(
        runtime=runtime,
        threads=threads,
        target=target,
        vector=vector,
        ms_each=costs,
        mean_error_percent=0.0,
        largest_error_percent=0.0,
        held_out=len(unseen),
    )
    rows = []
    for config, ms in unseen:
        estimated = speed.milliseconds(config)
        assert estimated is not None  # a ViT's work is counted
        found = {"runtime": runtime, "threads": threads, "target": target}
        rows.append(found | {"config": config.to_dict(), "ms": ms, "estimated_ms": estimated})

    errors = [100 * abs(row["estimated_ms"] / row["ms"] - 1) for row in rows]
    judged = speed.replace(
        mean_error_percent=float(np.mean(errors)), largest_error_percent=float(max(errors))
    )
    return judged, rows


def _costs(seen: list[tuple[ViTConfig, float]], vector: int) -> tuple[dict[str, float], float]:
    """ms of one of each kind of work, none below 0, and the mean squared relative error: least
    squares of ratios, so that a small file counts as much as a large one.
    """
    from scipy.optimize import nnls

    terms = [latency_terms(config, vector) for config, _ in seen]
    names = list(terms[0])
    ms = np.array([measured for _, measured in seen])
    amounts = np.array([[one[name] for name in names] for one in terms])

    # columns of like size, for the solver; rows by their milliseconds: each target is 1
    scale = amounts.max(axis=0)
    solved, rest = nnls(amounts / scale / ms[:, np.newaxis], np.ones(len(ms)))
    costs = {name: float(cost) for name, cost in zip(names, solved / scale, strict=True)}
    return costs, rest**2 / len(ms)


def calibration_text(found: Calibration, judged: list[dict]) -> str:
    """The files held out, measured and estimated, and the error of each runtime."""
    lines = [f"{found.processor}", ""]
    lines.append(
        f"{'runtime':<17}{'threads':>8} {'graph':<10}{'tokens':>7}{'blocks':>7}{'d':>5}"
        f"{'heads':>9}{'ms':>9}{'estimate':>10}{'error':>8}"
    )
    for row in judged:
        config = ViTConfig.from_dict(row["config"])
        heads = f"{config.num_heads} x {config.head_dim}"
        error = row["estimated_ms"] / row["ms"] - 1
        lines.append(
            f"{row['runtime']:<17}{row['threads']:>8} {row['target']:<10}{config.num_tokens:>7}"
            f"{config.num_layers:>7}{config.hidden_dim:>5}{heads:>9}{row['ms']:>9.3f}"
            f"{row['estimated_ms']:>10.3f}{error:>8.1%}"
        )
    lines.append("")
    for speed in found.speeds:
        lines.append(
            f"{speed.runtime}, {speed.threads} thread{'s' * (speed.threads > 1)}, "
            f"{speed.target}: {speed.held_out} files held out, error "
            f"{speed.mean_error_percent:.1f} % on the mean, {speed.largest_error_percent:.1f} % at "
            f"most (vectors of {speed.vector})"
        )
    return "\n".join(lines)
