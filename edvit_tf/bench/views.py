"""What a view costs a worker beside its sub-model: numpy on one thread, one input at a time."""

import time

import numpy as np

from edvit_tf.device.model.view import View
from edvit_tf.errors import ConfigError

WARM_UP = 20
# What a picture in colour, a grey one and a log-mel map are to a model.
_INPUTS = (("uint8", 3), ("uint8", 1), ("float32", 1))


def bench_views(size: int = 98, runs: int = 2000) -> list[dict]:
    """A row for each kind of input of `size` rows and columns and each view of it: {"input",
    "view", "median_ms", "p95_ms", "least_ms"}.

    Moved by a fourteenth of the side, and cut by a nineteenth: about as far as is of use. Raises
    ConfigError for a size that has no such views.
    """
    far, cut = size // 14, size // 19
    if cut < 1:
        raise ConfigError(f"--size is {size}; give 19 or more, of which something can be cut.")

    views = (
        View(),
        View(mirrored=True),
        View(down=far, right=-far),
        View(crop=cut),
        View(far, far, True, cut),
    )
    rng = np.random.default_rng(0)
    rows = []
    for dtype, channels in _INPUTS:
        x = rng.integers(0, 256, (1, size, size, channels)).astype(dtype)
        for view in views:
            name = f"{dtype}, {size} x {size} x {channels}"
            rows.append({"input": name, "view": str(view), **_timed(view, x, runs)})

    return rows


def _timed(view: View, x: np.ndarray, runs: int) -> dict:
    times_ms = []
    for _ in range(WARM_UP + runs):
        started = time.perf_counter()
        view.applied(x)
        times_ms.append(1e3 * (time.perf_counter() - started))

    counted = np.array(times_ms[WARM_UP:])
    return {
        "median_ms": float(np.median(counted)),
        "p95_ms": float(np.quantile(counted, 0.95)),
        "least_ms": float(counted.min()),
    }


def views_text(rows: list[dict]) -> str:
    """The rows as a text table."""
    lines = [f"{'input':<24}{'view':<36}{'median ms':>10}{'p95':>8}{'least':>8}"]
    for row in rows:
        figures = f"{row['median_ms']:>10.3f}{row['p95_ms']:>8.3f}{row['least_ms']:>8.3f}"
        lines.append(f"{row['input']:<24}{row['view']:<36}{figures}")
    return "\n".join(lines)
