"""Damages to a bundle, for tests of what refuses it: a worker at its start, an update before it
switches.
"""

import shutil
from pathlib import Path

from edvit_tf.device.model.bundle import sha256
from tests.support.commands import rewrite_manifest


def listed(bundle: Path, name: str = "submodel-00.tflite") -> None:
    """Makes the manifest list the file as it now is: sha256 does not tell any more."""
    file = bundle / name
    rewrite_manifest(
        bundle, lambda m: m["files"][name].update(bytes=file.stat().st_size, sha256=sha256(file))
    )


def swapped(bundle: Path) -> None:
    """The file of one sub-model is that of another."""
    shutil.copy(bundle / "submodel-01.tflite", bundle / "submodel-00.tflite")
    listed(bundle)


def outside(bundle: Path) -> None:
    """The manifest names a file outside the bundle's folder."""
    shutil.copy(bundle / "submodel-00.tflite", bundle.parent / "outside.tflite")

    def change(manifest):
        manifest["files"]["../outside.tflite"] = manifest["files"]["submodel-00.tflite"]
        manifest["sub_models"][0]["flavours"]["float32"]["file"] = "../outside.tflite"

    rewrite_manifest(bundle, change)
