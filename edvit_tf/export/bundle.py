"""Writes a bundle folder: .tflite and .keras files, labels, golden input, splits, card, and the
manifest over them.
"""

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.config import RunConfig
from edvit_tf.device.model.bundle import SCHEMA_VERSION, sha256
from edvit_tf.device.model.golden import golden_error, tolerance
from edvit_tf.device.model.input_spec import Files, InputSpec
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import ExportError
from edvit_tf.export.card import card
from edvit_tf.export.convert import RUNTIMES, convert
from edvit_tf.export.fusion import fusion_of
from edvit_tf.export.process import run_in_process
from edvit_tf.models import architecture, costs
from edvit_tf.models.weights import from_weights, set_weights
from edvit_tf.planning.plan import Plan

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class BundleParts:
    """All that goes into a bundle; weights are by name, sub-models in plan order."""

    run: RunConfig
    plan: Plan
    labels: tuple[str, ...]
    input_spec: InputSpec
    input_files: Files  # by name, as many as `input_spec.files` says
    data: dict  # Dataset.describe()
    splits: dict  # split -> ids or rule
    sub_models: tuple[Weights, ...]
    fusion: Weights


def versions() -> dict[str, str]:
    """Versions of what shaped the result."""
    names = (
        "edvit-tf",
        "tensorflow",
        "keras",
        "numpy",
        "librosa",
        "tflite-runtime",
        "ai-edge-litert",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_bundle(folder: Path, parts: BundleParts) -> dict:
    """Fills an empty `folder` and returns the manifest, which lists every file with its bytes and
    sha256.
    """
    run, plan = parts.run, parts.plan
    spec = parts.input_spec
    entries = []
    for sub, weights in zip(plan.sub_models, parts.sub_models, strict=True):
        from_weights(sub.config, weights, name=sub.name.replace("-", "_")).save(
            folder / f"{sub.name}.keras"
        )
        flavours = {}
        for flavour in run.flavours:
            file = f"{sub.name}.tflite" if flavour == "float32" else f"{sub.name}.{flavour}.tflite"
            target = "litert" if RUNTIMES[flavour] == ("ai-edge-litert",) else run.target
            graph = architecture(sub.config).graph(
                sub.config, weights, spec.name, spec.dtype, target
            )
            convert(*graph, folder / file, weights, flavour)
            flavours[flavour] = {
                "file": file,
                "target": target,
                "runtimes": list(RUNTIMES[flavour]),
            }
        entries.append(
            {
                "index": sub.index,
                "name": sub.name,
                "file": f"{sub.name}.tflite",
                "keras": f"{sub.name}.keras",
                "flavours": flavours,
                "classes": list(sub.classes),
                "labels": [parts.labels[c] for c in sub.classes],
                "other": sub.config.num_classes > len(sub.classes),
                "kept_heads": sub.kept,
                "config": sub.config.to_dict(),
                **costs(sub.config),
                "devices": list(sub.devices),
            }
        )
    kind = fusion_of(run, plan, len(parts.labels))
    fusion, graph = kind.build(), kind.graph(parts.fusion)
    set_weights(fusion, parts.fusion)
    fusion.save(folder / "fusion.keras")
    convert(*graph, folder / "fusion.tflite", parts.fusion)

    (folder / "labels.txt").write_text(
        "".join(f"{label}\n" for label in parts.labels), encoding="utf-8"
    )
    (folder / "splits.json").write_text(json.dumps(parts.splits, indent=0), encoding="utf-8")
    for name in spec.files:
        _write_input_file(folder / name, parts.input_files[name])
    _write_golden(folder, entries, parts)

    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": run.name,
        "task": spec.task,
        "labels": list(parts.labels),
        "input": {
            "name": spec.name,
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "spec": spec.to_dict(),
            "files": list(spec.files),
        },
        "sub_models": entries,
        "fusion": {
            "kind": run.fusion,
            "file": "fusion.tflite",
            "keras": "fusion.keras",
            "lambda": run.fusion_lambda,
            "widths": list(kind.widths),
        },
        "plan": {
            "devices": [d.to_dict() for d in plan.devices],
            "budget_bytes": plan.budget_bytes,
            "strategy": plan.strategy,
            "assignment": plan.assignment,
            "samples": plan.samples,
            "replicas": plan.replicas,
            "flavour": plan.flavour,
        },
        "data": parts.data,
        "run": run.to_dict(),
        "seed": run.seed,
        "versions": versions(),
        "files": {},
    }
    listed = sorted(p for p in folder.iterdir() if p.name != "README.md")
    manifest["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in listed}
    (folder / "README.md").write_text(card(manifest), encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    return manifest


def _write_input_file(path: Path, content: np.ndarray | bytes) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)


def _write_golden(folder: Path, entries: list[dict], parts: BundleParts) -> None:
    """golden.npz: one made-up smooth input and what each sub-model answered on this machine, for
    self-checks.

    The input is drawn from the seed, not taken from the data: a bundle carries nobody's picture or
    music.
    """
    config = parts.plan.sub_models[0].config
    spec = parts.input_spec
    x = spec.golden_sample(parts.run.seed, config.input_mean, config.input_std)
    golden = {"input": x}
    for entry in entries:
        out, _ = run_in_process(folder / entry["file"], {spec.name: x})
        golden |= {f"{entry['name']}.{name}": value for name, value in out.items()}
        _check_flavours(folder, entry, {spec.name: x}, out)
    features = np.concatenate([golden[f"{entry['name']}.features"] for entry in entries], axis=1)
    present = np.ones((1, len(entries)), np.float32)
    out, _ = run_in_process(folder / "fusion.tflite", {"features": features, "present": present})
    np.savez(folder / "golden.npz", **golden, **{"fusion.probabilities": out["probabilities"]})


def _check_flavours(folder: Path, entry: dict, inputs: dict, expected: dict) -> None:
    """Runs each file in every runtime that it lists and that is installed here; ExportError if one
    does not answer, so that it is not found out on a device.

    The first runtime has given `expected` by the float32 file, and is not asked for it again.
    """
    first = installed_runtimes()[0]
    for flavour, listed in entry["flavours"].items():
        for runtime in set(listed["runtimes"]) & set(installed_runtimes()):
            if (flavour, runtime) == ("float32", first):
                continue
            try:
                out, _ = run_in_process(folder / listed["file"], inputs, runtime=runtime)
            except ExportError as error:
                raise ExportError(
                    f"{listed['file']} does not run in {runtime}: {error} Leave out flavour "
                    f"{flavour}."
                ) from error
            if (off := golden_error(out, expected)) > tolerance(flavour):
                raise ExportError(
                    f"{listed['file']} answers {off:.1e} off float32 in {runtime}, beyond "
                    f"{tolerance(flavour):g}. Leave out flavour {flavour}."
                )
