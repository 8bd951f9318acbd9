"""The floor of a run: fitted once the inputs are read, and measured on the test split beside the
models that have to stand above it.
"""

from pathlib import Path

import numpy as np

from edvit_tf.evaluation.accuracy import per_recording
from edvit_tf.evaluation.paired import paired
from edvit_tf.evaluation.predictions import Predictions
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.scores import score
from edvit_tf.pipeline.stage import Run
from edvit_tf.training.calibrate import calibration_figures
from edvit_tf.training.floor import answers, fit_floor, from_arrays, to_arrays

NAME = "floor"  # of the stage, of its answers, and in results.json


def floor(run: Run, folder: Path, is_picture: bool) -> dict:
    """The stage: a ridge classifier on pooled training inputs, chosen on validation data."""
    train, validation = Split(run.stages, "train"), Split(run.stages, "validation")
    held = (validation.x, validation.labels, validation.recordings)
    found = fit_floor(train.x, train.labels, held, len(run.labels), is_picture)

    stored = to_arrays(found)
    np.savez(folder / "weights.npz", **stored)
    weights = ("mean", "scale", "kernel", "bias")
    return {
        "grid": list(found.grid),
        "features": len(found.kernel),
        "ridge": found.ridge,
        "temperature": found.temperature,
        "weight_bytes": sum(4 * stored[name].size for name in weights),
        "macs": found.kernel.size,
        "validation": score(validation, answers(found, validation.x)),
    }


def floor_figures(run: Run, test: Split, predictions: Predictions) -> dict:
    """What the stage came to, and its answers to the test split, which join `predictions`; "base"
    is the base against it.
    """
    p = answers(from_arrays(run.stages.arrays(NAME)), test.x)
    predictions.add(NAME, p)

    told = dict(run.stages.result(NAME))
    for name in ("seconds", "peak_rss_bytes"):
        told.pop(name)
    named = predictions.top1(NAME)
    return told | {
        "accuracy": score(test, p),
        "calibration": calibration_figures(*per_recording(p, test.labels, test.recordings)),
        "base": paired(predictions.top1("base"), named, predictions.labels),
    }
