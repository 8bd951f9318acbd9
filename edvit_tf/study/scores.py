"""Do the cheap scores rank units like leave-one-out, how much does that agree with itself, and what
does each cost?
"""

import time
from collections.abc import Iterator

import numpy as np

from edvit_tf.models.vit.config import CUTS as STAGES
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.functions import mask_shapes
from edvit_tf.pruning.importance import importance
from edvit_tf.pruning.leave_one_out import exact
from edvit_tf.pruning.slopes import from_slopes
from edvit_tf.study.common import Base, Rows, draw

METHODS = ("linearised", "fisher", "magnitude", "exact_again")  # compared with exact, in this order


def agreement(base: Base, rows: Rows, *, samples: int, units: int, seed: int) -> Iterator[dict]:
    """Rank agreement with `exact` for each kind of unit and layer, one row each, on the same
    `samples` inputs.

    Exact scores are taken for a seeded sample of `units` units of each layer (of the residual
    stream: of 4 * units channels). A row has Spearman's rho of linearised and fisher with exact
    over those units, the share of the exact top quarter that each finds, and the same of exact with
    itself on as many other inputs; and the magnitude's.
    """
    config, weights = base.config, base.weights
    ours, others = (draw(base, "train", samples, seed, skip).x for skip in (0, samples))
    rng = np.random.default_rng([seed, 1])
    chosen = {
        name: np.sort(
            rng.choice(width, min(width, units * (4 if stage == "residual" else 1)), replace=False)
        )
        for stage in STAGES
        for name, width in mask_shapes(config, stage).items()
    }
    cheap = None
    for stage in STAGES:
        for name in mask_shapes(config, stage):

            def measure(stage=stage, name=name):
                nonlocal cheap
                if cheap is None:
                    cheap = from_slopes(config, weights, ours)
                some = chosen[name]
                truth, again = (
                    exact(config, weights, x, stage, units={name: some})[name][some]
                    for x in (ours, others)
                )
                magnitudes = importance(config, weights, ours, stage, "magnitude")[name][some]
                found = {
                    method: _compare(scores[name][some], truth) for method, scores in cheap.items()
                }
                return {
                    "units": len(some),
                    **found,
                    "magnitude": _compare(magnitudes, truth),
                    "exact_again": _compare(again, truth),
                }

            yield rows.row({"study": "agreement", "stage": stage, "name": name}, measure)


def cost(config: ViTConfig, *, samples: int, units: int, runs: int, seed: int) -> dict:
    """Seconds of `linearised` for every unit, of `exact` extrapolated from `units` units of a
    layer, their ratio.

    Random weights and inputs: the arithmetic is the same. Both are measured in turn, `runs` times
    after tracing; the figures are medians with (min, max). Ratios in passes too: exact takes one
    (partial) forward pass a unit, linearised one forward pass and num_classes backward passes
    (derivatives of activations alone, about one forward pass each). Peak memory is this process's,
    in bytes.
    """
    from edvit_tf.device.model.memory import peak_rss
    from edvit_tf.models.weights import initial_weights

    weights, rng = initial_weights(config, seed), np.random.default_rng(seed)
    x = rng.integers(0, 256, (samples, *config.image_shape)).astype(np.uint8)
    shapes = {stage: mask_shapes(config, stage) for stage in STAGES}
    few, more = (
        {
            stage: {
                name: np.sort(rng.choice(width, min(count, width), replace=False))
                for name, width in shapes[stage].items()
            }
            for stage in STAGES
        }
        for count in (units, 2 * units)
    )
    total = {stage: sum(shapes[stage].values()) for stage in STAGES}

    def run_linearised() -> float:
        started = time.perf_counter()
        from_slopes(config, weights, x)
        return time.perf_counter() - started

    def run_exact() -> float:
        """Seconds of all units: a line through the times of `units` and of twice as many, for each
        stage.
        """
        seconds = 0.0
        for stage in STAGES:
            ran = []
            for chosen in (few[stage], more[stage]):
                started = time.perf_counter()
                exact(config, weights, x, stage, units=chosen)
                ran.append((time.perf_counter() - started, sum(map(len, chosen.values()))))
            (first, count), (second, double) = ran
            seconds += first + (second - first) * (total[stage] - count) / max(1, double - count)
        return seconds

    from_slopes(config, weights, x[:16])  # tracing, here and below
    from_slopes(config, weights, x)
    memory = peak_rss()
    for stage in STAGES:
        for chosen in (few[stage], more[stage]):
            exact(config, weights, x[:16], stage, units=chosen)
    pairs = [(run_linearised(), run_exact()) for _ in range(runs)]
    passes = sum(total.values()), 1 + config.num_classes

    def spread(values):
        return {
            name: round(float(of(values)), 2)
            for name, of in (("median", np.median), ("min", min), ("max", max))
        }

    return {
        "samples": samples,
        "units": passes[0],
        "exact_units_run": {stage: sum(map(len, more[stage].values())) for stage in STAGES},
        "runs": runs,
        "linearised_seconds": spread([a for a, _ in pairs]),
        "exact_seconds_all_units": spread([b for _, b in pairs]),
        "ratio": spread([b / a for a, b in pairs]),
        "exact_passes": passes[0],
        "linearised_passes": passes[1],
        "ratio_passes": round(passes[0] / passes[1], 1),
        "linearised_peak_rss_bytes": memory,
        "peak_rss_bytes": peak_rss(),
    }


