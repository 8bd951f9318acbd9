"""Accuracy of a bundle, measured on its .tflite files, each in a process of its own without
TensorFlow.
"""

import dataclasses
import itertools
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import Bundle, BundleError, open_bundle, verified_path
from edvit_tf.errors import DataError
from edvit_tf.export.process import run_in_process
from edvit_tf.training.fuse import average

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Answers:
    """What the sub-models of a bundle said about n windows: features and logits by sub-model, and
    process reports.
    """

    features: tuple[np.ndarray, ...]  # each (n, d_j)
    logits: tuple[np.ndarray, ...]  # each (n, |C_j| + 1)
    reports: tuple[dict, ...]


def ask(
    bundle: Bundle, inputs: Path, flavour: str | None = None, runtime: str | None = None
) -> Answers:
    """Runs every sub-model over the .npy file `inputs` (n, H, W, C), one process after the other,
    one thread each.

    `flavour` None: the first, float32; `runtime` None: the first installed. Raises BundleError for
    a flavour that the bundle does not have.
    """
    outputs, reports = [], []
    for entry in bundle.sub_models:
        if flavour is not None and flavour not in entry["flavours"]:
            raise BundleError(
                f"{bundle.path} has no flavour {flavour}; it has {', '.join(entry['flavours'])}."
            )
        file = entry["file"] if flavour is None else entry["flavours"][flavour]["file"]
        out, report = run_in_process(verified_path(bundle, file), inputs, runtime=runtime)
        outputs.append(out)
        reports.append(report)
    return Answers(
        tuple(o["features"] for o in outputs), tuple(o["logits"] for o in outputs), tuple(reports)
    )


def fuse(bundle: Bundle, answers: Answers, missing: Sequence[int] = ()) -> tuple[np.ndarray, dict]:
    """Probabilities (n, classes) by fusion.tflite in its own process, the `missing` sub-models as
    zeros; its report.
    """
    check_missing(bundle, missing)
    present = np.ones(len(bundle.sub_models), np.float32)
    present[list(missing)] = 0
    features = [
        f if keep else np.zeros_like(f) for f, keep in zip(answers.features, present, strict=True)
    ]
    count = len(features[0])
    inputs = {"features": np.concatenate(features, axis=1), "present": np.tile(present, (count, 1))}
    outputs, report = run_in_process(
        verified_path(bundle, bundle.manifest["fusion"]["file"]), inputs
    )
    return outputs["probabilities"], report


def losses(
    num_sub_models: int, seed: int, sample: int = 10, exhaustive: int = 5
) -> list[tuple[int, ...]]:
    """Which sub-models are lost together, for every number of them from 1 to all but one.

    Every subset for up to `exhaustive` sub-models; beyond that every subset of a size that has no
    more than `sample` of them, and else `sample` different ones drawn by the seed. Ascending sizes,
    sorted.
    """
    chosen = []
    for size in range(1, num_sub_models):
        every = math.comb(num_sub_models, size)
        if num_sub_models <= exhaustive or every <= sample:
            chosen += itertools.combinations(range(num_sub_models), size)
            continue
        rng, drawn = np.random.default_rng([seed, size]), set()
        while len(drawn) < sample:
            drawn.add(
                tuple(sorted(int(j) for j in rng.choice(num_sub_models, size, replace=False)))
            )
        chosen += sorted(drawn)
    return chosen


def check_missing(bundle: Bundle, missing: Sequence[int]) -> None:
    """Raises BundleError on an unknown sub-model, or when none would be left."""
    for index in missing:
        bundle.entry(index)
    if len(set(missing)) >= len(bundle.sub_models):
        raise BundleError(
            f"missing is {sorted(set(missing))}: no sub-model is left. Leave at least one in."
        )


def averaged(bundle: Bundle, answers: Answers, missing: Sequence[int] = ()) -> np.ndarray:
    """Probabilities (n, classes) by softmax averaging, without the fusion MLP."""
    logits = [None if j in missing else part for j, part in enumerate(answers.logits)]
    return average(
        logits, [tuple(entry["classes"]) for entry in bundle.sub_models], len(bundle.labels)
    )


def accuracy(probabilities: np.ndarray, labels: np.ndarray, recordings: np.ndarray) -> dict:
    """{"window", "recording": accuracies, "windows", "recordings": counts}; a recording is the mean
    of its windows.
    """
    by_recording, truth = per_recording(probabilities, labels, recordings)
    return {
        "window": float((probabilities.argmax(axis=1) == labels).mean()),
        "windows": len(labels),
        "recording": float((by_recording.argmax(axis=1) == truth).mean()),
        "recordings": len(truth),
    }


