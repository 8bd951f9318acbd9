"""What the figures of a run say: the models side by side, and the answer to "why not one small
model on one device?".

Both models of a comparison saw the same test data, but only their accuracies are stored: the
interval of a difference takes them as independent samples, and is as a rule wider than a paired one
would be.
"""

import math

from edvit_tf.report.figures import difference, mib, number, percent, points, wilson
from edvit_tf.report.tables import RIVALS

QUANTILES = ("median", "p95")


def compared(manifest: dict, results: dict) -> list[dict]:
    """The models that a reader weighs against each other: base, those of RIVALS that were measured,
    fused, average.

    Each: key, name, accuracy, device_bytes (on the fullest device), total_bytes, device_macs, macs,
    median and p95 in ms (fleet: slowest device, its sub-models one after the other, and the fusion;
    None where not measured), process.
    """
    rows = [_alone("base", "base, unsplit", results["base"])]
    rows += [_alone(key, name, results[key]) for key, name in RIVALS.items() if results.get(key)]
    held: dict[str, list[dict]] = {}
    for sub in results["sub_models"]:
        for device in sub["devices"]:
            held.setdefault(device, []).append(sub)
    fusion, widths = results["fusion"], manifest["fusion"]["widths"]
    extra = math.ceil(manifest["fusion"]["lambda"] * sum(widths)) * (
        sum(widths) + len(results["labels"])
    )
    if (
        manifest["fusion"].get("kind") == "average"
    ):  # the sub-models' heads once more, in the fusion's file
        extra = sum(
            width * (len(sub["labels"]) + (len(sub["labels"]) < len(results["labels"])))
            for width, sub in zip(widths, results["sub_models"], strict=True)
        )
    fleet = {
        "device_bytes": max(sum(sub["file_bytes"] for sub in subs) for subs in held.values()),
        "total_bytes": sum(sub["file_bytes"] for subs in held.values() for sub in subs),
        "device_macs": max(sum(sub["macs"] for sub in subs) for subs in held.values()),
        "macs": sum(sub["macs"] for sub in results["sub_models"]),
        "process": max(
            (sub["process"] for sub in results["sub_models"]), key=lambda p: p["peak_rss_bytes"]
        ),
        **{
            q: max(sum(s["process"]["invoke_ms"][q] for s in each) for each in held.values())
            for q in QUANTILES
        },
    }
    whole = {
        "total_bytes": fleet["total_bytes"] + fusion["file_bytes"],
        "macs": fleet["macs"] + extra,
        **{q: fleet[q] + fusion["process"]["invoke_ms"][q] for q in QUANTILES},
    }
    name = counted(len(results["sub_models"]), "sub-model")
    return [
        *rows,
        {**fleet, **whole, "key": "fused", "name": f"{name}, fused", "accuracy": fusion["tflite"]},
        {
            **fleet,
            "key": "average",
            "name": f"{name}, softmax average",
            "accuracy": fusion["average"],
        },
    ]


def _alone(key: str, name: str, model: dict) -> dict:
    process = model.get("process")
    size = model.get("file_bytes", model["weight_bytes"])
    return {
        "key": key,
        "name": name if process else f"{name} (Keras, no .tflite file)",
        "accuracy": model.get("tflite", model["keras"]),
        "device_bytes": size,
        "total_bytes": size,
        "device_macs": model["macs"],
        "macs": model["macs"],
        "process": process,
        **{q: process["invoke_ms"][q] if process else None for q in QUANTILES},
    }


