"""A finished smoke run, made once a session the way a user makes it: by a recipe, in a process of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: str | Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """`python ARGUMENTS...` in the project's folder, without EDVIT_DATA; output as text."""
    kept = {k: v for k, v in os.environ.items() if k != "EDVIT_DATA"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env={**kept, **environment}, text=True,
                          capture_output=True, timeout=timeout, check=False)


def rewrite_manifest(bundle: Path, change) -> None:
    """`change` is called with the manifest of a bundle, which is then stored."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def write_made_bundle(folder: Path, **options) -> Path:
    """`made_bundle.write` in a process of its own: TensorFlow stays out of this one."""
    code = f"import pathlib; from tests import made_bundle; made_bundle.write(pathlib.{folder!r}, **{options})"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """A bundle of pictures, 16 x 16 x 1 uint8, two sub-models with made-up weights."""
    return write_made_bundle(tmp_path_factory.mktemp("made") / "tiny")


@pytest.fixture(scope="session")
def five_bundle(tmp_path_factory) -> Path:
    """As tiny_bundle, with five sub-models."""
    return write_made_bundle(tmp_path_factory.mktemp("made") / "five", count=5)


@pytest.fixture(scope="session")
def tiny_mel_bundle(tmp_path_factory) -> Path:
    """A bundle of sound, 16 x 16 x 1 float32, two sub-models with made-up weights."""
    return write_made_bundle(tmp_path_factory.mktemp("made") / "tiny-mel", mel=True)


@pytest.fixture(scope="session")
def bundles(tiny_bundle, tmp_path_factory) -> tuple[Path, Path]:
    """`tiny_bundle`, and one of other labels, so of another digest."""
    second = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("second") / "tiny")
    labels = ["eel", "fox", "gnu", "hen"]
    text = "".join(f"{label}\n" for label in labels).encode()
    (second / "labels.txt").write_bytes(text)

    def change(manifest):
        manifest["labels"] = labels
        manifest["files"]["labels.txt"] = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}

    rewrite_manifest(second, change)
    return tiny_bundle, second


@pytest.fixture(scope="session")
def made_store(bundles, tmp_path_factory) -> Path:
    """A store of versions with the first of `bundles`, for copies."""
    path = tmp_path_factory.mktemp("made-store") / "store"
    done = run_python("-m", "edvit_tf.device.update", path, "install", bundles[0])
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def store(made_store, tmp_path) -> Path:
    """A store of versions with the first of `bundles`, to be changed."""
    return shutil.copytree(made_store, tmp_path / "store", symlinks=True)


SMOKE = ("recipes/mnist.py", "--smoke", "--synthetic")


@pytest.fixture(scope="session")
def smoke_bundle(tmp_path_factory) -> Path:
    """Bundle of `recipes/mnist.py --smoke --synthetic`: two sub-models, made in one unbroken run."""
    out = tmp_path_factory.mktemp("smoke") / "mnist"
    done = run_python(*SMOKE, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
