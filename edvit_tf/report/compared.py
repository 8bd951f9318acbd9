"""The models of a run side by side: what each costs, and the fleet against each of the others.

Both models of a comparison saw the same test data, so it is made recording by recording: an exact
McNemar test and a paired interval. Results of versions up to 0.3.0 store accuracies alone; there
the interval takes them as independent samples, and is as a rule wider.
"""

import statistics
from dataclasses import dataclass, replace

from edvit_tf.device.model.manifest import FusionEntry
from edvit_tf.device.terminal import counted
from edvit_tf.export.fusion import KINDS, Tower
from edvit_tf.report.entries import (
    Accuracy,
    Comparison,
    Milliseconds,
    Model,
    Process,
    SubModel,
    Turns,
)
from edvit_tf.report.figures import difference
from edvit_tf.report.results import Results

# In a chart or a table of several models.
SHORT = {
    "floor": "floor, linear",
    "base": "base",
    "single": "single model",
    "equal": "equal training",
    "plain": "not distilled",
    "total": "of all files' size",
    "copies": "copies, views",
    "fused": "fleet, fused",
    "average": "fleet, average",
}


@dataclass(frozen=True)
class Compared:
    """A model that a reader weighs against others; a fleet's bytes and MACs are those of its
    fullest device, and of all.
    """

    key: str
    name: str
    accuracy: Accuracy
    device_bytes: int
    total_bytes: int
    device_macs: int
    macs: int
    times: Milliseconds | None  # of one input; None where it was not measured
    process: Process | None
    passes: tuple[float, ...] = ()  # ms of each alternating pass, where there were such


def compare(results: Results, row: Compared) -> Comparison:
    """The fused fleet against one of the others: paired, or of old results by accuracies alone."""
    if row.key in results.comparisons:
        return results.comparisons[row.key]

    fused = results.fusion.tflite.recording
    count = row.accuracy.recordings
    low, high = difference(fused, row.accuracy.recording, count)
    return Comparison(count, fused - row.accuracy.recording, low, high)


def compared(fusion: FusionEntry, results: Results) -> list[Compared]:
    """The floor, the base, those of RIVALS that were measured, copies of the single one, the fused
    fleet, the fleet's average.

    The fleet's times are those of its slowest device, its sub-models one after the other, and the
    fusion. Medians are those of the alternating passes, where there were such.
    """
    rows = _floor(results)
    rows.append(_alone("base", "base, unsplit", results.base, results.turns))
    for key, model in results.rivals.items():
        rows.append(_alone(key, results.rival_name(key), model, results.turns))

    rows += _copies(results)

    # The fullest, the busiest and the slowest device need not be the same one.
    loads = _by_device(results.sub_models)
    device_bytes = max(load.file_bytes for load in loads)
    device_macs = max(load.macs for load in loads)
    median = max(load.median_ms for load in loads)
    p95 = max(load.p95_ms for load in loads)

    # A replica's file counts on each device that has it, its MACs once: one of them answers.
    total_bytes = sum(load.file_bytes for load in loads)
    macs = sum(sub.macs for sub in results.sub_models)

    processes = [sub.process for sub in results.sub_models]
    largest = max(processes, key=lambda process: process.peak_rss_bytes)

    # In each pass for itself: then a slow moment of the machine counts for all of them.
    turns = results.turns
    alone: tuple[float, ...] = ()
    whole: tuple[float, ...] = ()
    if turns is not None:
        alone = _slowest(results, turns)
        ends = turns.models["fusion"]
        whole = tuple(one + end for one, end in zip(alone, ends, strict=True))

    last = results.fusion.process.invoke_ms
    name = counted(len(results.sub_models), "sub-model")
    fused = Compared(
        key="fused",
        name=f"{name}, fused",
        accuracy=results.fusion.tflite,
        device_bytes=device_bytes,
        total_bytes=total_bytes + results.fusion.file_bytes,
        device_macs=device_macs,
        macs=macs + _fusion_macs(fusion, results),
        times=Milliseconds(_median(whole, median + last.median), p95 + last.p95),
        process=largest,
        passes=whole,
    )

    # The heads' softmaxes are averaged where the answers meet: no file, no MACs, no time of
    # its own.
    average = Compared(
        key="average",
        name=f"{name}, softmax average",
        accuracy=results.fusion.average,
        device_bytes=device_bytes,
        total_bytes=total_bytes,
        device_macs=device_macs,
        macs=macs,
        times=Milliseconds(_median(alone, median), p95),
        process=largest,
        passes=alone,
    )

    return [*rows, fused, average]


