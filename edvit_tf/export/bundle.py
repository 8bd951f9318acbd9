"""Writes a bundle folder: .tflite and .keras files, labels, golden input, splits, card, and the
manifest over them.
"""

import hashlib
import importlib.metadata
import json
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.config import RunConfig
from edvit_tf.device.model.answer_ranges import answer_ranges
from edvit_tf.device.model.bundle import SCHEMA_VERSION, sha256
from edvit_tf.device.model.golden import TOLERANCES, Limit
from edvit_tf.device.model.input_spec import Files, InputSpec
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.errors import ExportError, FlavourError
from edvit_tf.export.card import card
from edvit_tf.export.convert import RUNTIMES, convert
from edvit_tf.export.fusion import fusion_of
from edvit_tf.export.jumps import jump_limit
from edvit_tf.export.process import run_in_process
from edvit_tf.models import architecture, costs
from edvit_tf.models.weights import from_weights, set_weights
from edvit_tf.planning.plan import Plan, SubModelPlan

Weights = dict[str, np.ndarray]

RANGE_SAMPLES = 128  # real inputs at most, over which the ranges of answers are measured

# packages whose versions a manifest holds
SHAPED_BY = (
    "edvit-tf",
    "tensorflow",
    "keras",
    "numpy",
    "librosa",
    "tflite-runtime",
    "ai-edge-litert",
)


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
    samples: np.ndarray | None = None  # real inputs (n, H, W, C); None: no ranges are measured
    left_out: tuple[str, ...] = ()  # flavours of `run` that are not written
    fusion_kind: str | None = None  # None: that of `run`
    views: tuple[View, ...] = ()  # of the input, one a sub-model; (): each sees it as it is

    @property
    def seen_by(self) -> tuple[View, ...]:
        """A view for each sub-model."""
        return self.views or (AS_IT_IS,) * len(self.plan.sub_models)


def versions() -> dict[str, str]:
    """Versions of what shaped the result."""
    found = {"python": platform.python_version()}
    for name in SHAPED_BY:
        try:
            found[name] = importlib.metadata.version(name)
        # a package that is not installed has shaped nothing
        except importlib.metadata.PackageNotFoundError:
            continue

    return found