def verdict(results: dict, rows: list[dict]) -> list[str]:
    """What the figures say, in sentences; the first answers whether the split beats one model of a
    device's size.
    """
    by = {row["key"]: row for row in rows}
    fused, base, single = by["fused"], by["base"], by.get("single")
    accuracy, count = fused["accuracy"]["recording"], fused["accuracy"]["recordings"]
    low, high = wilson(accuracy, count)
    what, chance = f"test {noun(results['data'])}s", 1 / len(results["labels"])
    said = [
        f"The fused fleet classifies {percent(accuracy, count)} of {count} {what} correctly "
        f"(95 % interval {percent(low, count)} to {percent(high, count)})."
    ]
    if low <= chance:
        said.append(
            f"That cannot be told from guessing ({percent(chance, count)}): the comparisons mean "
            "little."
        )
    if single:
        said = [*_against_single(accuracy, single["accuracy"]["recording"], count), *said]
    elif len(results["sub_models"]) == 1:
        said = [
            "One sub-model holds all classes: nothing is split, this is a pruned model on one "
            "device.",
            *said,
        ]
    else:
        said = [
            "No single model was trained beside the fleet: whether one would do as well is not "
            "known.",
            *said,
        ]
    said.append(
        f"Against the unsplit base ({percent(base['accuracy']['recording'], count)}) the "
        "difference is "
        f"{_change(accuracy, base['accuracy']['recording'], count)}."
    )
    subs = results["sub_models"]
    starts = {f"shared-{sub['kept_heads']}" for sub in subs}  # other shared models are the rivals'
    fits = [s["history"] for sub in subs for s in sub["stages"]]
    fits += [
        s["history"]
        for name, rows in results.get("shared", {}).items()
        if name in starts
        for s in rows
    ]
    fits += len(subs) * [
        results["fusion"].get("joint") or {}
    ]  # each input passes through every sub-model
    trained = [
        sum(history.get("samples", 0) for history in fits),
        results["base"]["training"].get("samples", 0),
    ]
    if all(trained):
        said.append(
            f"The fleet goes on from the base: {trained[0]:,} training samples after the base's "
            f"{trained[1]:,}; the base was not trained any longer."
        )
    spent = results.get("training_macs") or {}
    if spent.get("single") and spent.get("fleet"):
        others = "".join(
            f", {name} with {number(spent[key] / 1e12)} T"
            for key, name in RIVALS.items()
            if key != "single" and spent.get(key)
        )
        said.append(
            f"After the cuts the fleet was trained with {number(spent['fleet'] / 1e12)} T MACs, "
            "the single "
            f"model with {number(spent['single'] / 1e12)} T{others}."
        )
    if "total" in by:
        share = by["total"]["accuracy"]["recording"]
        said.append(
            "One model as large as all files of the fleet together, "
            f"{mib(by['total']['device_bytes'])} MiB on "
            f"one device, reaches {percent(share, count)}."
        )
    average = by["average"]["accuracy"]["recording"]
    if average > accuracy:
        said.append(
            "The plain softmax average does better than the trained fusion "
            f"({percent(average, count)})."
        )
    against = [("the base", base)] + ([("the single model", single)] if single else [])
    said.append(
        f"The fullest device holds {mib(fused['device_bytes'])} MiB: "
        + ", ".join(
            f"{_ratio(fused['device_bytes'], m['device_bytes'])} {name}'s" for name, m in against
        )
        + f"; all files together take {mib(fused['total_bytes'])} MiB, "
        + ", ".join(
            f"{_ratio(fused['total_bytes'], m['total_bytes'])} {name}'s" for name, m in against
        )
        + "."
    )
    timed = [(name, m) for name, m in against if m["median"]]
    said.append(
        f"The slowest device and the fusion take {number(fused['median'])} ms (median)"
        + "".join(f", {_ratio(fused['median'], m['median'])} {name}'s" for name, m in timed)
        + f", on {results['machine']['cpu']} ({results['machine']['machine']}); the network is not included."
    )
    said.append("One run with one seed: the spread between seeds is not in these figures.")
    return said


def _against_single(fused: float, single: float, count: int) -> list[str]:
    """The answer, and how sure it is."""
    low, high = difference(fused, single, count)
    figures = f"{percent(fused, count)} against {percent(single, count)}"
    change = f"The difference is {_change(fused, single, count)}"
    unsure = "these test data are too few to be sure"
    if fused < single:
        return [
            f"The fleet is worse than one single model of a device's size: {figures}.",
            f"{change}{'' if high < 0 else f'; {unsure}'}.",
            "On these figures one small model on one device is the better choice.",
        ]
    if fused == single:
        return [
            f"The fleet is no better than one single model of a device's size: {figures}.",
            f"{change}: splitting gains nothing here.",
        ]
    doubt = "" if low > 0 else f"; {unsure}, one small model on one device may do as well"
    return [
        f"The fleet is better than one single model of a device's size: {figures}.",
        f"{change}{doubt}.",
    ]


def _change(a: float, b: float, count: int) -> str:
    """ "−5.0 points (95 % interval −18.3 to +8.6)" for a - b on the same number of recordings."""
    low, high = difference(a, b, count)
    return f"{points(a - b, count)} points (95 % interval {points(low, count)} to {points(high, count)})"


def _ratio(a: float, b: float) -> str:
    return f"{number(a / b)} times" if b else "-"


def counted(count: int, thing: str) -> str:
    """ "1 device", "5 devices"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def noun(data: dict) -> str:
    """What is counted as one: a recording, with one or more windows, or a picture."""
    if "item" in data:
        return data["item"]
    return "recording" if data["kind"] == "audio" else "picture"  # results of versions up to 0.2
