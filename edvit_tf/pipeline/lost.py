"""What is left of a fleet's accuracy when sub-models, or devices, are lost."""

import numpy as np

from edvit_tf.device.model.bundle import Bundle
from edvit_tf.evaluation.accuracy import accuracy
from edvit_tf.evaluation.answers import Answers, fuse_without, losses
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.scores import paired_answers, score
from edvit_tf.pipeline.stage import Run
from edvit_tf.planning.plan import Plan


def lost(
    run: Run, bundle: Bundle, answers: Answers, fused: np.ndarray, test: Split
) -> dict[str, list]:
    """Accuracy without sub-models: of every number of them, of each one, of each device.

    What a single device's loss takes may be a set that was drawn already: each is fused once.
    """
    drawn = losses(len(run.sub_models), run.config.seed)
    by_device = {}
    for device, gone in lost_with_device(run.plan):
        if len(gone) < len(run.sub_models):
            by_device[device] = gone

    sets = dict.fromkeys([*drawn, *by_device.values()])  # each once, in order
    sets.pop((), None)  # a device whose sub-models others hold too: nothing is lost
    without = dict(zip(sets, fuse_without(bundle, answers, list(sets)), strict=True))
    without[()] = fused

    names = [member.name for member in run.sub_models]
    every = []
    single = []

    # Of every set that was drawn; of the sets of one, what becomes of the other classes too.
    for gone in drawn:
        p = without[gone]
        every.append(
            {
                "missing": list(gone),
                "names": [names[j] for j in gone],
                "tflite": score(test, p),
            }
        )
        if len(gone) == 1:
            paired_with_all = {"paired": paired_answers(p, fused, test)}
            single.append(_without_one(run, gone[0], p, test) | paired_with_all)

    devices = []
    for device, gone in by_device.items():
        told = score(test, without[gone])
        against = paired_answers(without[gone], fused, test)
        devices.append({"device": device, "missing": list(gone), "tflite": told, "paired": against})
    return {"missing_one": single, "losses": every, "lost_devices": devices}


def _without_one(run: Run, index: int, p: np.ndarray, test: Split) -> dict:
    """Accuracy without one sub-model, and that of the classes which are not its own alone."""
    member = run.sub_models[index]
    # What a lost sub-model knew is gone; what the others know should not be. Where it knew all
    # classes, so do the others.
    is_whole = len(member.classes) == run.base.num_classes
    others = np.full(len(test.labels), True) if is_whole else ~np.isin(test.labels, member.classes)
    return {
        "missing": index,
        "name": member.name,
        "tflite": score(test, p),
        "other_classes": accuracy(p[others], test.labels[others], test.recordings[others]),
    }


def lost_with_device(plan: Plan) -> list[tuple[str, tuple[int, ...]]]:
    """(device, indices of the sub-models that no other one holds): what is missing without it, for
    each in use.
    """
    used = set()
    for sub in plan.sub_models:
        used.update(sub.devices)

    lost = []
    for name in sorted(used):
        alone = tuple(sub.index for sub in plan.sub_models if set(sub.devices) == {name})
        lost.append((name, alone))
    return lost
