"""Answers of a whole bundle in one process: its sub-models one after the other, then the fusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.model import preprocess
from edvit_tf.device.model.bundle import Bundle, BundleError, open_bundle, verified_path
from edvit_tf.device.model.runtime import Model, load
from edvit_tf.device.model.tune import choice


@dataclass(frozen=True)
class Fleet:
    """The loaded sub-models of a bundle (None = left out) and its fusion."""

    bundle: Bundle
    sub_models: tuple[Model | None, ...]
    fusion: Model

    @property
    def missing(self) -> list[int]:
        """Indices of the sub-models that were left out."""
        return [j for j, model in enumerate(self.sub_models) if model is None]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Fused probabilities (classes,) of one input (H, W, C) of the manifest's dtype."""
        features = [
            np.zeros((1, width), np.float32)
            if model is None
            else model.run(**{self.bundle.manifest["input"]["name"]: x[np.newaxis]})["features"]
            for model, width in zip(self.sub_models, self.bundle.widths, strict=True)
        ]
        present = np.array([[model is not None for model in self.sub_models]], np.float32)
        return self.fusion.run(features=np.concatenate(features, axis=1), present=present)[
            "probabilities"
        ][0]


def load_fleet(path: str | Path, missing: Sequence[int] = (), flavour: str | None = None) -> Fleet:
    """Opens a bundle and loads its sub-models but the `missing` ones, as they were tuned for this
    device.

    `flavour` (None: the fastest measured, else the first). Raises BundleError when no sub-model
    would be left.
    """
    bundle = open_bundle(path)
    for index in missing:
        bundle.entry(index)
    if len(set(missing)) == len(bundle.sub_models):
        raise BundleError(
            "all sub-models are missing; an answer needs at least one. Leave fewer out."
        )
    chosen = [
        None if j in missing else choice(bundle, j, flavour) for j in range(len(bundle.sub_models))
    ]
    models = tuple(
        None if c is None else load(verified_path(bundle, c.file), c.threads) for c in chosen
    )
    return Fleet(bundle, models, load(verified_path(bundle, bundle.manifest["fusion"]["file"])))


def answer_file(fleet: Fleet, path: str | Path) -> dict:
    """{"file", "label", "probability", "probabilities", "windows"} of a picture or a recording.

    A recording longer than the window is cut into windows; its probabilities are their mean.
    """
    spec = preprocess.spec_from_dict(fleet.bundle.manifest["input"]["spec"])
    inputs = preprocess.inputs_from_file(path, spec, mel_filters(fleet.bundle))
    mean = np.mean([fleet.probabilities(x) for x in inputs], axis=0)
    best = int(mean.argmax())
    return {
        "file": Path(path).name,
        "label": fleet.bundle.labels[best],
        "probability": float(mean[best]),
        "probabilities": {
            label: float(p) for label, p in zip(fleet.bundle.labels, mean, strict=True)
        },
        "windows": len(inputs),
        "missing": fleet.missing,
    }


def mel_filters(bundle: Bundle) -> np.ndarray | None:
    """The mel filter bank that travels in an audio bundle, (n_mels, 1 + n_fft // 2); None for
    images.
    """
    name = bundle.manifest["input"].get("mel_filters")
    return None if name is None else np.load(verified_path(bundle, name), allow_pickle=False)