def _compare(scores: np.ndarray, truth: np.ndarray) -> dict:
    """Spearman's rho, and the share of the top quarter of `truth` that is in that of `scores`."""
    from scipy.stats import spearmanr

    quarter = max(1, len(truth) // 4)
    best = (set(np.argsort(-values, kind="stable")[:quarter]) for values in (scores, truth))
    return {
        "spearman": round(float(spearmanr(scores, truth).statistic), 4),
        "top_quarter": round(len(set.intersection(*best)) / quarter, 4),
    }


def cost_table(figures: dict) -> str:
    """The figures of `cost` as text: seconds and passes of both scores, their ratio, peak
    memory.
    """

    def show(name, unit):
        f = figures[name]
        return f"{f['median']:,.1f}{unit} (min {f['min']:,.1f}, max {f['max']:,.1f})"

    ran = ", ".join(f"{count} {stage}" for stage, count in figures["exact_units_run"].items())
    return "\n".join(
        [
            f"{figures['units']:,} units on {figures['samples']} samples, {figures['runs']} "
            "alternating runs, medians",
            f"  linearised, all units      {show('linearised_seconds', ' s')}; "
            f"{figures['linearised_passes']} passes; peak "
            f"memory of the process {figures['linearised_peak_rss_bytes'] / 2**30:.2f} GiB",
            f"  exact, all units           {show('exact_seconds_all_units', ' s')}; "
            f"{figures['exact_passes']:,} (partial) "
            f"passes; extrapolated from {ran} units",
            f"  exact / linearised         {show('ratio', '')} in seconds, "
            f"{figures['ratio_passes']:,.0f} in passes",
        ]
    )


def agreement_table(rows: list[dict]) -> str:
    """Means over the layers of each kind of unit: Spearman / top-quarter overlap of every score
    with exact.
    """
    kinds = {"residual": "residual", "qk": "q/k pairs", "v": "v dims", "ffn": "FFN units"}
    lines = [
        f"{'units':<12}{'layers':>7}{'each':>6}"
        + "".join(f"{m.replace('_', ' '):>24}" for m in METHODS),
        f"{'':<25}" + f"{'rho (lowest)   top 25 %':>24}" * len(METHODS),
    ]
    for kind, title in kinds.items():
        own = [row for row in rows if row["name"].rpartition(".")[2] == kind]
        if not own:
            continue
        cells = ""
        for method in METHODS:
            rho, top = ([row[method][key] for row in own] for key in ("spearman", "top_quarter"))
            cells += f"{np.mean(rho):>10.3f} ({min(rho):.3f}){np.mean(top):>7.2f}"
        lines.append(f"{title:<12}{len(own):>7}{own[0]['units']:>6}{cells}")
    return "\n".join(lines)