def write_bundle(folder: Path, parts: BundleParts) -> dict:
    """Fills an empty `folder` and returns the manifest, which lists every file with its bytes and
    sha256.
    """
    entries = []
    written: dict[str, dict] = {}  # by what is in them: entries of sub-models that are there
    subs = zip(parts.plan.sub_models, parts.sub_models, parts.seen_by, strict=True)
    for sub, weights, view in subs:
        content = _content(sub, weights)
        if content in written:
            flavours = _copy_files(folder, sub, written[content])
        else:
            model = from_weights(sub.config, weights, name=sub.name.replace("-", "_"))
            model.save(folder / f"{sub.name}.keras")
            flavours = _write_flavours(folder, parts, sub, weights)
        entries.append(_entry(sub, parts.labels, flavours, view))
        written.setdefault(content, entries[-1])

    fusion = _write_fusion(folder, parts)

    lines = [f"{label}\n" for label in parts.labels]
    (folder / "labels.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "splits.json").write_text(json.dumps(parts.splits, indent=0), encoding="utf-8")
    for name in parts.input_spec.files:
        _write_input_file(folder / name, parts.input_files[name])

    # last, since answers come from the files that are there by now
    _write_answers(folder, entries, parts)

    # "files" lists what is there by now: neither the card, which shows it, nor the manifest itself
    manifest = _manifest(parts, entries, fusion)
    for path in sorted(folder.iterdir()):
        manifest["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}

    (folder / "README.md").write_text(card(manifest), encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8"
    )

    return manifest


def add_file(folder: Path, name: str) -> None:
    """Lists in the manifest a file that was written after it, as it now is: what has no sha256 is
    not brought to a device.
    """
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    path = folder / name
    manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    file.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")


def _write_flavours(
    folder: Path, parts: BundleParts, sub: SubModelPlan, weights: Weights
) -> dict[str, dict]:
    """Writes the .tflite files of one sub-model; what the manifest says of each, by flavour."""
    spec = parts.input_spec

    written = {}
    for flavour in parts.run.flavours:
        if flavour in parts.left_out:
            continue
        file = _tflite_name(sub, flavour)
        # where one runtime alone loads it, the forms that are best there
        only_litert = RUNTIMES[flavour] == ("ai-edge-litert",)
        target = "litert" if only_litert else parts.run.target

        graph = architecture(sub.config).graph(sub.config, weights, spec.name, spec.dtype, target)
        convert(*graph, folder / file, weights, flavour)
        written[flavour] = {"file": file, "target": target, "runtimes": list(RUNTIMES[flavour])}

    return written


def _content(sub: SubModelPlan, weights: Weights) -> str:
    """Digest of a sub-model's widths and weights: files of equal ones are equal."""
    found = hashlib.sha256(repr(sub.config).encode())
    for name in sorted(weights):
        found.update(name.encode())
        found.update(np.ascontiguousarray(weights[name]).tobytes())
    return found.hexdigest()


def _copy_files(folder: Path, sub: SubModelPlan, first: dict) -> dict[str, dict]:
    """Copies the files of a sub-model with the same weights, which is converted once; what the
    manifest says of each, by flavour.
    """
    shutil.copyfile(folder / first["keras"], folder / f"{sub.name}.keras")
    copied = {}
    for flavour, listed in first["flavours"].items():
        file = _tflite_name(sub, flavour)
        shutil.copyfile(folder / listed["file"], folder / file)
        copied[flavour] = {**listed, "file": file}
    return copied


def _tflite_name(sub: SubModelPlan, flavour: str) -> str:
    return f"{sub.name}.tflite" if flavour == "float32" else f"{sub.name}.{flavour}.tflite"


def _entry(
    sub: SubModelPlan, labels: tuple[str, ...], flavours: dict[str, dict], view: View
) -> dict:
    """What the manifest says of one sub-model."""
    # One that sees its input as it is says nothing of it, as in older manifests.
    told = {} if view == AS_IT_IS else {"view": view.to_dict()}

    return {
        "index": sub.index,
        "name": sub.name,
        "file": f"{sub.name}.tflite",
        "keras": f"{sub.name}.keras",
        "flavours": flavours,
        "classes": list(sub.classes),
        "labels": [labels[c] for c in sub.classes],
        "other": sub.config.num_classes > len(sub.classes),
        "kept_heads": sub.kept,  # shares of the base; the key is older than other architectures
        "config": sub.config.to_dict(),
        **costs(sub.config),
        "devices": list(sub.devices),
        **told,
    }


def _write_fusion(folder: Path, parts: BundleParts) -> dict:
    """Writes the fusion's two files; what the manifest says of it."""
    kind = fusion_of(parts.run, parts.plan, len(parts.labels), parts.fusion_kind)
    model = kind.build()
    set_weights(model, parts.fusion)
    model.save(folder / "fusion.keras")
    convert(*kind.graph(parts.fusion), folder / "fusion.tflite", parts.fusion)

    return {
        "kind": parts.fusion_kind or parts.run.fusion,
        "file": "fusion.tflite",
        "keras": "fusion.keras",
        "lambda": parts.run.fusion_lambda,
        "widths": list(kind.widths),
    }


def _manifest(parts: BundleParts, entries: list[dict], fusion: dict) -> dict:
    """The manifest, but for "files"."""
    run = parts.run
    plan = parts.plan
    spec = parts.input_spec

    return {
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
        "fusion": fusion,
        "plan": {
            "devices": [device.to_dict() for device in plan.devices],
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


def _write_input_file(path: Path, content: np.ndarray | bytes) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)


def _write_answers(folder: Path, entries: list[dict], parts: BundleParts) -> None:
    """golden.npz: one made-up smooth input and what each sub-model answered on this machine, for
    self-checks. Into `entries`: the ranges of the sub-models' answers to real inputs.

    The input is drawn from the seed, not taken from the data: a bundle carries nobody's picture or
    music.
    """
    spec = parts.input_spec
    config = parts.plan.sub_models[0].config
    x = spec.golden_sample(parts.run.seed, config.input_mean, config.input_std)
    real = None if parts.samples is None else range_inputs(parts.samples, spec.is_text)

    golden = {"input": x}
    features = []
    written = zip(entries, parts.plan.sub_models, parts.sub_models, parts.seen_by, strict=True)
    for entry, sub, weights, view in written:
        # All in one process; the golden input is the first of them, and the file's own answer to
        # it is what is kept. Ranges are of what a device answers, which sees the rest by its view.
        asked = x if real is None else np.concatenate([x, view.applied(real)])
        answers, _ = run_in_process(folder / entry["file"], {spec.name: asked})
        out = {name: value[:1] for name, value in answers.items()}
        limits = _limits(entry, sub, weights, x)
        _check_flavours(folder, entry, {spec.name: x}, out, limits)
        if parts.samples is not None:
            measured = answer_ranges(answers["features"], answers["logits"])
            entry["ranges"] = measured.to_dict()

        features.append(out["features"])
        for name, value in out.items():
            golden[f"{entry['name']}.{name}"] = value

    # the fusion takes them side by side, none missing
    whole = {
        "features": np.concatenate(features, axis=1),
        "present": np.ones((1, len(entries)), np.float32),
    }
    out, _ = run_in_process(folder / "fusion.tflite", whole)
    golden["fusion.probabilities"] = out["probabilities"]
    np.savez(folder / "golden.npz", **golden)


def range_inputs(samples: np.ndarray, is_text: bool = False) -> np.ndarray:
    """What the ranges of answers are measured over: some of the real samples (n, H, W, C), and
    inputs at their edges, which a client may send too: all black, grey, white, and noise; of texts
    any pieces, and one again and again.
    """
    step = -(-len(samples) // RANGE_SAMPLES)
    real = np.asarray(samples[::step])

    rng = np.random.default_rng(0)
    one = real[:1].shape
    if is_text:
        # not without a piece: no text is, and what answers zeros is then seen
        any_pieces = rng.integers(1, max(2, int(real.max()) + 1), (4, *one[1:]))
        alike = np.tile(any_pieces[:, :1], (1, *one[1:]))
        return np.concatenate([real, any_pieces.astype(real.dtype), alike.astype(real.dtype)])

    low, high = float(real.min()), float(real.max())
    made = [
        np.full(one, low),
        np.full(one, (low + high) / 2),
        np.full(one, high),
        rng.uniform(low, high, one),
        rng.choice([low, high], one),
    ]
    return np.concatenate([real, *(each.astype(real.dtype) for each in made)])


def _limits(entry: dict, sub: SubModelPlan, weights: Weights, x: np.ndarray) -> dict[str, Limit]:
    """How far the answers of each flavour's file may be off; into `entry` where that is not the
    same for every model.
    """
    limits = {}
    for flavour, listed in entry["flavours"].items():
        limits[flavour] = Limit(TOLERANCES[flavour])
        jumping = jump_limit(sub.config, weights, x, flavour)
        if jumping is not None:
            limits[flavour] = jumping
            listed["golden_tolerance"] = jumping.largest
    return limits


def _check_flavours(
    folder: Path, entry: dict, inputs: dict, expected: dict, limits: dict[str, Limit]
) -> None:
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
                raise FlavourError(
                    flavour, f"{listed['file']} does not run in {runtime}: {error}"
                ) from error

            # what it answers, too: a runtime may load a file and compute something else
            allowed = limits[flavour]
            off = allowed.error(out, expected)
            if off > allowed.largest:
                raise FlavourError(
                    flavour,
                    f"{listed['file']} answers {off:.1e} off float32 in {runtime}, beyond "
                    f"{allowed.largest:g}.",
                )
