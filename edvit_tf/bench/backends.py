"""Samples a second of fits by each backend, one member and several at once; on the first GPU of the
backend where it has one, else on this machine's processor.

Fits alternate, each of a few steps with all that feeds them, after one that compiled the step.
"""

import time
from collections.abc import Sequence

import numpy as np

from edvit_tf.bench.training import spread
from edvit_tf.config import TrainConfig
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.progress import listening
from edvit_tf.training.backend import computing_on, other_process

HEADS = 6
CLASSES = 10


def bench_backends(
    widths: Sequence[int],
    *,
    layers: int,
    image_size: int,
    patch_size: int,
    batch: int,
    members: int,
    steps: int,
    turns: int,
) -> dict:
    """{"rows": [{"width", "backend", "members", "samples_per_second": {"median", "least",
    "largest"}, "ratio": {...}}], ...}; a ratio is to TensorFlow's rate in the same turn.

    The models are ViTs of 6 heads with random weights, on random pictures
    (image_size, image_size, 3). Raises ConfigError where JAX is not installed.
    """
    import tensorflow as tf

    # on a GPU that both have, the memory is shared
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)

    rows = []
    for width in widths:
        config = ViTConfig(
            (image_size, image_size, 3),
            patch_size=patch_size,
            num_layers=layers,
            hidden_dim=width,
            num_heads=HEADS,
            head_dim=max(1, width // HEADS),
            mlp_dim=4 * width,
            num_classes=CLASSES,
        )
        fits = _Fits(config, batch, steps, members)
        ways = (("tensorflow", 1), ("jax", 1), ("jax", members))
        rates: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
        with computing_on("jax"):
            device = other_process().call("device")
            # the first turn compiles
            for turn in range(turns + 1):
                for way in ways:
                    rate = fits.rate(*way)
                    if turn:
                        rates[way].append(rate)

        for (backend, count), own in rates.items():
            ratios = [a / b for a, b in zip(own, rates["tensorflow", 1], strict=True)]
            rows.append(
                {
                    "width": width,
                    "backend": backend,
                    "members": count,
                    "samples_per_second": spread(own),
                    "ratio": spread(ratios),
                }
            )
    return {
        "rows": rows,
        "image_size": image_size,
        "patch_size": patch_size,
        "layers": layers,
        "batch": batch,
        "steps": steps,
        "turns": turns,
        "device": device,
    }


class _Fits:
    """Fits of models of one configuration, each over the same random pictures."""

    def __init__(self, config: ViTConfig, batch: int, steps: int, members: int) -> None:
        from edvit_tf.models.weights import initial_weights

        rng = np.random.default_rng(0)
        self.config = config
        self.count = batch * steps
        self.inputs = rng.integers(0, 256, (self.count, *config.image_shape), dtype=np.uint8)
        labels = rng.integers(CLASSES, size=self.count)
        self.targets = np.eye(CLASSES, dtype=np.float32)[labels]
        self.weights = [initial_weights(config, seed) for seed in range(members)]
        self.train = TrainConfig(epochs=1, batch_size=batch)

    def rate(self, backend: str, members: int) -> float:
        """Samples a second of fitting the first so many members, within a context of JAX's."""
        started = time.perf_counter()
        if backend == "tensorflow":
            with computing_on(backend):
                self._one()
        elif members == 1:
            self._one()
        else:
            self._side_by_side(members)
        return members * self.count / (time.perf_counter() - started)

    def _one(self) -> None:
        from edvit_tf.training.train import fit

        with listening():
            fit(
                self.config,
                self.weights[0],
                self.inputs,
                self.targets,
                self.train,
                epoch_indices=self._rows,
                seed=0,
            )

    def _side_by_side(self, members: int) -> None:
        from edvit_tf.training.side_by_side import fit_side_by_side

        with listening():
            fit_side_by_side(
                self.config,
                self.weights[:members],
                self.inputs,
                [self.targets] * members,
                self.train,
                epoch_indices=[self._rows] * members,
                seeds=range(members),
                titles=[f"member {j}" for j in range(members)],
            )

    def _rows(self, epoch: int) -> np.ndarray:
        return np.arange(self.count)


def backends_text(result: dict) -> str:
    """The table of a result, and what was measured."""
    lines = [
        f"{'d':>5}  {'backend':12}{'members':>7}{'samples/s':>11}  (least-largest)   "
        "to TensorFlow's (least-largest)"
    ]
    for row in result["rows"]:
        rate, ratio = row["samples_per_second"], row["ratio"]
        first = f"{row['width']:5}  {row['backend']:12}{row['members']:7}{rate['median']:11.0f}"
        first += f"  ({rate['least']:.0f}-{rate['largest']:.0f})"
        second = f"{ratio['median']:6.2f} ({ratio['least']:.2f}-{ratio['largest']:.2f})"
        lines.append(first.ljust(55) + second)
    lines.append(
        f"ViTs of {result['layers']} layers and {HEADS} heads on {result['image_size']} pixels a "
        f"side, patches of {result['patch_size']}; float32, AdamW, batch {result['batch']}. "
        f"{result['turns']} alternating turns of fits of {result['steps']} steps, with all that "
        f"feeds them, after one that compiled; by {result['device']}."
    )
    return "\n".join(lines)
