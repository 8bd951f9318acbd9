"""A bundle that answers otherwise than another one, made of its files."""

import shutil
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import sha256
from edvit_tf.device.model.subprocess_run import run_model
from tests.support.commands import rewrite_manifest

FILES = ("submodel-00.tflite", "submodel-01.tflite", "golden.npz")


def exchanged(bundle: Path, folder: Path) -> Path:
    """A bundle that answers otherwise: its sub-models have changed places, golden answers and
    all.
    """
    new = shutil.copytree(bundle, folder)
    for name, source in zip(FILES, (FILES[1], FILES[0]), strict=False):
        shutil.copy(bundle / source, new / name)
    with np.load(bundle / "golden.npz") as file:
        golden = dict(file)
    for part in ("features", "logits"):
        names = f"submodel-00.{part}", f"submodel-01.{part}"
        golden |= dict(zip(names, [golden[name] for name in reversed(names)], strict=True))
    features = np.concatenate([golden[f"submodel-0{j}.features"] for j in (0, 1)], axis=1)
    inputs = {"features": features, "present": np.ones((1, 2), np.float32)}
    golden["fusion.probabilities"] = run_model(new / "fusion.tflite", inputs)[0]["probabilities"]
    np.savez(new / "golden.npz", **golden)
    rewrite_manifest(
        new,
        lambda m: [
            m["files"][name].update(bytes=(new / name).stat().st_size, sha256=sha256(new / name))
            for name in FILES
        ],
    )
    return new
