"""Do the cheap scores rank units like leave-one-out, how much does that agree with itself, and what does each cost?"""

import time
from collections.abc import Iterator

import numpy as np

from edvit_tf.pruning.exact import exact
from edvit_tf.pruning.forward import STAGES, mask_shapes
from edvit_tf.pruning.importance import importance
from edvit_tf.pruning.slopes import from_slopes
from edvit_tf.study.common import Base, Rows, draw


def agreement(base: Base, rows: Rows, *, samples: int, units: int, seed: int) -> Iterator[dict]:
    """Rank agreement with `exact` for each kind of unit and layer, one row each, on the same `samples` inputs.

    Exact scores are taken for a seeded sample of `units` units of each layer (of the residual stream: of 4 * units
    channels). A row has Spearman's rho of linearised and fisher with exact over those units, the share of the exact
    top quarter that each finds, and the same of exact with itself on as many other inputs; and the magnitude's.
    """
    config, weights = base.config, base.weights
    ours, others = (draw(base, "train", samples, seed, skip).x for skip in (0, samples))
    rng = np.random.default_rng([seed, 1])
    chosen = {name: np.sort(rng.choice(width, min(width, units * (4 if stage == "residual" else 1)), replace=False))
              for stage in STAGES for name, width in mask_shapes(config, stage).items()}
    cheap = None
    for stage in STAGES:
        for name in mask_shapes(config, stage):
            def measure(stage=stage, name=name):
                nonlocal cheap
                if cheap is None:
                    cheap = from_slopes(config, weights, ours)
                some = chosen[name]
                started = time.perf_counter()
                truth, again = (exact(config, weights, x, stage, units={name: some})[name][some]
                                for x in (ours, others))
                seconds = (time.perf_counter() - started) / 2
                magnitudes = importance(config, weights, ours, stage, "magnitude")[name][some]
                found = {method: _compare(scores[name][some], truth) for method, scores in cheap.items()}
                return {"units": len(some), "exact_seconds": round(seconds, 2), **found,
                        "magnitude": _compare(magnitudes, truth), "exact_again": _compare(again, truth)}

            yield rows.row({"study": "agreement", "stage": stage, "name": name}, measure)


def cost(base: Base, rows: Rows, *, samples: int, units: int, seed: int) -> dict:
    """Seconds of `linearised` for every unit, of `exact` for `units` units a layer scaled to all, and their ratio.

    Also in forward-pass equivalents: exact takes one (partial) pass a unit, linearised one pass and num_classes
    backward passes (derivatives of activations alone, about one forward pass each).
    """
    config, weights = base.config, base.weights
    x = draw(base, "train", samples, seed).x
    rng = np.random.default_rng([seed, 2])

    def measure():
        from_slopes(config, weights, x[:16])  # tracing
        started = time.perf_counter()
        from_slopes(config, weights, x)
        linear_seconds = time.perf_counter() - started
        exact_seconds, total, scaled = 0.0, 0, 0.0
        for stage in STAGES:
            shapes = mask_shapes(config, stage)
            some = {name: np.sort(rng.choice(width, min(units, width), replace=False))
                    for name, width in shapes.items()}
            exact(config, weights, x[:16], stage, units=some)  # tracing
            started = time.perf_counter()
            exact(config, weights, x, stage, units=some)
            seconds = time.perf_counter() - started
            exact_seconds += seconds
            total += sum(shapes.values())
            scaled += seconds * sum(shapes.values()) / sum(map(len, some.values()))
        return {"samples": samples, "units": total, "linearised_seconds": round(linear_seconds, 2),
                "exact_seconds_measured": round(exact_seconds, 2), "exact_seconds_all_units": round(scaled, 1),
                "ratio_seconds": round(scaled / linear_seconds, 1), "exact_passes": total,
                "linearised_passes": 1 + config.num_classes,
                "ratio_passes": round(total / (1 + config.num_classes), 1)}

    return rows.row({"study": "cost", "samples": samples}, measure)


def _compare(scores: np.ndarray, truth: np.ndarray) -> dict:
    """Spearman's rho, and the share of the top quarter of `truth` that is in that of `scores`."""
    from scipy.stats import spearmanr

    quarter = max(1, len(truth) // 4)
    best = (set(np.argsort(-values, kind="stable")[:quarter]) for values in (scores, truth))
    return {"spearman": round(float(spearmanr(scores, truth).statistic), 4),
            "top_quarter": round(len(set.intersection(*best)) / quarter, 4)}


def agreement_table(rows: list[dict]) -> str:
    """Means over the layers of each kind of unit: Spearman / top-quarter overlap of every score with exact."""
    methods = ("linearised", "fisher", "magnitude", "exact_again")
    kinds = {"residual": "residual", "qk": "q/k pairs", "v": "v dims", "ffn": "FFN units"}
    lines = [f"{'units':<12}{'layers':>7}{'each':>6}" + "".join(f"{m.replace('_', ' '):>24}" for m in methods),
             f"{'':<25}" + f"{'rho (lowest)   top 25 %':>24}" * len(methods)]
    for kind, title in kinds.items():
        own = [row for row in rows if row["name"].rpartition(".")[2] == kind]
        if not own:
            continue
        cells = ""
        for method in methods:
            rho, top = ([row[method][key] for row in own] for key in ("spearman", "top_quarter"))
            cells += f"{np.mean(rho):>10.3f} ({min(rho):.3f}){np.mean(top):>7.2f}"
        lines.append(f"{title:<12}{len(own):>7}{own[0]['units']:>6}{cells}")
    return "\n".join(lines)
