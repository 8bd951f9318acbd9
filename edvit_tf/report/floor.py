"""Whether a run stands above its floor, and what to do where it does not: said before all else.

The floor is a ridge classifier on pooled inputs (`edvit_tf.training.floor`). A Vision Transformer
that knows no more than that has learnt nothing that it is needed for.
"""

from edvit_tf.report.entries import Comparison
from edvit_tf.report.figures import percent
from edvit_tf.report.results import Results
from edvit_tf.report.said import change_said

LONGER = (
    "Train the base longer or with other augmentation (base_training of the recipe), give it more "
    "data, or start from a pretrained model (--base)."
)
LESS_CUT = (
    "The base stands above it, so the cuts lost it: keep more heads a device (--start-heads), fit "
    "longer after the cuts (stage_training of the recipe), or take fewer devices."
)


def floor_said(results: Results) -> tuple[str, ...]:
    """What is wrong, then what to do; nothing for a run that stands above its floor, or has none.

    Fleet and base are below it where they name fewer recordings right; whether chance is excluded
    is said too.
    """
    floor = results.floor
    if floor is None:
        return ()

    fleet = results.comparisons.get("floor")
    below = []
    if floor.base.difference < 0:
        below.append(("base", results.base.accuracy.recording, floor.base))
    if fleet is not None and fleet.difference < 0:
        below.append(("fleet", results.fusion.tflite.recording, fleet))
    if not below:
        return ()

    share = percent(floor.accuracy.recording, floor.accuracy.recordings)
    said = [_below(name, own, found, share) for name, own, found in below]
    return (*said, LONGER if below[0][0] == "base" else LESS_CUT)


def _below(name: str, own: float, found: Comparison, floor: str) -> str:
    return (
        f"The {name} is below the floor: {percent(own, found.recordings)}, where a linear "
        f"classifier on pooled inputs has {floor}. The difference is {change_said(found)}."
    )
