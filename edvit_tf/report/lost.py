"""The sections of the page that show what lost sub-models and lost devices cost."""

from edvit_tf.data.names import few
from edvit_tf.report.compared import counted
from edvit_tf.report.entries import Comparison
from edvit_tf.report.figures import note, percent, points, table
from edvit_tf.report.fleet_entries import LostSubModel
from edvit_tf.report.results import Results
from edvit_tf.report.said import p_said
from edvit_tf.report.tables import CLASSES_ROOM


def sub_model(results: Results) -> str:
    """What the fleet still knows without one of its sub-models."""
    if not results.missing_one:
        return note("There is one sub-model: without it there is no answer.")

    fused = results.fusion.tflite
    if results.knows_all:
        return _alike(results) + _lost_devices(results)

    head = [
        "without",
        "accuracy,\nall classes",
        "change,\npoints",
        "exact\nMcNemar",
        "other classes,\nall present",
        "other classes,\nwithout it",
        f"{results.data.noun}s of\nother classes",
        "its classes",
    ]

    rows = [_without(results, lost) for lost in results.missing_one]
    told = note(
        f"All present: {percent(fused.recording, fused.recordings)} of {fused.recordings}. "
        "Measured on the .tflite files, zeros in the place of the missing features. Other "
        "classes: those of the remaining sub-models."
    )
    return table(head, rows, text=(0, 7), wrap=7) + told + _lost_devices(results)


def _alike(results: Results) -> str:
    """The same where every sub-model knows all classes: there are no others' classes."""
    fused = results.fusion.tflite
    rows = []
    for lost in results.missing_one:
        change = points(lost.tflite.recording - fused.recording, fused.recordings)
        share = percent(lost.tflite.recording, lost.tflite.recordings)
        rows.append([lost.name, share, change, _test(lost.paired)])

    head = ["without", "accuracy", "change,\npoints", "exact\nMcNemar"]
    return table(head, rows) + note(
        f"All present: {percent(fused.recording, fused.recordings)} of {fused.recordings}. "
        "Measured on the .tflite files. Each of the others knows all classes, so none is lost "
        "with it."
    )


def _without(results: Results, lost: LostSubModel) -> list:
    fused = results.fusion.tflite
    gone = results.sub_models[lost.missing].labels
    others = lost.other_classes

    # What the whole fleet knows of the classes that remain, from its confusions.
    remaining = [i for i, label in enumerate(results.labels) if label not in gone]
    total = sum(sum(results.confusion[i]) for i in remaining)
    right = sum(results.confusion[i][i] for i in remaining)

    return [
        lost.name,
        percent(lost.tflite.recording, lost.tflite.recordings),
        points(lost.tflite.recording - fused.recording, fused.recordings),
        _test(lost.paired),
        percent(right / max(1, total), total),
        "-" if others is None else percent(others.recording, others.recordings),
        "-" if others is None else others.recordings,
        few(gone, CLASSES_ROOM, "classes"),
    ]


def _lost_devices(results: Results) -> str:
    """The same by device, where a device is not a sub-model: replicas, or several sub-models on
    one.
    """
    # Then each device is one sub-model, and the table above says it all.
    if all(len(lost.missing) == 1 for lost in results.lost_devices):
        return ""

    fused = results.fusion.tflite
    rows = []
    for lost in results.lost_devices:
        names = [results.sub_models[j].name for j in lost.missing]
        rows.append(
            [
                lost.device,
                ", ".join(names) or "none",
                percent(lost.tflite.recording, fused.recordings),
                points(lost.tflite.recording - fused.recording, fused.recordings),
                _test(lost.paired),
            ]
        )

    head = [
        "without the device",
        "sub-models that\nare missing",
        "accuracy",
        "change,\npoints",
        "exact\nMcNemar",
    ]
    free = sum(not lost.missing for lost in results.lost_devices)
    told = note(
        f"{free} of {counted(len(rows), 'device')} can fail alone without any loss: what it holds "
        "is on another too."
    )
    return table(head, rows, text=(0, 1)) + told


def _test(paired: Comparison | None) -> str:
    """p of the change; a dash where results of an older version do not say."""
    return "-" if paired is None else p_said(paired.p_value)


def several(results: Results) -> str:
    """Accuracy against the number of sub-models that are lost: mean, worst, best of the measured
    sets of that size.
    """
    fused = results.fusion.tflite
    by_size: dict[int, list[float]] = {}
    for lost in results.losses:
        by_size.setdefault(len(lost.missing), []).append(lost.tflite.recording)

    # Size 0 is the whole fleet: the row that the others are read against.
    rows = []
    for size, shares in [(0, [fused.recording]), *sorted(by_size.items())]:
        mean = sum(shares) / len(shares)
        figures = [percent(share, fused.recordings) for share in (mean, min(shares), max(shares))]
        rows.append([size, len(shares), *figures])

    told = note(
        "Fused accuracy on the .tflite files, zeros in the place of the lost features. All sets of "
        "a size, or a seeded sample where there are many; results.json names each. The aggregator "
        "tells a client the figure of its case."
    )
    return table(["lost", "sets\nmeasured", "mean", "worst", "best"], rows, text=()) + told
