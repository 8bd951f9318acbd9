"""The ways to use the devices of a bundle, each with what it gives and what it costs: one model,
the same trained as much as a joint fleet, copies of it with views, the class split, the joint
fleet, the whole base.

A way that the run did not measure is there too, with nothing but its name.
"""

import statistics
from dataclasses import dataclass, replace

from edvit_tf.device.model.manifest import Manifest
from edvit_tf.planning.boards import Range
from edvit_tf.report.compared import Compared, compared, counted
from edvit_tf.report.devices_lost import LostAt, with_devices_lost
from edvit_tf.report.entries import Accuracy, Model
from edvit_tf.report.planned_energy import any_of, computing_joules
from edvit_tf.report.results import Results

# The kinds of fleet, in words; a fleet of classes is what a bundle of an earlier version is.
KINDS = {
    "copies": "copies of it, a view each",
    "classes": "class split",
    "joint": "joint fleet",
}


# Views were looked for, and the input as it is was the best of all numbers of them.
NO_SECOND_VIEW = "no second view helped on validation data"


@dataclass(frozen=True)
class Training:
    """What an option was trained with, after the base; None where it is not known."""

    seconds: float | None = None
    macs: int | None = None
    elsewhere: bool = False  # its weights were given (--shared-weights)


@dataclass(frozen=True)
class Way:
    """One way to use the devices. All but `key`, `name` and `known` is None where it was not
    measured.
    """

    key: str  # "single", "equal", "copies", "classes", "joint", "base"
    name: str
    answering: int = 1  # members that one answer takes
    devices: int = 1  # that hold one
    accuracy: Accuracy | None = None  # on the test split
    latency_ms: float | None = None  # median of one answer, without network
    joules: Range | None = None  # of computing one answer, by published figures of its boards
    device_bytes: int | None = None
    total_bytes: int | None = None
    answers_per_second: float | None = None  # of all devices together, without network
    lost: tuple[LostAt, ...] = ()
    training: Training = Training()
    predictions: str | None = None  # its name in predictions.npz, where its answers are there
    known: str | None = None  # what the run found out of a way that it did not measure


def ways(manifest: Manifest, results: Results) -> list[Way]:
    """Every way, from the simplest to the base; of copies one for each number of them that was
    measured, the most last.
    """
    rows = {row.key: row for row in compared(manifest.fusion, results)}
    devices = device_count(manifest, results)

    found = [_single(results, rows, devices)]
    if "equal" in results.rivals:
        found.append(_equal(results, rows["equal"], devices))
    found += _copies(results, rows, devices)
    for kind in ("classes", "joint"):
        if kind == results.fleet.kind:
            found.append(_fleet(results, rows, devices))
        else:
            found.append(Way(kind, KINDS[kind]))

    found.append(_base(results, rows["base"], devices))
    return [replace(way, joules=_joules(way, manifest, results)) for way in found]


def _joules(way: Way, manifest: Manifest, results: Results) -> Range | None:
    """Of computing one answer, on all devices that it takes; None where a board is not known."""
    if way.accuracy is None:
        return None
    boards = {device["name"]: device for device in manifest.plan.devices}
    if way.key == results.fleet.kind and way.answering == len(results.sub_models):
        total = Range(0.0, 0.0, 0.0)
        for sub in results.sub_models:
            # one of its replicas answers
            own = any_of(
                [computing_joules(boards.get(name, {}), sub.macs_full) for name in sub.devices]
            )
            if own is None:
                return None
            total = total + own
        return total

    model = results.base if way.key == "base" else results.rivals.get(_MODELS[way.key])
    if model is None:
        return None
    own = any_of([computing_joules(device, model.macs_full) for device in boards.values()])
    return None if own is None else own * way.answering


# The model that each of them runs
_MODELS = {"single": "single", "equal": "equal", "copies": "single"}


def device_count(manifest: Manifest, results: Results) -> int:
    """N: the devices of the plan, those that hold nothing too."""
    used = {device for sub in results.sub_models for device in sub.devices}
    return max(len(manifest.plan.devices), len(used))


def _single(results: Results, rows: dict[str, Compared], devices: int) -> Way:
    name = results.rival_name("single")
    if "single" not in results.rivals:
        return Way("single", name)

    model = results.rivals["single"]
    return _whole_model("single", name, model, rows["single"], devices, _single_training(results))


def _equal(results: Results, row: Compared, devices: int) -> Way:
    """One model that was trained as much as the joint fleet: from where its members start."""
    names = ["equal"]
    if results.fleet.start == "model":
        names += ["single", *_starts(results)]
    training = Training(_seconds(results, names), results.training_macs.get("equal"))
    name = results.rival_name("equal")
    return _whole_model("equal", name, results.rivals["equal"], row, devices, training)


def _base(results: Results, row: Compared, devices: int) -> Way:
    training = Training(macs=results.base.training.macs or None)
    if results.base.given is None:
        seconds = results.stage_seconds.get("base")
        training = Training(seconds, results.base.training.macs or None)
    return _whole_model("base", "the whole base", results.base, row, devices, training)


def _whole_model(
    key: str, name: str, model: Model, row: Compared, devices: int, training: Training
) -> Way:
    """A model that answers for all classes, on each device: each answers for itself."""
    ms = row.times.median if row.times else None
    return Way(
        key=key,
        name=name,
        devices=devices,
        accuracy=model.accuracy,
        latency_ms=ms,
        device_bytes=row.device_bytes,
        total_bytes=devices * row.device_bytes,
        answers_per_second=_rate(ms, devices),
        # whatever is lost, each that is left answers as before
        lost=tuple(
            LostAt(lost, model.accuracy.recording, model.accuracy.recording, 1)
            for lost in range(1, devices)
        ),
        training=training,
        predictions=key,
    )


