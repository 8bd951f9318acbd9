"""Exported files on an emulated 64-bit Raspberry Pi (`pi_rootfs.sh`), compared with the same files
on this machine.

Not in the README's test command, since it needs root and apt; .ci/run calls it:

    python -m pytest -q -m arm64
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.runtime import RUNTIMES, installed_runtimes
from edvit_tf.device.model.subprocess_run import run_model
from tests.support import made_bundle
from tests.support.forked import ROOT
from tests.support.pi_machine import SUITES, script

pytestmark = pytest.mark.arm64

# Of max |a - b| / max |b|: kernels of another processor add in another order; int8 rows may round
# to the next step.
AGREE = {"float32": 1e-5, "float16": 1e-5, "int8": 2e-2}


class Guest(NamedTuple):
    """A root file system and the folder that it shares with this machine as /share."""

    folder: Path
    share: Path
    runtimes: tuple[str, ...]

    def python(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess:
        return script("run", self.folder, self.share, "python3", *arguments, timeout=timeout)


@pytest.fixture(scope="module")
def share(tmp_path_factory) -> Path:
    """The package, a bundle with every flavour, a sub-model of ViT-Base, and inputs."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.deployed import graph
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.vit.spread import spread_weights

    folder = tmp_path_factory.mktemp("arm64")
    shutil.copytree(
        ROOT / "edvit_tf",
        folder / "source" / "edvit_tf",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    made_bundle.write(folder / "bundle", flavours=("float32", "float16", "int8"))
    rng = np.random.default_rng(0)
    np.save(
        folder / "small.npy", rng.integers(0, 256, (8, *made_bundle.CONFIG.image_shape), np.uint8)
    )
    config = vit_config("vit_base", (224, 224, 3), 10).pruned(2, 10, "merge")
    weights = spread_weights(config, 1.5)
    for flavour, target in (("float32", "portable"), ("int8", "litert")):
        convert(
            *graph(config, weights, "image", "uint8", target),
            folder / f"base.{flavour}.tflite",
            weights,
            flavour,
        )
    np.save(folder / "base.npy", rng.integers(0, 256, (1, *config.image_shape), np.uint8))
    return folder


@pytest.fixture(scope="module", params=SUITES)
def guest(request, pi_root, share) -> Guest:
    runtimes = tuple(
        name for name in RUNTIMES if any(r.startswith(name) for r in SUITES[request.param])
    )
    return Guest(pi_root(request.param), share, runtimes)


def answers(guest: Guest, file: str, inputs: str, runtime: str) -> dict[str, np.ndarray]:
    """Outputs (n, ...) of a file in the share over rows of a .npy file, run by the guest."""
    done = guest.python(
        "-m",
        "edvit_tf.device.model.subprocess_main",
        f"/share/{file}",
        f"/share/{inputs}",
        "/share/out.npz",
        "--runtime",
        runtime,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(guest.share / "out.npz", allow_pickle=False) as stored:
        report = json.loads(str(stored["report"]))
        outputs = {
            name: stored[name] for name in stored.files if name not in ("report", "invoke_ms")
        }
    (guest.share / "out.npz").unlink()
    assert report["runtime"].startswith(runtime)
    return outputs


def agree(guest: Guest, file: str, inputs: str, runtime: str, flavour: str) -> None:
    if runtime not in installed_runtimes():
        pytest.skip(f"{runtime} is not installed here to compare with")
    here, _ = run_model(guest.share / file, guest.share / inputs, runtime=runtime)
    there = answers(guest, file, inputs, runtime)
    assert set(there) == set(here) == {"features", "logits"}
    for name, b in here.items():
        errors = np.abs(there[name] - b).max(axis=-1) / np.abs(b).max(axis=-1)
        assert errors.max() <= AGREE[flavour], (file, runtime, name)


def test_it_is_another_machine(guest):
    done = guest.python(
        "-c", "import platform, sys; print(platform.machine(), sys.version_info[:2])"
    )
    assert done.stdout.strip() in ("aarch64 (3, 11)", "aarch64 (3, 13)"), done.stderr


def test_every_flavour_answers_as_here_in_every_runtime_that_it_lists(guest):
    entry = open_bundle(guest.share / "bundle").sub_models[0]
    asked = [
        (flavour, listed.file, runtime)
        for flavour, listed in entry.flavours.items()
        for runtime in listed.runtimes
        if runtime in guest.runtimes
    ]
    assert {flavour for flavour, _, _ in asked} == {"float32", "float16", "int8"}
    for flavour, file, runtime in asked:
        agree(guest, f"bundle/{file}", "small.npy", runtime, flavour)


@pytest.mark.parametrize("flavour", ["float32", "int8"])
def test_a_sub_model_of_vit_base_answers_as_here(guest, flavour):
    for runtime in guest.runtimes:
        if not (flavour == "int8" and runtime == "tflite-runtime"):
            agree(guest, f"base.{flavour}.tflite", "base.npy", runtime, flavour)


def test_a_runtime_that_cannot_run_a_file_says_so(guest):
    done = guest.python(
        "-m",
        "edvit_tf.device.model.subprocess_main",
        "/share/base.int8.tflite",
        "/share/base.npy",
        "/share/out.npz",
        "--runtime",
        "tflite-runtime",
    )
    wanted = (
        "cannot load" if "tflite-runtime" in guest.runtimes else "installed here: ai-edge-litert"
    )
    assert done.returncode == 1 and wanted in done.stderr and "Traceback" not in done.stderr


def test_a_device_checks_its_bundle(guest):
    done = guest.python("-m", "edvit_tf.device", "/share/bundle", "--check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert (
        result["ok"] and result["processor"].endswith("cores") and "aarch64" in result["processor"]
    )
    flavours = {"float32", "float16"} | (
        {"int8"} if result["runtime"].startswith("ai-edge") else set()
    )
    assert {(row["name"], row["flavour"]) for row in result["models"]} == {
        ("fusion", "float32"),
        *((f"submodel-0{j}", flavour) for j in range(2) for flavour in flavours),
    }


def test_a_changed_file_is_refused(guest, tmp_path):
    copy = guest.share / "changed"
    shutil.copytree(guest.share / "bundle", copy)
    try:
        damaged = bytearray((copy / "submodel-00.tflite").read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (copy / "submodel-00.tflite").write_bytes(damaged)
        done = guest.python("-m", "edvit_tf.device", "/share/changed", "--check")
        assert done.returncode == 7 and "submodel-00.tflite was changed" in done.stderr
    finally:
        shutil.rmtree(copy)
