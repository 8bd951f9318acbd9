"""Samples a second of a training step, in float32 and bfloat16, with the fused layers and with
Keras's own; and what a step's optimizer costs, ours and Keras's.

The steps take turns in one process, forward, backward and optimizer; what feeds a fit
(augmentation, the data's pipeline) is left out.
"""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

WARM = 2  # steps before the first timed one
DECAY = 0.05

# (precision, whether of the fused layers)
WAYS = (("float32", False), ("float32", True), ("bfloat16", False), ("bfloat16", True))

# (name, whether Keras's own)
OPTIMIZER_WAYS = (("adamw", True), ("adamw", False), ("muon", True), ("muon", False))


def bench_training(
    config: ViTConfig, *, batch: int, threads: int, patch_dropout: float, turns: int, steps: int
) -> dict:
    """{"rows": [{"precision", "layers", "samples_per_second": {"median", "least", "largest"},
    "ratio": {...}}], ...}.

    A ratio is the time of a step against the first row's in the same turn. Raises ConfigError where
    TensorFlow is at work already with another number of threads.
    """
    _set_threads(threads)
    kept = round(config.num_patches * (1 - patch_dropout)) if patch_dropout else None
    runners = [_step(config, precision, fused, batch, kept) for precision, fused in WAYS]
    for run in runners:
        for _ in range(WARM):
            run()

    seconds: list[list[float]] = [[] for _ in runners]
    for _ in range(turns):
        for run, into in zip(runners, seconds, strict=True):
            started = time.perf_counter()
            for _ in range(steps):
                run()
            into.append((time.perf_counter() - started) / steps)

    rows = []
    for (precision, fused), own in zip(WAYS, seconds, strict=True):
        rates = [batch / value for value in own]
        ratios = [value / first for value, first in zip(own, seconds[0], strict=True)]
        rows.append(
            {
                "precision": precision,
                "layers": "fused" if fused else "Keras's",
                "samples_per_second": spread(rates),
                "ratio": spread(ratios),
            }
        )
    return {
        "rows": rows,
        "batch": batch,
        "threads": threads,
        "patches": kept or config.num_patches,
        "turns": turns,
        "steps": steps,
        "config": config.to_dict(),
    }


def bench_optimizers(
    config: ViTConfig, *, batch: int, threads: int, precision: str, turns: int, steps: int
) -> dict:
    """{"rows": [{"optimizer", "of", "trace_seconds": {"median", "least", "largest"}, "step_ms":
    {...}}], ...}, of this process's CPU time, all threads together.

    A turn makes a new trainer a row, so that each is traced (its first step) as often as it is
    timed. Raises ConfigError as `bench_training` does.
    """
    _set_threads(threads)
    trace: dict[tuple, list[float]] = {way: [] for way in OPTIMIZER_WAYS}
    step_ms: dict[tuple, list[float]] = {way: [] for way in OPTIMIZER_WAYS}
    for _ in range(turns):
        for way in OPTIMIZER_WAYS:
            name, stock = way
            run = _step(config, precision, True, batch, None, name, stock=stock)

            started = time.process_time()
            run()
            trace[way].append(time.process_time() - started)

            run()
            started = time.process_time()
            for _ in range(steps):
                run()
            step_ms[way].append((time.process_time() - started) / steps * 1e3)

    rows = []
    for name, stock in OPTIMIZER_WAYS:
        rows.append(
            {
                "optimizer": name,
                "of": "Keras" if stock else "edvit",
                "trace_seconds": spread(trace[name, stock]),
                "step_ms": spread(step_ms[name, stock]),
            }
        )
    return {
        "rows": rows,
        "batch": batch,
        "threads": threads,
        "precision": precision,
        "turns": turns,
        "steps": steps,
        "config": config.to_dict(),
    }


def _set_threads(threads: int) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise ConfigError(
            f"threads is {threads}, but TensorFlow runs in this process already, with "
            f"{tf.config.threading.get_intra_op_parallelism_threads()}: use a new process."
        ) from error


def _step(
    config: ViTConfig,
    precision: str,
    fused: bool,
    batch: int,
    kept: int | None,
    optimizer: str = "adamw",
    *,
    stock: bool = False,
):
    """A function that does one step of a trainer of its own and waits for it."""
    from edvit_tf.training.optimizers import stock_optimizer
    from edvit_tf.training.trainer import trainer_of

    _, trainer = trainer_of(config, optimizer, DECAY, 0.0, precision, kept, 0, 0.0, fused=fused)
    if stock:
        trainer.optimizer = stock_optimizer(optimizer, DECAY)
        trainer.optimizer.build(trainer.trainable_variables)

    rng = np.random.default_rng(0)
    x: np.ndarray | dict = rng.uniform(0, 255, (batch, *config.image_shape)).astype(np.float32)
    if kept is not None:
        places = [np.sort(rng.permutation(config.num_patches)[:kept]) for _ in range(batch)]
        x = {"input": x, "kept": np.array(places, np.int32)}
    labels = rng.integers(config.num_classes, size=batch)
    goals = {"logits": np.eye(config.num_classes, dtype=np.float32)[labels]}
    return lambda: trainer.train_on_batch(x, goals)


def spread(values: Sequence[float]) -> dict:
    """{"median", "least", "largest"}."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def training_text(result: dict) -> str:
    """The table of a result, and what was measured."""
    lines = [
        f"{'precision':10}{'layers':10}{'samples/s':>10}  (least-largest)   time, ratio "
        "(least-largest)"
    ]
    for row in result["rows"]:
        rate, ratio = row["samples_per_second"], row["ratio"]
        lines.append(
            f"{row['precision']:10}{row['layers']:10}{rate['median']:10.0f}  "
            f"({rate['least']:.0f}-{rate['largest']:.0f})".ljust(48)
            + f"{ratio['median']:6.2f} ({ratio['least']:.2f}-{ratio['largest']:.2f})"
        )
    config = result["config"]
    lines.append(
        f"{config['num_layers']} layers, d = {config['hidden_dim']}, {result['patches']} patches "
        "and the "
        f"class token; batch {result['batch']}, threads: {result['threads']}; {result['turns']} "
        "alternating "
        f"turns of {result['steps']} steps: forward, backward, AdamW."
    )
    return "\n".join(lines)


def optimizers_text(result: dict) -> str:
    """The table of a result of `bench_optimizers`, and what was measured."""
    lines = [f"{'optimizer':12}{'of':8}{'trace s':>8}  (least-largest)   {'ms a step':>10}"]
    for row in result["rows"]:
        trace, step = row["trace_seconds"], row["step_ms"]
        first = f"{row['optimizer']:12}{row['of']:8}{trace['median']:8.2f}"
        first += f"  ({trace['least']:.2f}-{trace['largest']:.2f})"
        second = f"{step['median']:10.1f} ({step['least']:.1f}-{step['largest']:.1f})"
        lines.append(first.ljust(47) + second)
    config = result["config"]
    lines.append(
        f"{config['num_layers']} layers, d = {config['hidden_dim']}, {result['precision']}, batch "
        f"{result['batch']}, threads: {result['threads']}; CPU time of {result['turns']} "
        f"alternating turns, each a new trace and {result['steps']} steps."
    )
    return "\n".join(lines)