def _copies(results: Results, rows: dict[str, Compared], devices: int) -> list[Way]:
    """The single model's copies, for each number of them; the fleet itself where it is one."""
    own = results.fleet.kind == "copies"
    if results.copies is None or not results.copies.test:
        return [_fleet(results, rows, devices)] if own else [Way("copies", KINDS["copies"])]

    # devices beyond the views hold one of them again, which changes no answer
    tested = {at.devices: at.tflite for at in results.copies.by_view}
    row = rows.get("single")
    ms = row.times.median if row and row.times else None
    size = results.copies.file_bytes or (row.device_bytes if row else None)

    made = []
    for count, accuracy in tested.items():
        whole = count == max(tested)
        # the single model; the fleet, which was measured as it is deployed
        if count == 1 or (own and whole):
            continue

        # Which copies are left was measured in the order of the views alone.
        def left(missing: tuple[int, ...], count: int = count) -> float | None:
            found = tested.get(count - len(missing))
            return None if found is None else found.recording

        held = [{f"{n}" for n in range(j, devices, count)} for j in range(count)]
        made.append(
            Way(
                key="copies",
                name=f"{count} {KINDS['copies']}",
                answering=count,
                devices=devices,
                accuracy=accuracy,
                latency_ms=ms,
                device_bytes=size,
                total_bytes=None if size is None else devices * size,
                # as often as the view that fewest devices hold
                answers_per_second=_rate(ms, devices // count),
                lost=with_devices_lost(held, left),
                training=_single_training(results),
                predictions="copies" if whole else None,
            )
        )

    if own:
        return [*made, _fleet(results, rows, devices)]
    return made or [Way("copies", KINDS["copies"], known=NO_SECOND_VIEW)]


def _fleet(results: Results, rows: dict[str, Compared], devices: int) -> Way:
    """The fleet that the bundle holds."""
    kind = results.fleet.kind
    count = len(results.sub_models)
    row = rows["fused"]

    name = f"{count} {KINDS[kind]}"
    if kind == "copies" and count == 1:
        name = "it, as replicas: no view is worth a device"
    elif kind != "copies":
        name = f"{KINDS[kind]}, {counted(count, 'sub-model')}"

    held = [sub.devices for sub in results.sub_models]
    trained = _single_training(results) if kind == "copies" else _fleet_training(results)
    slowest = _busiest_ms(results)
    return Way(
        key=kind,
        name=name,
        answering=count,
        devices=len({device for own in held for device in own}),
        accuracy=results.fusion.tflite,
        latency_ms=row.times.median if row.times else None,
        device_bytes=row.device_bytes,
        total_bytes=row.total_bytes,
        answers_per_second=_rate(slowest, 1),
        lost=with_devices_lost(held, lambda missing: _without(results, missing)),
        training=trained,
        predictions="fused",
    )


def _without(results: Results, missing: tuple[int, ...]) -> float | None:
    """Accuracy of the fleet without these sub-models; of a set that was not measured the mean of
    those of its size.
    """
    if not missing:
        return results.fusion.tflite.recording
    measured = {lost.missing: lost.tflite.recording for lost in results.losses}
    if missing in measured:
        return measured[missing]

    alike = [share for gone, share in measured.items() if len(gone) == len(missing)]
    return sum(alike) / len(alike) if alike else None


def _rate(ms: float | None, times: float) -> float | None:
    return 1000 * times / ms if ms else None


def _busiest_ms(results: Results) -> float:
    """Milliseconds that an answer keeps the busiest device at work; replicas share the answers."""
    loads: dict[str, float] = {}
    for sub in results.sub_models:
        ms = sub.process.invoke_ms.median
        if results.turns is not None and sub.name in results.turns.models:
            ms = statistics.median(results.turns.models[sub.name])
        for device in sub.devices:
            loads[device] = loads.get(device, 0.0) + ms / len(sub.devices)
    return max(loads.values())


def _single_training(results: Results) -> Training:
    """Of the single model, and of the shared model that it starts from."""
    if "outside" in results.stage_seconds:
        return Training(elsewhere=True)
    starts = _starts(results)
    seconds = _seconds(results, ["single", *starts[-1:]])
    return Training(seconds, results.training_macs.get("single"))


def _fleet_training(results: Results) -> Training:
    names = [sub.name for sub in results.sub_models]
    if results.knows_all and results.fleet.start in (None, "model"):
        names.append("single")  # where they start
    ending = ["together", "features", "fusion", "joint"]
    seconds = _seconds(results, [*names, *_starts(results), *ending])
    return Training(seconds, results.training_macs.get("fleet"))


def _starts(results: Results) -> list[str]:
    """Names of the shared models that sub-models start from, the widest last."""
    kept = sorted({sub.kept_heads for sub in results.sub_models if sub.kept_heads is not None})
    return [f"shared-{heads}" for heads in kept if f"shared-{heads}" in results.shared]


def _seconds(results: Results, names: list[str]) -> float | None:
    """Of all stages of these members and of these stages; None where none is known."""
    found = []
    for stage, seconds in results.stage_seconds.items():
        if stage.split(".")[0] in names:
            found.append(seconds)
    return sum(found) if found else None
