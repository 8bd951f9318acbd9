"""What the figures of a run say in sentences: the answer to "why not one small model on one
device?" first, and how sure it is.
"""

import statistics

from edvit_tf.report.compared import Compared, compare
from edvit_tf.report.entries import BETTER, LEVEL, WORSE, Comparison
from edvit_tf.report.figures import number, percent, wilson
from edvit_tf.report.floor import floor_said
from edvit_tf.report.results import RIVALS, Results
from edvit_tf.report.said import change_said
from edvit_tf.report.units import macs as macs_said
from edvit_tf.report.units import milliseconds, size


def verdict(results: Results, rows: list[Compared]) -> list[str]:
    """What the figures say, in sentences; the first answers whether the split beats one model of a
    device's size, unless the run has ended below its floor: that is said before.
    """
    by = {row.key: row for row in rows}
    fused, base, single = by["fused"], by["base"], by.get("single")
    count = fused.accuracy.recordings

    # The answer to "why not one small model?" goes first, whatever it is.
    said = _accuracy_said(results, fused)
    if single:
        said = [*_against_single(results, fused, single), *said]
    elif len(results.sub_models) == 1:
        alone = "One sub-model holds all classes: nothing is split, this is a pruned model on one"
        said = [f"{alone} device.", *said]
    else:
        unknown = "No single model was trained beside the fleet: whether one would do as well is"
        said = [f"{unknown} not known.", *said]

    said = [*floor_said(results), *said]
    said.append(
        f"Against the unsplit base ({percent(base.accuracy.recording, count)}) the difference is "
        f"{_state_said(compare(results, base))}."
    )
    said += _training_said(results)

    if "equal" in by:
        equal = by["equal"]
        said.append(
            "One model of a device's size that was trained as much as the fleet reaches "
            f"{percent(equal.accuracy.recording, count)}; the difference is "
            f"{_state_said(compare(results, equal))}."
        )

    if "total" in by:
        total = by["total"]
        said.append(
            "One model as large as all files of the fleet together, "
            f"{size(total.device_bytes)} on one device, reaches "
            f"{percent(total.accuracy.recording, count)}; the difference is "
            f"{_state_said(compare(results, total))}."
        )

    average = by["average"]
    beside = compare(results, average)
    if beside.difference < 0:
        does = "does better than" if beside.state == WORSE else "cannot be told apart from"
        said.append(
            f"The plain softmax average {does} the fusion that is deployed "
            f"({percent(average.accuracy.recording, count)})."
        )

    against = [("the base", base)]
    if single:
        against.append(("the single model", single))

    said += [_bytes_said(fused, against), _times_said(results, fused, against)]
    said.append("One run with one seed: the spread between seeds is not in these figures.")
    return said


def _accuracy_said(results: Results, fused: Compared) -> list[str]:
    share, count = fused.accuracy.recording, fused.accuracy.recordings
    low, high = wilson(share, count)
    chance = 1 / len(results.labels)

    said = [
        f"The fused fleet classifies {percent(share, count)} of {count} test {results.data.noun}s "
        f"correctly (95 % interval {percent(low, count)} to {percent(high, count)})."
    ]

    if low <= chance:
        said.append(
            f"That cannot be told from guessing ({percent(chance, count)}): the comparisons mean "
            "little."
        )
    return said


def _training_said(results: Results) -> list[str]:
    """How much the fleet was trained after the base, and how much its rivals were."""
    said = []
    after, before = _fleet_samples(results), results.base.training.samples
    if after and before:
        said.append(
            f"The fleet goes on from the base: {after:,} training samples after the base's "
            f"{before:,}; the base was not trained any longer."
        )

    spent = results.training_macs
    fleet, single = spent.get("fleet"), spent.get("single")
    if fleet and single:
        others = ""
        for key, name in RIVALS.items():
            macs = spent.get(key)
            if key != "single" and macs:
                others += f", {name} with {macs_said(macs)}"
        said.append(
            f"After the cuts the fleet was trained with {macs_said(fleet)} MACs, the single "
            f"model with {macs_said(single)}{others}."
        )
    return said