def per_recording(
    probabilities: np.ndarray, labels: np.ndarray, recordings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities (recordings, classes) and labels (recordings,)."""
    _, first, position = np.unique(recordings, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, position.ravel(), probabilities)
    return sums / np.bincount(position.ravel())[:, None], labels[first]


def confusion(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> list[list[int]]:
    """Counts, rows = true class, columns = predicted class."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (truth, predicted), 1)
    return counts.tolist()


def materialise(dataset, split: str, folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Writes a split's inputs to `folder`/<split>.npy as they are decoded; returns (path, labels,
    recordings).

    Never more than one recording in memory: the file is a memory map, cut at the end to what could
    be read.
    """
    size = dataset.size(split)
    shape, dtype = dataset.spec.shape, np.dtype(dataset.spec.dtype)
    raw = folder / f"{split}.raw"
    labels, recordings = [], []
    with open(raw, "wb") as file:
        for x, label, recording in dataset.iterate(split):
            file.write(np.ascontiguousarray(x, dtype).tobytes())
            labels.append(label)
            recordings.append(recording)
    if not labels:
        raise DataError(
            f"the {split} split of {dataset.name} has no readable input ({size} listed). "
            "Check the files named above."
        )
    path = folder / f"{split}.npy"
    stored = np.memmap(raw, dtype, "r", shape=(len(labels), *shape))
    target = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=stored.shape)
    for start in range(0, len(stored), 4096):
        target[start : start + 4096] = stored[start : start + 4096]
    target.flush()
    del target, stored
    raw.unlink()
    return path, np.array(labels), np.array(recordings)


def unseen(bundle: Bundle, dataset, split: str):
    """The data set and None; or, if its split is not the bundle's own, without what the bundle
    learnt from, and why.

    The split is drawn anew from the files that are there: one track more or less, and a training
    recording could come to stand in "test". Then every recording of the bundle's train and
    validation splits is left out.
    """
    stored = json.loads(verified_path(bundle, "splits.json").read_text(encoding="utf-8"))
    if all(dataset.split_ids(name) == stored[name] for name in SPLITS):
        return dataset, None
    if any(isinstance(stored[name], dict) for name in SPLITS):
        if split == "test" and dataset.split_ids("test") == stored["test"]:
            return dataset, None
        rule = stored["train"].get("rule", "") if isinstance(stored["train"], dict) else ""
        return (
            dataset,
            "the data are not those of the bundle; nothing was left out, since ids follow a rule "
            f"({rule})",
        )
    learnt = {*stored["train"], *stored["validation"]}
    kept = {
        name: tuple(r for r in dataset.recordings(name) if r.id not in learnt) for name in SPLITS
    }
    left_out = sum(len(dataset.recordings(name)) - len(kept[name]) for name in SPLITS)
    return dataclasses.replace(dataset, splits=kept), (
        f"the data are not those of the bundle: {left_out} recordings that it was trained or "
        "chosen on are left out, "
        f"the {split} split has "
        f"{sum(map(len, kept.values())) if split == 'all' else len(kept[split])} others"
    )


def data_of(bundle: Bundle, data_dir: str | Path | None = None):
    """The data set that a bundle was made from, at its input size, by its seed. Raises DataError
    for other classes.
    """
    from edvit_tf.data import load

    run, data = bundle.manifest["run"], bundle.manifest["data"]
    dataset = load(
        data["name"],
        data_dir,
        image_size=tuple(run["data"]["image_size"]),
        seed=bundle.manifest["seed"],
        synthetic="only" if data["synthetic"] and data_dir is None else "never",
        **run["data"]["options"],
    )
    if list(dataset.labels) != bundle.labels:
        raise DataError(
            f"the data have the classes {list(dataset.labels)}; the bundle was made for "
            f"{bundle.labels}. "
            "Give the data set that the bundle was made from."
        )
    return dataset


def evaluate(
    bundle_path: str | Path,
    data_dir: str | Path | None = None,
    split: str = "test",
    missing: Sequence[int] = (),
) -> dict:
    """Fused accuracy of a bundle's .tflite files on a split of the data it was made from ("all":
    every split).

    Returns plain JSON: accuracy (fused), average (without MLP), missing, confusion by recording,
    reports of the processes, and a note when the data are not those of the bundle (see `unseen`).
    Other classes are refused. Raises BundleError, DataError.
    """
    bundle = open_bundle(bundle_path)
    check_missing(bundle, missing)
    dataset, note = unseen(bundle, data_of(bundle, data_dir), split)
    parts = SPLITS if split == "all" else (split,)
    with tempfile.TemporaryDirectory(prefix="edvit-evaluate-") as folder:
        probabilities, mean, labels, recordings, reports = [], [], [], [], None
        for part in parts:
            if split == "all" and not dataset.recordings(part):
                continue
            inputs, part_labels, part_recordings = materialise(dataset, part, Path(folder))
            answers = ask(bundle, inputs)
            probabilities.append(fuse(bundle, answers, missing)[0])
            mean.append(averaged(bundle, answers, missing))
            labels.append(part_labels)
            recordings.append(part_recordings + (recordings[-1].max() + 1 if recordings else 0))
            reports = answers.reports
            inputs.unlink()
    p, y, r = np.concatenate(probabilities), np.concatenate(labels), np.concatenate(recordings)
    by_recording, truth = per_recording(p, y, r)
    return {
        "bundle": bundle.path.name,
        "digest": bundle.digest,
        "data": dataset.describe(),
        "split": split,
        "missing": sorted(set(missing)),
        "note": note,
        "accuracy": accuracy(p, y, r),
        "average": accuracy(np.concatenate(mean), y, r),
        "confusion": confusion(by_recording.argmax(axis=1), truth, len(bundle.labels)),
        "processes": list(reports),
    }
