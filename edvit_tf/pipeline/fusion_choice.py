"""Which of the fusions that were fitted a run takes, by validation data."""

from collections.abc import Mapping

import numpy as np

from edvit_tf.evaluation.paired import mcnemar
from edvit_tf.export.fusion import AS_GOOD, AUTO, Fusion, chosen_kind
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.views import CHANCE


def choose(
    run: Run, fusions: Mapping[str, Fusion], right: Mapping[str, np.ndarray]
) -> tuple[str, str]:
    """The kind that is taken and why; `right` (recordings,) says which of them each names right.

    Of a class split the smallest that is as good as the best (`chosen_kind`). Members of all
    classes are averaged, which needs no fit and loses least with a device: another kind has to have
    a gain over it that is no chance (exact McNemar test).
    """
    accuracy = {kind: float(named.mean()) for kind, named in right.items()}
    smallest = min(member.size_bytes for member in run.sub_models)
    kind = chosen_kind(fusions, accuracy, smallest)
    if len(fusions) == 1:
        return kind, ""
    if run.kind == "classes":
        return kind, f"the smallest within {100 * AS_GOOD:.1f} points of the best"
    return _beside_average(kind, right)


def _beside_average(kind: str, right: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """`kind`, or the average where that is not told from it."""
    mine, other = right["average"], right[kind]
    gain = 100 * float(other.mean() - mine.mean())
    if kind == "average" or gain <= 0:
        return "average", "no other has more, and it needs no fit"
    chance = mcnemar(int((other & ~mine).sum()), int((mine & ~other).sum()))
    said = f"{kind} has {gain:+.1f} points over the average, exact McNemar p = {chance:.2g}"
    return (kind, said) if chance < CHANCE else ("average", f"{said}: that may be chance")


def left_out(run: Run) -> dict[str, str]:
    """Kinds that a run which was to choose does not try, and why."""
    if run.config.fusion != AUTO or run.tries_joint:
        return {}
    if run.kind == "copies":
        return {"joint": "the members are copies of one model, with no weights of their own"}
    if run.kind == "joint":
        return {"joint": "the members were trained together already, by the average"}
    if run.config.joint_training is not None:
        return {"joint": "its MLP has more bytes than a device's file"}
    asked = run.config.training_budget
    return {"joint": f"the training budget of {asked} has no epoch for it"} if asked else {}


def told(kind: str, reason: str, kinds: Mapping[str, dict]) -> str:
    """Accuracy on validation data and KiB, by kind, with what was taken."""
    words = []
    for name, one in kinds.items():
        words.append(f"{name} {100 * one['accuracy']:.1f} % {one['size_bytes'] / 1024:.0f} KiB")
    return f"fusion: {kind}, of {', '.join(words)} ({reason})"
