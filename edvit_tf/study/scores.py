"""Do the cheap scores rank units like leave-one-out, how much does that agree with itself, and what
does each cost?
"""

import functools
import time
from collections.abc import Iterator

import numpy as np

from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.importance import importance
from edvit_tf.pruning.leave_one_out import exact
from edvit_tf.pruning.slopes import backward_passes, from_slopes
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
    config = base.config
    weights = base.weights
    # Other inputs beside: on them it is seen how well exact scores agree with themselves.
    ours = draw(base, "train", samples, seed).x
    others = draw(base, "train", samples, seed, skip=samples).x

    rng = np.random.default_rng([seed, 1])
    known = architecture(config)
    chosen = {}  # units by layer
    for stage in known.CUTS:
        count = 4 * units if stage == "residual" else units
        for name, width in known.mask_shapes(config, stage).items():
            chosen[name] = np.sort(rng.choice(width, min(width, count), replace=False))

    @functools.cache
    def cheap() -> dict:
        """Both cheap scores of every unit; taken when the first row is measured."""
        return from_slopes(config, weights, ours)

    def measure(stage: str, name: str) -> dict:
        some = chosen[name]
        # Scores of the units that were drawn alone: (units,) each
        truth = exact(config, weights, ours, stage, units={name: some})[name][some]
        again = exact(config, weights, others, stage, units={name: some})[name][some]
        magnitudes = importance(config, weights, ours, stage, "magnitude")[name][some]

        row: dict = {"units": len(some)}
        for method, scores in cheap().items():
            row[method] = _compare(scores[name][some], truth)
        row["magnitude"] = _compare(magnitudes, truth)
        row["exact_again"] = _compare(again, truth)
        return row

    for stage in known.CUTS:
        for name in known.mask_shapes(config, stage):
            yield rows.row(
                {"study": "agreement", "stage": stage, "name": name},
                functools.partial(measure, stage, name),
            )


def cost(config: ModelConfig, *, samples: int, units: int, runs: int, seed: int) -> dict:
    """Seconds of `linearised` for every unit, of `exact` extrapolated from `units` units of a
    layer, their ratio.

    Random weights and inputs: the arithmetic is the same. Both are measured in turn, `runs` times
    after tracing; the figures are medians with (min, max). Ratios in passes too: exact takes one
    (partial) forward pass a unit, linearised one forward pass and a backward pass a class, or of
    many classes a fixed number (derivatives of activations alone, about one forward pass each);
    then the seconds of a pass a class stand beside it. Peak memory is this process's, in bytes.
    """
    from edvit_tf.device.model.memory import peak_rss
    from edvit_tf.models.weights import initial_weights

    weights = initial_weights(config, seed)
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (samples, *config.input_shape)).astype(np.uint8)
    # Two numbers of units: what a call costs apart from them falls out.
    few = _drawn_units(rng, config, units)
    more = _drawn_units(rng, config, 2 * units)

    from_slopes(config, weights, x[:16])  # tracing, here and below
    from_slopes(config, weights, x)
    # Before leave-one-out, which needs more.
    memory = peak_rss()
    for stage in few:
        for chosen in (few[stage], more[stage]):
            exact(config, weights, x[:16], stage, units=chosen)

    every = config.num_classes
    is_estimate = backward_passes(every) < every
    if is_estimate:
        from_slopes(config, weights, x[:1], exact_classes=every)

    linearised_seconds = []
    class_seconds = []
    exact_seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        from_slopes(config, weights, x)
        linearised_seconds.append(time.perf_counter() - started)
        if is_estimate:
            started = time.perf_counter()
            from_slopes(config, weights, x, exact_classes=every)
            class_seconds.append(time.perf_counter() - started)
        exact_seconds.append(_exact_seconds(config, weights, x, few, more))

    ratios = [b / a for a, b in zip(linearised_seconds, exact_seconds, strict=True)]
    exact_passes = sum(_units_of(config, stage) for stage in few)
    linearised_passes = 1 + backward_passes(every)

    return {
        "samples": samples,
        "units": exact_passes,
        "exact_units_run": {stage: _count(more[stage]) for stage in few},
        "runs": runs,
        "linearised_seconds": _spread(linearised_seconds),
        "pass_a_class_seconds": _spread(class_seconds) if is_estimate else None,
        "exact_seconds_all_units": _spread(exact_seconds),
        "ratio": _spread(ratios),
        "exact_passes": exact_passes,
        "linearised_passes": linearised_passes,
        "ratio_passes": round(exact_passes / linearised_passes, 1),
        "linearised_peak_rss_bytes": memory,
        "peak_rss_bytes": peak_rss(),
    }


