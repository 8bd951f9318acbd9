"""Answers of a whole bundle in one process: its sub-models one after the other, then the fusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import BundleError, InputError
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.bundle_input import BundleInput, bundle_input
from edvit_tf.device.model.runtime import Model, imported_runtime, load
from edvit_tf.device.model.tune import choice


@dataclass(frozen=True)
class Fleet:
    """The loaded sub-models of a bundle (None = left out) and its fusion."""

    bundle: Bundle
    input: BundleInput
    sub_models: tuple[Model | None, ...]
    fusion: Model

    @property
    def missing(self) -> list[int]:
        """Indices of the sub-models that were left out."""
        return [j for j, model in enumerate(self.sub_models) if model is None]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Fused probabilities (classes,) of one input (H, W, C) of the manifest's dtype."""
        # (1, d_j) of each sub-model; zeros, and 0 in `present`, for one that is missing
        features = []
        for index, (model, width) in enumerate(
            zip(self.sub_models, self.bundle.widths, strict=True)
        ):
            if model is None:
                features.append(np.zeros((1, width), np.float32))
            else:
                seen = self.bundle.entry(index).view.applied(x[np.newaxis])
                features.append(model.run(**{self.input.name: seen})["features"])

        present = np.array([[model is not None for model in self.sub_models]], np.float32)  # (1, N)
        fused = self.fusion.run(features=np.concatenate(features, axis=1), present=present)
        return fused["probabilities"][0]


def load_fleet(path: str | Path, missing: Sequence[int] = (), flavour: str | None = None) -> Fleet:
    """Opens a bundle and loads its sub-models but the `missing` ones, as they were tuned for this
    device.

    `flavour` (None: the fastest measured, else the first). Raises BundleError when no sub-model
    would be left.
    """
    bundle = open_bundle(path)
    # an index that the bundle does not have is an error, not one sub-model less
    for index in missing:
        bundle.entry(index)
    if len(set(missing)) == len(bundle.sub_models):
        raise BundleError(
            "all sub-models are missing; an answer needs at least one. Leave fewer out."
        )

    runtime = imported_runtime()
    models: list[Model | None] = []
    for index in range(len(bundle.sub_models)):
        if index in missing:
            models.append(None)
        else:
            chosen = choice(bundle, index, flavour, runtime.name)
            models.append(load(verified_path(bundle, chosen.file), chosen.threads, runtime))

    fusion = load(verified_path(bundle, bundle.fusion.file), runtime=runtime)
    return Fleet(bundle, bundle_input(bundle), tuple(models), fusion)


def answer_file(fleet: Fleet, path: str | Path) -> dict:
    """{"file", "label", "probability", "probabilities", "windows"} of a file, e.g. a picture.

    A file that gives several inputs (a recording longer than the window) gets the mean of their
    probabilities. Raises InputError, which names the file, and DecoderMissing.
    """
    try:
        inputs = fleet.input.from_file(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

    # (windows, classes) -> (classes,)
    mean = np.mean([fleet.probabilities(x) for x in inputs], axis=0)
    best = int(mean.argmax())
    labels = fleet.bundle.labels
    return {
        "file": Path(path).name,
        "label": labels[best],
        "probability": float(mean[best]),
        "probabilities": dict(zip(labels, mean.tolist(), strict=True)),
        "windows": len(inputs),
        "missing": fleet.missing,
    }
