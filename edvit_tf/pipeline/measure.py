"""The figures of a run, on its test split: .tflite files in processes of their own, Keras beside
them for parity.

This is the one place that looks at the test split, once everything is chosen and trained.
"""

import json
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.manifest import InputEntry
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.evaluation.accuracy import confusion, per_recording
from edvit_tf.evaluation.answers import Answers, ask, averaged, fuse
from edvit_tf.evaluation.disagreement import disagreement
from edvit_tf.evaluation.mistakes import most_confident, store_mistakes
from edvit_tf.evaluation.predictions import FUSED, Predictions
from edvit_tf.evaluation.turns import RUNS, take_turns
from edvit_tf.export.parity import QUANTILE, compare
from edvit_tf.export.process import run_in_process
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pipeline.copies import by_devices, has_copies, under_views, validated
from edvit_tf.pipeline.floor import floor_figures
from edvit_tf.pipeline.fusing import all_present
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.lost import lost
from edvit_tf.pipeline.scores import paired_answers, score
from edvit_tf.pipeline.spikes import spikes
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.views import seen
from edvit_tf.training.calibrate import (
    best_temperature,
    bound_of,
    calibration_figures,
    tempered,
)
from edvit_tf.training.fuse import average


def measure(run: Run, folder: Path, dataset) -> dict:
    """Accuracies, parity, latency and sizes of the fleet, the unsplit base and the rivals; plain
    JSON. What each of them answered is written to predictions.npz, what the fleet gets wrong to
    mistakes.json.
    """
    test = Split(run.stages, "test")
    inputs = run.stages.path("data", "test.npy")
    bundle = whole_bundle(run.stages)
    given = bundle.input

    # What the files say, and what the Keras models say to the same inputs.
    answers = ask(bundle, inputs)
    fused, fusion_report = fuse(bundle, answers)
    said = _keras_answers(run, test)
    keras_fused = _keras_fused(run, said)

    target = run.config.target
    jumps = _jumps(run.base)
    parity = {}
    for j, member in enumerate(run.sub_models):
        tflite = {"features": answers.features[j], "logits": answers.logits[j]}
        parity[member.name] = compare(said[j], tflite, "logits", target, jumps)
    parity["fused"] = compare(
        {"probabilities": keras_fused}, {"probabilities": fused}, "probabilities", target, jumps
    )

    predictions = Predictions(test.labels, test.recordings)
    predictions.add(FUSED, fused)

    weights = run.stages.arrays("base")
    by_recording, truth = per_recording(fused, test.labels, test.recordings)
    figures = {
        "base": _one_model(run, folder, "base", run.base, weights, given, predictions),
        "sub_models": [
            row | more
            for row, more in zip(_sub_models(bundle, answers), _spikes(run, test), strict=True)
        ],
        "fusion": {
            "tflite": score(test, fused),
            "keras": score(test, keras_fused),
            **_average(run, averaged(bundle, answers), test, predictions),
            "calibration": calibration_figures(by_recording, truth),
            "file_bytes": _bytes(bundle, bundle.fusion.file),
            "process": fusion_report,
        },
        "parity": parity,
        **lost(run, bundle, answers, fused, test),
        "flavours": _flavours(bundle, inputs, answers, fused, test),
        "confusion": confusion(by_recording.argmax(axis=1), truth, len(bundle.labels)),
        "disagreement": disagreement(answers.logits, [sub.classes for sub in run.sub_models]),
    }

    for rival in run.rivals:
        weights = run.final_weights(rival)
        figures[rival.name] = _one_model(
            run, folder, rival.name, rival.widths, weights, given, predictions
        )
    figures["copies"] = _copies(run, folder, answers, test, predictions)
    figures["floor"] = floor_figures(run, test, predictions)

    return figures | {
        "mistakes": _mistakes(folder, bundle, dataset, answers, test, predictions),
        "comparisons": predictions.comparisons(),
        "predictions": predictions.store(folder, _test_ids(bundle)),
        "turns": _turns(run, folder, bundle, answers, test),
    }


def _mistakes(
    folder: Path, bundle: Bundle, dataset, answers: Answers, test: Split, predictions: Predictions
) -> dict:
    """What the fleet names wrong, to be looked at or listened to."""
    fused = predictions.probabilities[FUSED]
    wrong, windows, logits = {}, {}, {}
    for row in most_confident(fused, predictions.labels):
        place = int(predictions.recordings[row])
        own = np.flatnonzero(test.recordings == place)
        wrong[place], windows[place] = fused[row], np.asarray(test.x[own])
        logits[place] = [part[own] for part in answers.logits]
    return store_mistakes(folder, bundle, dataset, wrong, windows, logits)


