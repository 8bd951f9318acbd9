"""How much a spiking net spikes, and how many spikes its .tflite file has otherwise than Keras."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edvit_tf.export.convert import convert
from edvit_tf.export.process import run_in_process
from edvit_tf.models import ModelConfig, architecture

SAMPLES = 16  # inputs on which they are counted


def spikes(
    config: ModelConfig, weights: Mapping[str, np.ndarray], inputs: np.ndarray
) -> dict[str, float] | None:
    """{"spikes": mean number an inference, all neurons and steps, "rate": share of them that fire,
    "flip_rate": share that the file and Keras have otherwise}, over the first of inputs (n, H, W,
    C); None of an architecture without spikes.

    A file of its own is made, whose outputs are the spikes: a deployed one gives their means alone.
    """
    known = architecture(config)
    if not hasattr(known, "spike_graph"):
        return None

    inputs = np.asarray(inputs[:SAMPLES])
    expected = known.spike_maps(config, weights, inputs)
    with TemporaryDirectory(prefix="edvit-spikes-") as folder:
        file = Path(folder) / "spikes.tflite"
        kernels = {f"{name}.kernel": weights[f"{name}.kernel"] for name in expected}
        convert(*known.spike_graph(config, weights, "input", inputs.dtype), file, kernels)
        told, _ = run_in_process(file, {"input": inputs})

    fired = flipped = places = 0
    for name, maps in expected.items():
        fired += int(maps.sum())
        flipped += int((told[name].reshape(maps.shape) != maps).sum())
        places += maps.size
    return {
        "spikes": fired / len(inputs),
        "rate": fired / places,
        "flip_rate": flipped / places,
    }
