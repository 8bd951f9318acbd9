"""The figures of a run, on its test split: .tflite files in processes of their own, Keras beside
them for parity.

This is the one place that looks at the test split, once everything is chosen and trained.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.evaluation.evaluate import (
    Answers,
    accuracy,
    ask,
    averaged,
    confusion,
    fuse,
    losses,
    per_recording,
)
from edvit_tf.export.parity import QUANTILE, compare
from edvit_tf.export.process import run_in_process
from edvit_tf.pipeline.fleet import final_weights, label_of, lost_with_device
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.store import Stages
from edvit_tf.training.calibrate import calibration_figures


def measure(
    folder: Path,
    stages: Stages,
    config: RunConfig,
    base_config: ViTConfig,
    plan: Plan,
    members: list[SubModelPlan],
) -> dict:
    """Accuracies, parity, latency and sizes of the fleet, the unsplit base and the rivals; plain
    JSON.

    `members` are the plan's sub-models, then the rivals.
    """
    from edvit_tf.training.train import predict

    test = Split(stages, "test")
    inputs = stages.path("data", "test.npy")
    bundle = open_bundle(stages.folder / "bundle")
    given, target = bundle.manifest["input"], bundle.manifest["run"]["target"]
    answers = ask(bundle, inputs)
    fused, fusion_report = fuse(bundle, answers)
    keras_out = [
        predict(sub.config, final_weights(stages, config, sub), test.x) for sub in plan.sub_models
    ]
    keras_fused = _keras_fusion(
        stages, np.concatenate([out["features"] for out in keras_out], axis=1), len(keras_out)
    )

    parity, rows = {}, []
    for j, entry in enumerate(bundle.sub_models):
        parity[entry["name"]] = compare(
            keras_out[j],
            {"features": answers.features[j], "logits": answers.logits[j]},
            "logits",
            target,
        )
        rows.append(
            {
                **{
                    key: entry[key]
                    for key in (
                        "name",
                        "labels",
                        "kept_heads",
                        "params",
                        "macs",
                        "macs_full",
                        "weight_bytes",
                        "devices",
                    )
                },
                "file_bytes": bundle.manifest["files"][entry["file"]]["bytes"],
                "process": answers.reports[j],
            }
        )
    parity["fused"] = compare(
        {"probabilities": keras_fused}, {"probabilities": fused}, "probabilities", target
    )

    def score(probabilities):
        return accuracy(probabilities, test.labels, test.recordings)

    missing_one, lost = [], []
    for gone in losses(len(rows), config.seed):
        p, _ = fuse(bundle, answers, missing=gone)
        lost.append(
            {"missing": list(gone), "names": [rows[j]["name"] for j in gone], "tflite": score(p)}
        )
        if len(gone) == 1:
            others = ~np.isin(test.labels, plan.sub_models[gone[0]].classes)
            missing_one.append(
                {
                    "missing": gone[0],
                    "name": rows[gone[0]]["name"],
                    "tflite": score(p),
                    "other_classes": accuracy(
                        p[others], test.labels[others], test.recordings[others]
                    ),
                }
            )
    by_device = [
        {
            "device": name,
            "missing": list(gone),
            "tflite": score(fuse(bundle, answers, missing=gone)[0] if gone else fused),
        }
        for name, gone in lost_with_device(plan)
        if len(gone) < len(rows)
    ]
    by_recording, truth = per_recording(fused, test.labels, test.recordings)
    figures = {
        "base": _one_model(
            folder, "base", base_config, stages.arrays("base"), test, inputs, given, target
        ),
        "sub_models": rows,
        "fusion": {
            "tflite": score(fused),
            "keras": score(keras_fused),
            "average": score(averaged(bundle, answers)),
            "calibration": calibration_figures(by_recording, truth),
            "file_bytes": bundle.manifest["files"][bundle.manifest["fusion"]["file"]]["bytes"],
            "process": fusion_report,
        },
        "parity": parity,
        "missing_one": missing_one,
        "losses": lost,
        "lost_devices": by_device,
        "flavours": _flavours(bundle, inputs, answers, score),
        "confusion": confusion(by_recording.argmax(axis=1), truth, len(bundle.labels)),
    }
    for one in members[len(rows) :]:
        figures[label_of(one)] = _one_model(
            folder,
            label_of(one),
            one.config,
            final_weights(stages, config, one),
            test,
            inputs,
            given,
            target,
        )
    return figures


def _flavours(bundle: Bundle, inputs: Path, reference: Answers, score: Callable) -> list[dict]:
    """Every flavour in every runtime that loads it and is installed here: bytes, accuracy, error,
    latency.

    The error is that of the sub-models' logits against the first runtime's float32 files (max |a -
    b| / max |b| of a sample): 95th percentile over samples, the worst sub-model's.
    """
    rows = []
    for flavour, listed in bundle.sub_models[0]["flavours"].items():
        for runtime in installed_runtimes():
            if runtime not in listed["runtimes"]:
                continue
            answers = ask(bundle, inputs, flavour, runtime)
            files = [entry["flavours"][flavour]["file"] for entry in bundle.sub_models]
            errors = [
                float(np.quantile(np.abs(a - b).max(axis=1) / np.abs(b).max(axis=1), QUANTILE))
                for a, b in zip(answers.logits, reference.logits, strict=True)
            ]
            rows.append(
                {
                    "flavour": flavour,
                    "runtime": answers.reports[0]["runtime"],
                    "tflite": score(fuse(bundle, answers)[0]),
                    "file_bytes": sum(bundle.manifest["files"][file]["bytes"] for file in files),
                    "p95_relative_error": max(errors),
                    "median_ms": max(report["invoke_ms"]["median"] for report in answers.reports),
                }
            )
    return rows


def _one_model(
    folder: Path,
    name: str,
    widths: ViTConfig,
    weights: dict,
    test: Split,
    inputs: Path,
    given: dict,
    target: str,
) -> dict:
    """A model of all classes, exported into the stage's folder and measured like the fleet's."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models import architecture
    from edvit_tf.training.train import predict, softmax

    logits = predict(widths, weights, test.x)["logits"]
    figures = {"keras": accuracy(softmax(logits), test.labels, test.recordings)}
    file = folder / f"{name}.tflite"
    graph = architecture(widths).graph(widths, weights, given["name"], given["dtype"], target)
    size = convert(*graph, file, weights)
    out, report = run_in_process(file, inputs)
    return {
        **figures,
        "tflite": accuracy(softmax(out["logits"]), test.labels, test.recordings),
        "file_bytes": size,
        "process": report,
        "parity": compare({"logits": logits}, {"logits": out["logits"]}, "logits", target),
    }


def _keras_fusion(stages: Stages, features: np.ndarray, count: int) -> np.ndarray:
    """Probabilities (n, classes) of the Keras fusion with every sub-model present."""
    from edvit_tf.training.fusion_layers import load_fusion

    model = load_fusion(stages.path("bundle", "fusion.keras"))
    return np.asarray(
        model({"features": features, "present": np.ones((len(features), count), np.float32)})
    )
