"""Bundles and stores that many tests share, made once a session, each in a process of its own."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.support.commands import SMOKE, rewrite_manifest, run_python, write_made_bundle


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
        manifest["files"]["labels.txt"] = {
            "bytes": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
        }

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


@pytest.fixture(scope="session")
def smoke_bundle(tmp_path_factory) -> Path:
    """Bundle of `recipes/mnist.py --smoke --synthetic`: two sub-models, made in one unbroken
    run.
    """
    out = tmp_path_factory.mktemp("smoke") / "mnist"
    done = run_python(*SMOKE, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