def _floor(results: Results) -> list[Compared]:
    """The linear classifier, which has no file: nobody deploys it."""
    floor = results.floor
    if floor is None:
        return []
    size, macs = floor.weight_bytes, floor.macs
    return [
        Compared(
            key="floor",
            name="floor: linear, on pooled inputs",
            accuracy=floor.accuracy,
            device_bytes=size,
            total_bytes=size,
            device_macs=macs,
            macs=macs,
            times=None,
            process=None,
        )
    ]


def _copies(results: Results) -> list[Compared]:
    """Copies of the single model beside another kind of fleet, as many as there are views."""
    copies = results.copies_beside
    if copies is None or copies.most is None:
        return []

    single, most = results.rivals["single"], copies.most
    one = _alone("single", "", single, results.turns)  # each is that file
    size = copies.file_bytes or single.deployed_bytes
    return [
        replace(
            one,
            key="copies",
            name=f"{most.devices} copies of that one, a view each",
            accuracy=most.tflite,
            device_bytes=size,
            total_bytes=most.devices * size,
            macs=most.devices * single.macs,
        )
    ]


def _slowest(results: Results, turns: Turns) -> tuple[float, ...]:
    """Milliseconds of the slowest device in each pass, its sub-models one after the other."""
    loads: dict[str, list[float]] = {}
    for sub in results.sub_models:
        for device in sub.devices:
            load = loads.setdefault(device, [0.0] * turns.passes)
            for i, ms in enumerate(turns.models[sub.name]):
                load[i] += ms
    return tuple(max(each) for each in zip(*loads.values(), strict=True))


def _median(passes: tuple[float, ...], otherwise: float) -> float:
    return statistics.median(passes) if passes else otherwise


def _alone(key: str, name: str, model: Model, turns: Turns | None) -> Compared:
    """A model that is on one device as a whole."""
    passes: tuple[float, ...] = ()
    if turns is not None:
        passes = turns.models.get(key, ())

    times = None
    if model.process is not None:
        measured = model.process.invoke_ms
        times = Milliseconds(_median(passes, measured.median), measured.p95)

    return Compared(
        key=key,
        name=name if model.process else f"{name} (Keras, no .tflite file)",
        accuracy=model.accuracy,
        device_bytes=model.deployed_bytes,
        total_bytes=model.deployed_bytes,
        device_macs=model.macs,
        macs=model.macs,
        times=times,
        process=model.process,
        passes=passes,
    )


@dataclass
class _Load:
    """What one device holds, and what it spends on one input: its sub-models one after the
    other.
    """

    file_bytes: int = 0
    macs: int = 0
    median_ms: float = 0.0
    p95_ms: float = 0.0


def _by_device(sub_models: tuple[SubModel, ...]) -> list[_Load]:
    """The load of each device; a replica counts on every device that has it."""
    loads: dict[str, _Load] = {}
    for sub in sub_models:
        for device in sub.devices:
            load = loads.setdefault(device, _Load())
            load.file_bytes += sub.file_bytes
            load.macs += sub.macs
            load.median_ms += sub.process.invoke_ms.median
            load.p95_ms += sub.process.invoke_ms.p95
    return list(loads.values())


def _fusion_macs(fusion: FusionEntry, results: Results) -> int:
    """Of one window: an average holds the sub-models' heads once more."""
    groups = []
    for sub in results.sub_models:
        groups.append(tuple(results.labels.index(label) for label in sub.labels))

    kind = KINDS.get(fusion.kind, Tower)
    return kind(
        widths=fusion.widths,
        groups=tuple(groups),
        num_classes=len(results.labels),
        hidden_share=fusion.hidden_factor,
    ).window_macs