def _fleet_samples(results: Results) -> int:
    """Training samples of all of the fleet's fits. A joint fit's pass through every sub-model."""
    samples = 0
    for j, sub in enumerate(results.sub_models):
        # members of all classes are made of one model, whose fits count once
        made = results.fleet.kind in ("copies", "joint") and j > 0
        steps = [step for step in sub.stages if not made or step.stage == "together"]
        samples += sum(step.history.samples for step in steps)

    # Shared models that a sub-model starts from; the others are the rivals'.
    starts = {f"shared-{sub.kept_heads}" for sub in results.sub_models}
    for name, steps in results.shared.items():
        if name in starts:
            samples += sum(step.history.samples for step in steps)

    joint = results.fusion.joint
    if joint is not None:
        samples += len(results.sub_models) * joint.samples
    return samples


def _bytes_said(fused: Compared, against: list[tuple[str, Compared]]) -> str:
    one, every = [], []
    for name, model in against:
        one.append(f"{_ratio(fused.device_bytes, model.device_bytes)} {name}'s")
        every.append(f"{_ratio(fused.total_bytes, model.total_bytes)} {name}'s")

    return (
        f"The fullest device holds {size(fused.device_bytes)}: {', '.join(one)}; all files "
        f"together take {size(fused.total_bytes)}, {', '.join(every)}."
    )


def _times_said(results: Results, fused: Compared, against: list[tuple[str, Compared]]) -> str:
    assert fused.times is not None
    ratios = ""
    for name, model in against:
        if model.times:
            ratios += f", {_times_ratio(fused, model)} {name}'s"

    told = "median"
    if fused.passes and results.turns is not None:
        least, most = milliseconds(min(fused.passes)), milliseconds(max(fused.passes))
        told = f"median of {results.turns.passes} alternating passes, {least} to {most}"

    machine = results.machine
    return (
        f"The slowest device and the fusion take {milliseconds(fused.times.median)} ({told})"
        f"{ratios}, on {machine.cpu} ({machine.machine}); the network is not included."
    )


def _times_ratio(fused: Compared, model: Compared) -> str:
    """The fleet's time in units of a model's; pass by pass where there were such, with their
    spread.
    """
    assert fused.times is not None and model.times is not None
    if not fused.passes or not model.passes:
        return _ratio(fused.times.median, model.times.median)

    ratios = [a / b for a, b in zip(fused.passes, model.passes, strict=True) if b]
    if not ratios:
        return "-"
    middle = number(statistics.median(ratios))
    return f"{middle} times ({number(min(ratios))} to {number(max(ratios))})"


def _against_single(results: Results, fused: Compared, single: Compared) -> list[str]:
    """The answer, and how sure it is."""
    found = compare(results, single)
    count = found.recordings
    name = results.rival_name("single").replace("one model", "one single model")
    figures = (
        f"{percent(fused.accuracy.recording, count)} against "
        f"{percent(single.accuracy.recording, count)}"
    )
    change = f"The difference is {change_said(found)}"

    if found.state == BETTER:
        return [f"The fleet is better than {name}: {figures}.", f"{change}."]

    if found.state == WORSE:
        return [
            f"The fleet is worse than {name}: {figures}.",
            f"{change}.",
            "On these figures one small model on one device is the better choice.",
        ]

    return [
        f"The fleet and {name} cannot be told apart: {figures}.",
        f"{change}: these test data do not decide, and one small model on one device may do as "
        "well.",
    ]


def _state_said(found: Comparison) -> str:
    """The change, and that it may be chance where it may."""
    if found.state != LEVEL:
        return change_said(found)

    # so few recordings may tell them apart by one of the two alone
    by_interval = found.low > 0 or found.high < 0
    why = " (the exact test does not exclude chance)" if by_interval else ""
    return f"{change_said(found)}: the two {LEVEL}{why}"


def _ratio(a: float, b: float) -> str:
    return f"{number(a / b)} times" if b else "-"
