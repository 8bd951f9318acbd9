"""What copies of the one model come to on the test split, each device with a view of its own: the
fleet itself, or what every other kind of fleet is to be compared with.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.view import View
from edvit_tf.evaluation.accuracy import accuracy
from edvit_tf.export.process import run_in_process
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.views import seen


def has_copies(run: Run) -> bool:
    """Whether there are copies to measure: of one model, on several devices, by views."""
    several = len(run.split.devices) > 1
    return run.single is not None and several and run.config.views == "auto"


def holding(run: Run) -> int:
    """Devices that hold a copy: all of them beside a class split; of a fleet whose plan is one of
    models of all classes those that its plan and budget have room for.
    """
    idle = () if run.splits_classes else run.plan.idle
    return len(run.split.devices) - len(idle)


def copied_views(run: Run) -> tuple[View, ...]:
    """Views that copies have: of run.chosen_views, which a fleet of more sub-models than devices
    may have more of, one a device.
    """
    return run.chosen_views[: holding(run)]


def under_views(run: Run, file: Path) -> list[np.ndarray]:
    """Logits (n, classes) of a .tflite file for the test windows, under each view of the
    copies, in processes without TensorFlow.
    """
    inputs = run.stages.path("data", "test.npy")
    found = []
    for view in copied_views(run):
        outputs, _ = run_in_process(file, inputs, view=view)
        found.append(outputs["logits"])
    return found


def validated(run: Run) -> np.ndarray:
    """Probabilities (n, classes) of all copies together, as Keras models, on validation windows."""
    from edvit_tf.training.train import predict, softmax

    x = Split(run.stages, "validation").x
    weights = run.fitted_weights(run.single)
    said = [predict(run.single.widths, weights, seen(x, view)) for view in copied_views(run)]
    return np.mean([softmax(one["logits"]) for one in said], axis=0)


def by_devices(run: Run, logits: Sequence[np.ndarray]) -> dict:
    """Accuracy by number of devices, of validation and of test recordings, from the answers to the
    test windows under each view. Devices beyond the views hold one again, and change no answer.
    """
    from edvit_tf.training.train import softmax

    test = Split(run.stages, "test")
    scores = []
    total = np.zeros(logits[0].shape)
    for count, own in enumerate(logits, start=1):
        total += softmax(own)
        scores.append(accuracy(total / count, test.labels, test.recordings))

    figures = run.stages.result("views")["validation"]
    last = len(logits) - 1
    numbers = range(holding(run))
    return {
        "views": [view.to_dict() for view in run.chosen_views[: len(logits)]],
        "validation": [
            {"devices": n + 1, "accuracy": figures[min(n, last)]["accuracy"]} for n in numbers
        ],
        "test": [{"devices": n + 1, "tflite": scores[min(n, last)]} for n in numbers],
    }
