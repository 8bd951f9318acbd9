"""Which way to use the devices, from what a run measured: the answer of `edvit advise`, and the
first lines of the report.

The simplest way stands first: one model of a device's size, each device for itself, which has N
times as many answers a second. Another takes its place where it is better by recording and chance
is excluded (`Comparison.state`); where two cannot be told apart, the simpler one stays and it is
said.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.manifest import Manifest
from edvit_tf.report.causes import causes, gap
from edvit_tf.report.entries import BETTER, LEVEL, WORSE, Comparison
from edvit_tf.report.figures import number, percent
from edvit_tf.report.floor import floor_said
from edvit_tf.report.options import KINDS, Way, device_count, ways
from edvit_tf.report.pairs import Pairs
from edvit_tf.report.results import Results
from edvit_tf.report.said import change_said


@dataclass(frozen=True)
class Judged:
    """A way, and how it stands against the single model; None where one of them was not measured,
    and for the single model itself.
    """

    way: Way
    against_single: Comparison | None = None


@dataclass(frozen=True)
class Advice:
    """What was found: `sentence` is the recommendation, `reasons` why, `causes` what limits a fleet
    that gains nothing.
    """

    devices: int
    gap: float | None  # accuracy of the base less that of the single model
    gap_split: str  # of which data
    rows: tuple[Judged, ...]
    recommended: Way | None
    sentence: str
    reasons: tuple[str, ...]
    causes: tuple[str, ...]


def advise(bundle: Bundle, results: Results) -> Advice:
    """The advice on a bundle; raises BundleError where its predictions.npz is damaged."""
    return advice(bundle.manifest, results, bundle.path)


def advice(manifest: Manifest, results: Results, folder: Path | None = None) -> Advice:
    """The same from a manifest and results; `folder` holds predictions.npz, if any does."""
    found = ways(manifest, results)
    pairs = Pairs(results, folder)
    by = {way.key: way for way in found if way.accuracy is not None}  # of copies the most
    single = by.get("single")

    rows = []
    for way in found:
        known = single is not None and way is not single and by.get(way.key) is way
        rows.append(Judged(way, pairs.compare(way, single) if known and single else None))

    made = by[results.fleet.kind]
    room, split = gap(results)
    devices = device_count(manifest, results)
    limits: tuple[str, ...] = ()
    if single is not None:
        limits = tuple(causes(results, pairs.compare(made, single)))

    base = Advice(devices, room, split, tuple(rows), None, "", (), limits)
    below = floor_said(results)
    if single is None:
        return _floor_first(replace(base, sentence=_without_single(results, made)), below)

    taken = _taken(by, pairs)
    found_out = replace(
        base,
        recommended=taken,
        sentence=_sentence(results, taken, devices),
        reasons=tuple(_reasons(results, by, taken, pairs, devices)),
    )
    return _floor_first(found_out, below)


def _floor_first(advice: Advice, below: tuple[str, ...]) -> Advice:
    """The same; of a run below its floor that comes first, and the recommendation after it."""
    if not below:
        return advice
    first, *rest = below
    return replace(advice, sentence=first, reasons=(*rest, advice.sentence, *advice.reasons))


# One model on each device, which answers for itself; then fleets.
ALONE = ("single", "equal")
SIMPLEST_FIRST = (*ALONE, *KINDS)


def _taken(by: dict[str, Way], pairs: Pairs) -> Way:
    """The simplest way that no other of a device's size is better than."""
    taken = by["single"]
    for key in SIMPLEST_FIRST:
        if key in by and pairs.compare(by[key], taken).state == BETTER:
            taken = by[key]
    return taken


def _without_single(results: Results, made: Way) -> str:
    assert made.accuracy is not None
    share = percent(made.accuracy.recording, made.accuracy.recordings)
    if len(results.sub_models) == 1:
        return f"There is one sub-model: a pruned model on one device, {share}. Nothing is split."
    return (
        f"No advice: no single model was trained beside the fleet ({share}), so whether one would "
        "do as well is not known. Run the recipe with --baselines single."
    )


def _sentence(results: Results, taken: Way, devices: int) -> str:
    assert taken.accuracy is not None
    share = percent(taken.accuracy.recording, taken.accuracy.recordings)
    if taken.key == "single":
        name = results.rival_name("single")
        return f"Take {name}, on each device for itself: {share} of the test {results.data.noun}s."
    if taken.key == "equal":
        return (
            "Take one model trained as much as the joint fleet, on each device for itself: "
            f"{share} of the test {results.data.noun}s."
        )
    name = {
        "copies": f"{taken.answering} copies of one model, each with its own view",
        "classes": f"the class split, {taken.answering} sub-models",
        "joint": f"the joint fleet, {taken.answering} members",
    }[taken.key]
    return f"Take {name}: {share} of the test {results.data.noun}s, fused."


