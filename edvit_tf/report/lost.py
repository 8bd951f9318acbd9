"""The sections of the page that show what lost sub-models and lost devices cost."""

from edvit_tf.report.figures import percent, points, table
from edvit_tf.report.measured import note
from edvit_tf.report.verdict import counted, noun


def sub_model(results: dict) -> str:
    """What the fleet still knows without one of its sub-models."""
    if not results["missing_one"]:
        return note("There is one sub-model: without it there is no answer.")
    fused, counts, labels = results["fusion"]["tflite"], results["confusion"], results["labels"]
    rows = []
    for lost in results["missing_one"]:
        gone = results["sub_models"][lost["missing"]]["labels"]
        overall, others = lost["tflite"], lost["other_classes"]
        kept = [i for i, label in enumerate(labels) if label not in gone]
        total = sum(sum(counts[i]) for i in kept)
        rows.append(
            [
                lost["name"],
                percent(overall["recording"], overall["recordings"]),
                points(overall["recording"] - fused["recording"], fused["recordings"]),
                percent(sum(counts[i][i] for i in kept) / max(1, total), total),
                percent(others["recording"], others["recordings"]),
                others["recordings"],
                ", ".join(gone),
            ]
        )
    return (
        table(
            [
                "without",
                "accuracy,\nall classes",
                "change,\npoints",
                "other classes,\nall present",
                "other classes,\nwithout it",
                f"{noun(results['data'])}s of\nother classes",
                "its classes",
            ],
            rows,
            text=(0, 6),
            wrap=6,
        )
        + note(
            f"All present: {percent(fused['recording'], fused['recordings'])} of "
            f"{fused['recordings']}. Measured on the "
            ".tflite files, zeros in the place of the missing features. Other classes: those of "
            "the remaining sub-models."
        )
        + _lost_devices(results)
    )


def _lost_devices(results: dict) -> str:
    """The same by device, where a device is not a sub-model: replicas, or several sub-models on
    one.
    """
    lost, fused = results.get("lost_devices", []), results["fusion"]["tflite"]
    if all(len(row["missing"]) == 1 for row in lost):
        return ""
    count, names = fused["recordings"], [sub["name"] for sub in results["sub_models"]]
    free = sum(not row["missing"] for row in lost)
    rows = [
        [
            row["device"],
            ", ".join(names[j] for j in row["missing"]) or "none",
            percent(row["tflite"]["recording"], count),
            points(row["tflite"]["recording"] - fused["recording"], count),
        ]
        for row in lost
    ]
    return table(
        ["without the device", "sub-models that\nare missing", "accuracy", "change,\npoints"],
        rows,
        text=(0, 1),
    ) + note(
        f"{free} of {counted(len(lost), 'device')} can fail alone without any loss: what it holds "
        "is on another too."
    )


def several(results: dict) -> str:
    """Accuracy against the number of sub-models that are lost: mean, worst, best of the measured
    sets of that size.
    """
    fused, sizes = results["fusion"]["tflite"], {}
    for row in results["losses"]:
        sizes.setdefault(len(row["missing"]), []).append(row["tflite"]["recording"])
    count, rows = fused["recordings"], []
    for lost, shares in [(0, [fused["recording"]]), *sorted(sizes.items())]:
        mean = sum(shares) / len(shares)
        rows.append(
            [
                lost,
                len(shares),
                percent(mean, count),
                percent(min(shares), count),
                percent(max(shares), count),
            ]
        )
    return table(["lost", "sets\nmeasured", "mean", "worst", "best"], rows, text=()) + note(
        "Fused accuracy on the .tflite files, zeros in the place of the lost features. All sets of "
        "a size, or a seeded "
        "sample where there are many; results.json names each. The aggregator tells a client the "
        "figure of its case."
    )
