"""How the tests share a machine, and what many of them share: bundles and stores, made once.

pytest-xdist runs the files of tests in several processes, each file in one. Every process of ours
that loads TensorFlow has one thread then, as the cores have work already.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.commands import SMOKE, rewrite_manifest, run_device, run_host, write_made_bundle

if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
# no test asks the hub on the internet; one on this machine is tests/support/fake_hub.py
os.environ["HF_HUB_OFFLINE"] = "1"

# The files of tests that take longest start first, so that no process is left with a long one when
# the others have ended. Those that assert how long something takes come last: they wait more than
# they work, and run beside each other then, and not beside what trains.
LONGEST = (
    "pipeline/test_fusing.py",
    "pipeline/test_run.py",
    "study/test_sweep.py",
    "pipeline/test_elsewhere.py",
    "training/test_train.py",
    "training/test_randaugment.py",
    "study/test_study.py",
    "export/test_flavours.py",
    "pipeline/test_options.py",
    "bench/test_latency.py",
    "models/test_pretrained.py",
    "models/test_cuts.py",
    "cli/test_recipes.py",
    "bench/test_training.py",
)
TIMED = (
    "device/update/test_cuts.py",
    "aggregate/test_peers.py",
    "aggregate/test_service.py",
    "device/worker/test_server.py",
    "device/worker/test_stream_infer.py",
    "system/test_faults_limits.py",
    "system/test_faults_clock.py",
    "device/worker/test_faults.py",
    "system/test_faults.py",
    "system/test_faults_load.py",
    "system/test_faults_order.py",
    "system/test_soak.py",
    "system/test_update_fleet.py",
)
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first, and those that take the time last."""
    first = {TESTS / name: number - len(LONGEST) for number, name in enumerate(LONGEST)}
    last = {TESTS / name: number + 1 for number, name in enumerate(TIMED)}
    items.sort(key=lambda item: first.get(item.path, last.get(item.path, 0)))


def pytest_sessionfinish() -> None:
    forked.end_all()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder of all processes of this run of the tests."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Tests run beside those of other processes, but for those that are marked `alone`."""
    alone = item.get_closest_marker("alone") is not None
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        return (yield)


@pytest.fixture(scope="session")
def made_once(shared_folder) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: the path NAME, where `make(path)` has put a folder once for all
    processes of this run of the tests. Tests do not change it.
    """

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared_folder / "made" / name
        folder.mkdir(parents=True, exist_ok=True)
        path, done = folder / name, folder / "done"
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)  # of a process that failed half way
                make(path)
                done.touch()

        return path

    return get


@pytest.fixture(scope="session")
def tiny_bundle(made_once) -> Path:
    """A bundle of pictures, 16 x 16 x 1 uint8, two sub-models with made-up weights."""
    return made_once("tiny", write_made_bundle)


@pytest.fixture(scope="session")
def five_bundle(made_once) -> Path:
    """As tiny_bundle, with five sub-models."""
    return made_once("five", lambda path: write_made_bundle(path, count=5))


@pytest.fixture(scope="session")
def copies_bundle(made_once) -> Path:
    """A bundle of pictures as tiny_bundle's: one model of all four classes with made-up weights,
    under two views, each on two devices.
    """
    views = [{"down": 2, "right": -1}, {"mirrored": True, "crop": 1}]
    return made_once("copies", lambda path: write_made_bundle(path, views=views))


@pytest.fixture(scope="session")
def tables_bundle(made_once) -> Path:
    """A bundle of `tests/support/table_input.py`, 16 x 16 x 1 int32, two sub-models."""

    def make(path: Path) -> None:
        code = (
            "import pathlib; from tests.support import table_input; "
            f"table_input.write_bundle(pathlib.{path!r})"
        )
        done = run_host("-c", code)
        assert done.returncode == 0, done.stderr

    return made_once("tables", make)


@pytest.fixture(scope="session")
def tiny_mel_bundle(made_once) -> Path:
    """A bundle of sound, 16 x 16 x 1 float32, two sub-models with made-up weights."""
    return made_once("tiny-mel", lambda path: write_made_bundle(path, mel=True))


@pytest.fixture(scope="session")
def split_cnn_bundle(made_once) -> Path:
    """A trained Split-CNN of `tests/support/small_split.py`, 28 x 28 x 1 uint8, two sub-models."""
    return made_once("cnn", lambda path: _write_split("CNN", path))


@pytest.fixture(scope="session")
def split_snn_bundle(made_once) -> Path:
    """The same of a Split-SNN."""
    return made_once("snn", lambda path: _write_split("SNN", path))


def _write_split(kind: str, path: Path) -> None:
    code = (
        f"import pathlib; from tests.support.small_split import {kind}, write; "
        f"write(pathlib.{path!r}, {kind})"
    )
    done = run_host("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def bundles(tiny_bundle, made_once) -> tuple[Path, Path]:
    """`tiny_bundle`, and one of other labels, so of another digest."""
    labels = ["eel", "fox", "gnu", "hen"]
    text = "".join(f"{label}\n" for label in labels).encode()

    def change(manifest):
        manifest["labels"] = labels
        manifest["files"]["labels.txt"] = {
            "bytes": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
        }

    def make(path: Path) -> None:
        shutil.copytree(tiny_bundle, path)
        (path / "labels.txt").write_bytes(text)
        rewrite_manifest(path, change)

    return tiny_bundle, made_once("tiny-of-other-labels", make)


@pytest.fixture(scope="session")
def made_store(bundles, made_once) -> Path:
    """A store of versions with the first of `bundles`, for copies."""

    def make(path: Path) -> None:
        done = run_device("-m", "edvit_tf.device.update", path, "install", bundles[0])
        assert done.returncode == 0, done.stderr

    return made_once("store", make)


@pytest.fixture
def store(made_store, tmp_path) -> Path:
    """A store of versions with the first of `bundles`, to be changed."""
    return shutil.copytree(made_store, tmp_path / "store", symlinks=True)


@pytest.fixture(scope="session")
def smoke_bundle(made_once) -> Path:
    """Bundle of the recipe `tests/support/small_recipe.py`, as its --smoke: two sub-models, made in
    one unbroken run.
    """

    def make(path: Path) -> None:
        done = run_host(*SMOKE, "--out", path)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once("mnist", make)
