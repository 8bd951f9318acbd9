"""Why a fleet gains nothing over one of its devices' models, as far as a run's figures tell."""

import math
from itertools import combinations

from edvit_tf.report.entries import BETTER, Comparison
from edvit_tf.report.results import Results

# Points of accuracy between the base and one model: under it there is little for a fleet to win.
LITTLE_GAP = 0.01
# Half of an interval: test data that tell nothing apart below this are few.
WIDE = 0.03


def gap(results: Results) -> tuple[float | None, str]:
    """(accuracy of the base less that of the single model, the split that it is of). None where no
    single model was trained.
    """
    stored = results.fleet.gap
    if stored is not None and math.isfinite(stored):  # Python's JSON has NaN
        return stored, "validation"
    single = results.rivals.get("single")
    if single is None:
        return None, ""
    return results.base.accuracy.recording - single.accuracy.recording, "test"


def causes(results: Results, against_single: Comparison) -> list[str]:
    """Sentences; none where the fleet is better than the single model."""
    if against_single.state == BETTER:
        return []

    said = []
    said += _little_room(results)
    said += _alike(results)
    said += _trained_little(results)

    half = (against_single.high - against_single.low) / 2
    if half > WIDE:
        said.append(
            f"{against_single.recordings} test {results.data.noun}s are few: a difference under "
            f"about {100 * half:.1f} points cannot be told from chance on them."
        )
    return said


def _little_room(results: Results) -> list[str]:
    """Whether the base, from which all learn, is hardly better than the one model."""
    room, split = gap(results)
    if room is None or room >= LITTLE_GAP:
        return []
    how = f"only {100 * room:.1f} points better than" if room > 0 else "no better than"
    return [
        f"There is little to win: on {split} data the base, from which all learn, is {how} the one "
        "model."
    ]


def _alike(results: Results) -> list[str]:
    """Whether members know the same."""
    share = results.disagreement
    if share is None:
        return []

    if not results.knows_all:
        return [
            f"Of two members both claim an input, for different classes, on {100 * share:.1f} % of "
            "the test windows."
        ]

    single = results.rivals.get("single")
    if single is None:
        return []
    wrong = _errors(results, 1 - single.accuracy.window)
    apart = independent(wrong, len(results.labels))
    if share >= apart / 2:
        return []
    mean = sum(wrong) / len(wrong)
    return [
        f"Members know nearly the same: two of them name different classes on {100 * share:.1f} % "
        f"of the test windows. One is wrong on {100 * mean:.1f} %; two that erred independently of "
        f"each other would differ on about {100 * apart:.1f} %."
    ]


def _errors(results: Results, of_single: float) -> list[float]:
    """Share of the test windows that each member alone names wrong, where all but it were taken
    away; else that of the one model, for each.
    """
    count = len(results.sub_models)
    alone = [1 - lost.tflite.window for lost in results.losses if len(lost.missing) == count - 1]
    return alone if len(alone) == count else [of_single] * count


def independent(wrong: list[float], classes: int) -> float:
    """Share of windows on which two of these members differ, mean of all pairs, if they erred
    independently and a wrong answer were any of the other classes.
    """
    same_mistake = 1 / max(1, classes - 1)
    pairs = [
        one * (1 - other) + other * (1 - one) + one * other * (1 - same_mistake)
        for one, other in combinations(wrong, 2)
    ]
    return sum(pairs) / len(pairs) if pairs else 0.0


def _trained_little(results: Results) -> list[str]:
    """Whether a member has seen less than an epoch of the training data."""
    epoch = results.data.splits.get("train")
    if not results.members_samples or epoch is None or not epoch.windows:
        return []
    if results.fleet.kind == "copies":
        return []  # each is the one model

    mean = sum(results.members_samples) / len(results.members_samples)
    epochs = mean / epoch.windows
    told = f"A member was trained on {mean:,.0f} samples, {epochs:.1f} times the data"
    single = results.rivals.get("single")
    if single is not None:
        samples = sum(step.history.samples for step in single.stages)
        told += f"; the one model on {samples:,}"
    return [f"{told}."] if epochs < 2 else []