def _jumps(config: ModelConfig) -> bool:
    """Whether single units of two runtimes may differ by a whole one."""
    return getattr(architecture(config), "JUMPS", False)


def _spikes(run: Run, test: Split) -> list[dict]:
    """Of each sub-model what its neurons do; nothing of one that has no spikes."""
    found = []
    for member, view in zip(run.sub_models, run.views, strict=True):
        told = spikes(member.widths, run.final_weights(member), seen(test.x, view))
        found.append({} if told is None else {"spikes": told})
    return found


def _copies(
    run: Run, folder: Path, answers: Answers, test: Split, predictions: Predictions
) -> dict | None:
    """Copies of the one model beside the fleet, with all devices calibrated as others are; of a
    fleet that is copies only what they come to by number of devices.
    """
    from edvit_tf.training.train import softmax

    if not has_copies(run):
        return None
    file = folder / f"{run.single.name}.tflite"
    told = {"file_bytes": file.stat().st_size}
    if run.kind == "copies":
        return told | by_devices(run, answers.logits)

    logits = under_views(run, file)
    if len(logits) == 1:
        return told | by_devices(run, logits)  # a copy without a view: the single model again
    said = np.mean([softmax(own) for own in logits], axis=0)
    found = _calibrated(run, validated(run), said, test)
    predictions.add("copies", found.pop("probabilities"))
    return told | by_devices(run, logits) | found


def whole_bundle(stages: Stages) -> Bundle:
    """The bundle of a run that is not published yet; OutputError if a file of it is missing or
    changed.
    """
    try:
        bundle = open_bundle(stages.folder / "bundle")
    except BundleError as error:
        raise stages.damaged("bundle", "its manifest.json is missing or not whole") from error

    # Every file, also those that no figure reads: all of them are published.
    for name in bundle.files:
        try:
            verified_path(bundle, name)
        except BundleError as error:
            raise stages.damaged("bundle", f"its {name} is missing or was changed") from error
    return bundle


def _test_ids(bundle: Bundle) -> list[str] | None:
    """Ids of the test split's recordings, in its order; None where they follow a rule."""
    splits = json.loads(verified_path(bundle, "splits.json").read_text(encoding="utf-8"))
    return splits["test"] if isinstance(splits["test"], list) else None


def _turns(run: Run, folder: Path, bundle: Bundle, answers: Answers, test: Split) -> dict:
    """Milliseconds of every file that the verdict compares, measured in turns (`take_turns`): the
    sub-models, the fusion, the base and the rivals.
    """
    files = {entry.name: bundle.path / entry.file for entry in bundle.sub_models}
    for name in ("base", *(rival.name for rival in run.rivals)):
        files[name] = folder / f"{name}.tflite"

    window = {bundle.input.name: np.asarray(test.x[:RUNS])}
    inputs = dict.fromkeys(files, window)

    features = [part[:RUNS] for part in answers.features]
    files["fusion"] = bundle.path / bundle.fusion.file
    inputs["fusion"] = {
        "features": np.concatenate(features, axis=1),
        "present": np.ones((1, len(features)), np.float32),
    }
    return take_turns(files, inputs)


def _average(run: Run, said: np.ndarray, test: Split, predictions: Predictions) -> dict:
    """The softmax average without the fusion, calibrated as the fused model is; `said` (n, classes)
    is what the files' heads come to.
    """
    x = Split(run.stages, "validation").x
    logits = [said["logits"] for said in _predicted(run, x)]
    groups = [member.classes for member in run.sub_models]
    validated = average(logits, groups, run.base.num_classes)

    found = _calibrated(run, validated, said, test)
    predictions.add("average", found.pop("probabilities"))
    return {
        "average": found["tflite"],
        "average_temperature": found["temperature"],
        "average_bound": found["bound"],
        "average_calibration": found["calibration"],
    }


def _calibrated(run: Run, validated: np.ndarray, said: np.ndarray, test: Split) -> dict:
    """Figures of a model's answers to the test windows, `said` (n, classes), at the temperature
    that suits its answers to the validation windows best, `validated`.
    """
    validation = Split(run.stages, "validation")
    temperature = best_temperature(validated, validation.labels, validation.recordings)

    p = tempered(said, temperature)
    return {
        "probabilities": p,
        "tflite": score(test, p),
        "temperature": temperature,
        "bound": bound_of(temperature, validated, validation.labels),
        "calibration": calibration_figures(*per_recording(p, test.labels, test.recordings)),
    }


def _bytes(bundle: Bundle, file: str) -> int:
    return bundle.files[file].bytes


def _keras_answers(run: Run, test: Split) -> list[dict]:
    """What each sub-model says as a Keras model: features (n, d_j) and logits."""
    return _predicted(run, test.x)