def _reasons(
    results: Results, by: dict[str, Way], taken: Way, pairs: Pairs, devices: int
) -> list[str]:
    """How the recommended way stands against each of the others, the simplest first."""
    said = [_stands(results, taken, by[key], pairs) for key in SIMPLEST_FIRST if key in by]
    said = [one for one in said if one]

    if taken.key in ALONE and devices > 1:
        said.append(
            f"So each of the {devices} devices answers for itself: {devices} times as many inputs "
            "a second as one, and as long as one of them is left."
        )
    elif taken.key not in ALONE and taken.answers_per_second and by["single"].answers_per_second:
        said.append(
            f"The price: all {devices} devices together answer "
            f"{number(taken.answers_per_second)} inputs a second, with one model each "
            f"{number(by['single'].answers_per_second)}."
        )

    if taken.key == "copies":
        said += _fewer_said(results, taken)
    said += _room_said(results)
    said.append(_beside_base(by["base"], taken, pairs))
    if taken.key in KINDS and taken.key != results.fleet.kind:
        said.append(
            f"This bundle holds another kind: the recipe with --fleet {taken.key} makes it."
        )
    return said


# Points of accuracy on validation data that fewer copies may lack to be as good as all.
NEARLY = 0.002


def _fewer_said(results: Results, taken: Way) -> list[str]:
    """How many copies give nearly what all do: then several groups of them answer side by side."""
    shares = {} if results.copies is None else results.copies.validated
    most = shares.get(taken.answering)
    if most is None or not math.isfinite(most) or taken.answering < 3:
        return []

    fewest = min(n for n, share in shares.items() if n > 1 and share >= most - NEARLY)
    if fewest == taken.answering:
        return []
    lacks = f"{100 * max(0.0, most - shares[fewest]):.1f}"
    return [
        f"On validation data {fewest} of them lack {lacks} points of that: groups of {fewest} "
        "devices answer side by side."
    ]


def _room_said(results: Results) -> list[str]:
    """What there is to win, by the base."""
    room, split = gap(results)
    if room is None:
        return []
    if room <= 0:
        return [
            f"On {split} data the base is no better than the one model: nothing to learn there."
        ]
    return [
        f"On {split} data the base is {100 * room:.1f} points above the one model: about as much "
        "as a fleet that learns from it can gain."
    ]


def _stands(results: Results, taken: Way, other: Way, pairs: Pairs) -> str:
    """The recommended way against another of a device's size."""
    if other is taken:
        return ""
    found = pairs.compare(taken, other)
    name = {
        "single": "one of a device's models alone",
        "equal": "one model of equal training",
        "copies": "copies of it with views",
        "classes": "the class split",
        "joint": "the joint fleet",
    }[other.key]
    how = {
        BETTER: "It is better than",
        WORSE: "It is worse than",
        LEVEL: f"It {LEVEL} from",
    }[found.state]
    simpler = ", and is simpler" if found.state == LEVEL and _is_simpler(taken, other) else ""
    return f"{how} {name}{simpler}: {change_said(found)}."


def _is_simpler(one: Way, other: Way) -> bool:
    """Whether a way answers by fewer models, or by one with less training."""
    return one.key in ALONE and SIMPLEST_FIRST.index(one.key) < SIMPLEST_FIRST.index(other.key)


def _beside_base(base: Way, taken: Way, pairs: Pairs) -> str:
    found = pairs.compare(taken, base)
    assert base.accuracy is not None
    share = percent(base.accuracy.recording, base.accuracy.recordings)

    costs = ""
    if base.device_bytes and taken.device_bytes:
        costs = f", for {number(base.device_bytes / taken.device_bytes)} times a device's bytes"
        if base.latency_ms and taken.latency_ms:
            costs += f" and {number(base.latency_ms / taken.latency_ms)} times its milliseconds"

    if found.state == LEVEL:
        return f"The whole base on one device cannot be told apart from it ({share}){costs}."
    return (
        f"The whole base on one device has {share}{costs}: the way taken less the base is "
        f"{change_said(found)}."
    )