def _drawn_units(rng: np.random.Generator, config: ModelConfig, units: int) -> dict:
    """{stage: {layer: `units` of its units, or all where it has fewer}}."""
    known = architecture(config)
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for stage in known.CUTS:
        drawn[stage] = {}
        for name, width in known.mask_shapes(config, stage).items():
            drawn[stage][name] = np.sort(rng.choice(width, min(units, width), replace=False))
    return drawn


def _exact_seconds(config: ModelConfig, weights, x: np.ndarray, few: dict, more: dict) -> float:
    """Seconds of leave-one-out over all units: for each stage on the line through the times of a
    few units and of twice as many.
    """
    seconds = 0.0
    for stage in few:
        first = _timed_exact(config, weights, x, stage, few[stage])
        second = _timed_exact(config, weights, x, stage, more[stage])
        count = _count(few[stage])
        double = _count(more[stage])
        total = _units_of(config, stage)
        # On the line through both times, at as many units as there are.
        seconds += first + (second - first) * (total - count) / max(1, double - count)
    return seconds


def _timed_exact(config: ModelConfig, weights, x: np.ndarray, stage: str, units: dict) -> float:
    started = time.perf_counter()
    exact(config, weights, x, stage, units=units)
    return time.perf_counter() - started


def _units_of(config: ModelConfig, stage: str) -> int:
    """All units that a cut could take, of all layers."""
    return sum(architecture(config).mask_shapes(config, stage).values())


def _count(units: dict[str, np.ndarray]) -> int:
    """Units of all layers."""
    return sum(len(some) for some in units.values())


def _spread(values: list[float]) -> dict:
    return {
        "median": round(float(np.median(values)), 2),
        "min": round(float(min(values)), 2),
        "max": round(float(max(values)), 2),
    }


def _compare(scores: np.ndarray, truth: np.ndarray) -> dict:
    """Spearman's rho, and the share of the top quarter of `truth` that is in that of `scores`."""
    from scipy.stats import spearmanr

    quarter = max(1, len(truth) // 4)
    # Stable: of equal scores the first units are taken, whatever the machine.
    found = set(np.argsort(-scores, kind="stable")[:quarter])
    best = set(np.argsort(-truth, kind="stable")[:quarter])
    return {
        "spearman": round(float(spearmanr(scores, truth).statistic), 4),
        "top_quarter": round(len(found & best) / quarter, 4),
    }


def cost_table(figures: dict) -> str:
    """The figures of `cost` as text: seconds and passes of both scores, their ratio, peak
    memory.
    """

    def show(name, unit):
        f = figures[name]
        return f"{f['median']:,.1f}{unit} (min {f['min']:,.1f}, max {f['max']:,.1f})"

    beside = []
    if figures["pass_a_class_seconds"] is not None:
        beside = [f"  with a pass a class         {show('pass_a_class_seconds', ' s')}"]
    ran = ", ".join(f"{count} {stage}" for stage, count in figures["exact_units_run"].items())
    return "\n".join(
        [
            f"{figures['units']:,} units on {figures['samples']} samples, {figures['runs']} "
            "alternating runs, medians",
            f"  linearised, all units      {show('linearised_seconds', ' s')}; "
            f"{figures['linearised_passes']} passes; peak "
            f"memory of the process {figures['linearised_peak_rss_bytes'] / 2**30:.2f} GiB",
            *beside,
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
        # A layer's name ends in the kind of its units.
        own = [row for row in rows if row["name"].rpartition(".")[2] == kind]
        if not own:
            continue
        cells = ""
        for method in METHODS:
            rho = [row[method]["spearman"] for row in own]
            top = [row[method]["top_quarter"] for row in own]
            cells += f"{np.mean(rho):>10.3f} ({min(rho):.3f}){np.mean(top):>7.2f}"
        lines.append(f"{title:<12}{len(own):>7}{own[0]['units']:>6}{cells}")
    return "\n".join(lines)