def _predicted(run: Run, x: np.ndarray) -> list[dict]:
    """Answers of each sub-model as a Keras model, which sees the inputs by its view."""
    from edvit_tf.training.train import predict

    found = []
    for member, view in zip(run.sub_models, run.views, strict=True):
        found.append(predict(member.widths, run.final_weights(member), seen(x, view)))
    return found


def _keras_fused(run: Run, said: list[dict]) -> np.ndarray:
    """Probabilities (n, classes) of the bundle's Keras fusion."""
    from edvit_tf.training.fusion_layers import load_fusion

    model = load_fusion(run.stages.path("bundle", "fusion.keras"))
    features = np.concatenate([one["features"] for one in said], axis=1)  # (n, sum d_j)
    return all_present(model, features, len(said))


def _sub_models(bundle: Bundle, answers: Answers) -> list[dict]:
    rows = []
    for entry, report in zip(bundle.sub_models, answers.reports, strict=True):
        rows.append(
            {
                "name": entry.name,
                "labels": list(entry.labels),
                "kept_heads": entry.kept,
                "params": entry.params,
                "macs": entry.macs,
                "macs_full": entry.macs_full,
                "weight_bytes": entry.weight_bytes,
                "devices": list(entry.devices),
                "file_bytes": _bytes(bundle, entry.file),
                "process": report,
            }
        )
    return rows


def _flavours(
    bundle: Bundle, inputs: Path, reference: Answers, fused: np.ndarray, test: Split
) -> list[dict]:
    """Every flavour in every runtime that loads it and is installed here: bytes, accuracy, error,
    latency.

    The error is that of the sub-models' logits against the `reference`, the first runtime's float32
    files (max |a - b| / max |b| of a sample): 95th percentile over samples, the worst sub-model's.
    """
    rows = []
    for flavour, listed in bundle.sub_models[0].flavours.items():
        for runtime in installed_runtimes():
            if runtime not in listed.runtimes:
                continue

            # The reference is what the first runtime's float32 files said.
            if (flavour, runtime) == ("float32", installed_runtimes()[0]):
                answers, p = reference, fused
            else:
                answers = ask(bundle, inputs, flavour, runtime)
                p, _ = fuse(bundle, answers)

            files = [entry.flavours[flavour].file for entry in bundle.sub_models]
            rows.append(
                {
                    "flavour": flavour,
                    "runtime": answers.reports[0]["runtime"],
                    "tflite": score(test, p),
                    "paired": paired_answers(p, fused, test),
                    "file_bytes": sum(_bytes(bundle, file) for file in files),
                    "p95_relative_error": _error(answers, reference),
                    # sub-models answer side by side: the slowest decides
                    "median_ms": max(one["invoke_ms"]["median"] for one in answers.reports),
                }
            )
    return rows


def _error(answers: Answers, reference: Answers) -> float:
    """95th percentile over samples of max |a - b| / max |b|, of the worst sub-model."""
    worst = 0.0
    for a, b in zip(answers.logits, reference.logits, strict=True):
        # (n,): of each sample its worst logit
        relative = np.abs(a - b).max(axis=1) / np.abs(b).max(axis=1)
        worst = max(worst, float(np.quantile(relative, QUANTILE)))
    return worst


def _one_model(
    run: Run,
    folder: Path,
    name: str,
    widths: ModelConfig,
    weights: dict,
    given: InputEntry,
    predictions: Predictions,
) -> dict:
    """A model of all classes, exported into the stage's folder, and measured and calibrated like
    the fleet's.

    `given` is the input of the bundle's manifest, which is this model's too.
    """
    from edvit_tf.export.convert import convert
    from edvit_tf.training.train import predict, softmax

    test = Split(run.stages, "test")
    logits = predict(widths, weights, test.x)["logits"]

    file = folder / f"{name}.tflite"
    target = run.config.target
    # Measured as a deployed file is: converted, and run in a process without TensorFlow.
    graph = architecture(widths).graph(widths, weights, given.name, given.dtype, target)
    size = convert(*graph, file, weights)
    out, report = run_in_process(file, run.stages.path("data", "test.npy"))

    validated = softmax(predict(widths, weights, Split(run.stages, "validation").x)["logits"])
    found = _calibrated(run, validated, softmax(out["logits"]), test)
    predictions.add(name, found.pop("probabilities"))
    return {
        "keras": score(test, tempered(softmax(logits), found["temperature"])),
        **found,
        "file_bytes": size,
        "process": report,
        "parity": compare(
            {"logits": logits}, {"logits": out["logits"]}, "logits", target, _jumps(widths)
        ),
    }
