"""What a bundle's .tflite files answer, each in a process of its own without TensorFlow, and how
that is fused when sub-models are lost.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.manifest import SubModelEntry
from edvit_tf.export.process import run_in_process
from edvit_tf.training.calibrate import tempered
from edvit_tf.training.fuse import average


@dataclass(frozen=True)
class Answers:
    """What the sub-models of a bundle said about n windows, and the reports of their processes."""

    features: tuple[np.ndarray, ...]  # each (n, d_j)
    logits: tuple[np.ndarray, ...]  # each (n, |C_j| + 1)
    reports: tuple[dict, ...]


def ask(
    bundle: Bundle, inputs: Path, flavour: str | None = None, runtime: str | None = None
) -> Answers:
    """Runs every sub-model over the .npy file `inputs` (n, H, W, C), one process after the other,
    one thread each; each sees them by its view.

    `flavour` None: the first, float32; `runtime` None: the first installed. Raises BundleError for
    a flavour that the bundle does not have.
    """
    features = []
    logits = []
    reports = []
    for entry in bundle.sub_models:
        file = verified_path(bundle, _file(bundle, entry, flavour))
        outputs, report = run_in_process(file, inputs, runtime=runtime, view=entry.view)
        features.append(outputs["features"])
        logits.append(outputs["logits"])
        reports.append(report)

    return Answers(tuple(features), tuple(logits), tuple(reports))


def _file(bundle: Bundle, entry: SubModelEntry, flavour: str | None) -> str:
    """Name of a sub-model's file in a flavour."""
    if flavour is None:
        return entry.file
    if flavour not in entry.flavours:
        raise BundleError(
            f"{bundle.path} has no flavour {flavour}; it has {', '.join(entry.flavours)}."
        )
    return entry.flavours[flavour].file


def fuse(bundle: Bundle, answers: Answers, missing: Sequence[int] = ()) -> tuple[np.ndarray, dict]:
    """Probabilities (n, classes) by fusion.tflite in its own process, the `missing` sub-models as
    zeros; its report.
    """
    check_missing(bundle, missing)
    present = np.ones(len(bundle.sub_models), np.float32)
    # 1 of each sub-model that has answered
    present[list(missing)] = 0

    features = np.concatenate(answers.features, axis=1)  # (n, sum d_j)

    # Of a lost sub-model a device knows nothing: zeros stand in its columns.
    columns = np.repeat(present, [part.shape[1] for part in answers.features])
    features[:, columns == 0] = 0

    inputs = {"features": features, "present": np.tile(present, (len(features), 1))}
    file = verified_path(bundle, bundle.fusion.file)
    outputs, report = run_in_process(file, inputs)
    return outputs["probabilities"], report


def fuse_without(
    bundle: Bundle, answers: Answers, lost: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Probabilities (n, classes) without each set of `lost` sub-models, all in one process.

    The features are those of all sub-models, gone through once a set: fusion.tflite takes away what
    is not present, and says what it says to zeros in their place (`fuse`).
    """
    if not lost:
        return []
    for missing in lost:
        check_missing(bundle, missing)

    features = np.concatenate(answers.features, axis=1)  # (n, sum d_j)

    # (sets, N): a row a set
    present = np.ones((len(lost), len(bundle.sub_models)), np.float32)
    for row, missing in zip(present, lost, strict=True):
        row[list(missing)] = 0

    inputs = {
        "present": np.repeat(present, len(features), axis=0),  # (sets * n, N)
        "features": features,
    }
    file = verified_path(bundle, bundle.fusion.file)
    outputs, _ = run_in_process(file, inputs)

    # The file goes through one set after the other, each of n windows.
    return np.split(outputs["probabilities"], len(lost))


def losses(
    num_sub_models: int, seed: int, sample: int = 10, exhaustive: int = 5
) -> list[tuple[int, ...]]:
    """Which sub-models are lost together, for every number of them from 1 to all but one.

    Every subset for up to `exhaustive` sub-models; beyond that every subset of a size that has no
    more than `sample` of them, and else `sample` different ones drawn by the seed. Ascending sizes,
    sorted.
    """
    chosen: list[tuple[int, ...]] = []
    for size in range(1, num_sub_models):
        every = math.comb(num_sub_models, size)

        # All of them where they are few; else a part, so that measuring them does not take all day.
        if num_sub_models <= exhaustive or every <= sample:
            chosen += itertools.combinations(range(num_sub_models), size)
        else:
            # A seed for each size: one draw does not change another.
            rng = np.random.default_rng([seed, size])
            chosen += _drawn(num_sub_models, size, sample, rng)
    return chosen


def _drawn(count: int, size: int, sample: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """`sample` different subsets of `size` of `count`, sorted."""
    drawn = set()
    while len(drawn) < sample:
        # One that was drawn already changes nothing, and another is drawn.
        subset = rng.choice(count, size, replace=False)
        drawn.add(tuple(sorted(subset.tolist())))
    return sorted(drawn)


def check_missing(bundle: Bundle, missing: Sequence[int]) -> None:
    """Raises BundleError on an unknown sub-model, or when none would be left."""
    for index in missing:
        bundle.entry(index)
    if len(set(missing)) >= len(bundle.sub_models):
        raise BundleError(
            f"missing is {sorted(set(missing))}: no sub-model is left. Leave at least one in."
        )


def averaged(
    bundle: Bundle, answers: Answers, missing: Sequence[int] = (), temperature: float = 1.0
) -> np.ndarray:
    """Probabilities (n, classes) by softmax averaging, without the fusion MLP, at a temperature
    (`tempered`).
    """
    logits = [None if j in missing else part for j, part in enumerate(answers.logits)]
    groups = [tuple(entry.classes) for entry in bundle.sub_models]
    return tempered(average(logits, groups, len(bundle.labels)), temperature)


def average_temperature(bundle: Bundle) -> float:
    """The temperature of the average that was chosen on validation data, as results.json has it; 1
    where it does not say.
    """
    try:
        results = json.loads((bundle.path / "results.json").read_text(encoding="utf-8"))
        return float(results["fusion"]["average_temperature"])
    except (OSError, ValueError, TypeError, KeyError):
        return 1.0
