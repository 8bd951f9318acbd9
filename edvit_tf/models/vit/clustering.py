"""Weights on a few values a matrix: a file of the same size that compresses to a fraction, for slow
links.

The work is done by tensorflow-model-optimization, which knows Keras 2 alone and turns `tf.keras`
into it: so in a process of its own (`clustering_process.py`), on a twin of the model, weights in,
weights out.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edvit_tf.errors import ExportError
from edvit_tf.models.vit.config import ViTConfig

MIN_VALUES = 1024  # matrices of fewer values stay as they are, as in int8


def cluster(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    *,
    clusters: int,
    epochs: int = 1,
    learning_rate: float = 1e-5,
    seed: int = 0,
    timeout_seconds: float = 3600,
) -> tuple[dict[str, np.ndarray], dict]:
    """Weights whose matrices of 1,024 values or more hold `clusters` values each, and what the
    process reports.

    The centroids start by k-means++ over each matrix; then centroids and the other weights are
    trained for `epochs` over `x` (n, H, W, C) towards `outputs` ("features" (n, d), "logits" (n,
    classes)) of the model as it is. The report: twin_error (largest relative error of the twin's
    answers before anything is changed), loss (a value an epoch), seconds. Raises ExportError with
    the process's words if it fails, or if the twin answers otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="edvit-cluster-") as name:
        # files both ways: the other process has another Keras, and shares nothing with this one
        folder = Path(name)
        np.savez(folder / "weights.npz", **weights)
        np.save(folder / "x.npy", x)
        np.savez(folder / "outputs.npz", **outputs)

        settings = {
            "config": config.to_dict(),
            "clusters": clusters,
            "epochs": epochs,
            "min_values": MIN_VALUES,
            "learning_rate": learning_rate,
            "seed": seed,
        }
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")

        command = [
            sys.executable,
            str(Path(__file__).with_name("clustering_process.py")),
            str(folder),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )

        if done.returncode != 0:
            raise ExportError(
                f"the clustering process ended with {done.returncode}: "
                f"{(done.stderr.strip().splitlines() or ['(it said nothing)'])[-1][-500:]}"
            )

        with np.load(folder / "clustered.npz", allow_pickle=False) as file:
            clustered = {name: file[name] for name in file.files}
        return clustered, json.loads((folder / "report.json").read_text(encoding="utf-8"))
