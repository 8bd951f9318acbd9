"""Samples a second of a training step, in float32 and bfloat16, with `models.fused` and with
Keras's own layers.

The four steps take turns in one process, forward, backward and AdamW; what feeds a fit
(augmentation, the data's pipeline) is left out.
"""

import statistics
import time

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

WARM = 2  # steps before the first timed one
WAYS = (
    ("float32", False),
    ("float32", True),
    ("bfloat16", False),
    ("bfloat16", True),
)  # (precision, fused)


def bench_training(
    config: ViTConfig, *, batch: int, threads: int, patch_dropout: float, turns: int, steps: int
) -> dict:
    """{"rows": [{"precision", "layers", "samples_per_second": {"median", "least", "largest"},
    "ratio": {...}}], ...}.

    A ratio is the time of a step against the first row's in the same turn. Raises ConfigError where
    TensorFlow is at work already with another number of threads.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise ConfigError(
            f"threads is {threads}, but TensorFlow runs in this process already, with "
            f"{tf.config.threading.get_intra_op_parallelism_threads()}: use a new process."
        ) from error
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
        rows.append(
            {
                "precision": precision,
                "layers": "fused" if fused else "Keras's",
                "samples_per_second": _spread([batch / value for value in own]),
                "ratio": _spread(
                    [value / first for value, first in zip(own, seconds[0], strict=True)]
                ),
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


def _step(config: ViTConfig, precision: str, fused: bool, batch: int, kept: int | None):
    """A function that does one step of a trainer of its own and waits for it."""
    from edvit_tf.training.train import trainer_of

    _, trainer = trainer_of(config, "adamw", 0.05, 0.0, precision, kept, 0, 0.0, fused=fused)
    rng = np.random.default_rng(0)
    x: np.ndarray | dict = rng.uniform(0, 255, (batch, *config.image_shape)).astype(np.float32)
    if kept is not None:
        places = [np.sort(rng.permutation(config.num_patches)[:kept]) for _ in range(batch)]
        x = {"input": x, "kept": np.array(places, np.int32)}
    goals = {
        "logits": np.eye(config.num_classes, dtype=np.float32)[
            rng.integers(config.num_classes, size=batch)
        ]
    }
    return lambda: trainer.train_on_batch(x, goals)


def _spread(values: list[float]) -> dict:
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
