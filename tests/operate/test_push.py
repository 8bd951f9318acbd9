"""`edvit push` with the real rsync and the real update, over a stand-in for ssh that runs the
command here.
"""

import shutil
import sys
from pathlib import Path

import pytest

from edvit_tf.device.model.bundle import open_bundle
from tests.support.commands import run_host
from tests.support.damaged import swapped
from tests.support.ssh_stand_in import device_home, needs_rsync, push
from tests.support.update_store import changed_byte, digests


@pytest.fixture
def pi(tmp_path, monkeypatch) -> Path:
    """Home of the device; `ssh` on PATH leads there."""
    return device_home(tmp_path, monkeypatch)


@needs_rsync
def test_a_bundle_is_current_on_the_device_and_nothing_else_stays(store, bundles, pi):
    first, second = (open_bundle(path).digest for path in bundles)
    done = push(bundles[1], f"pi:{store}")
    assert done.returncode == 0 and "is current (before: " in done.stdout, done.stderr
    assert digests(store) == (second, first) and list(pi.iterdir()) == []
    again = push(bundles[1], f"pi:{store}")
    assert again.returncode == 0 and "is current already" in again.stdout
    assert digests(store) == (second, first) and list(pi.iterdir()) == []


@needs_rsync
def test_what_a_device_does_not_run_is_not_sent(bundles, pi, tmp_path):
    assert push(bundles[0], f"pi:{tmp_path}/small store", "--submodel", "1").returncode == 0
    names = {path.name for path in (tmp_path / "small store" / "current").iterdir()}
    assert names == {"manifest.json", "submodel-01.tflite", "golden.npz"}


@needs_rsync
def test_what_the_device_refuses_has_its_code_and_the_old_version_goes_on(
    store, bundles, pi, tmp_path
):
    other = shutil.copytree(bundles[1], tmp_path / "other")
    swapped(other)
    before = digests(store)
    done = push(other, f"pi:{store}")
    assert done.returncode == 16 and "answers the golden input with a relative error" in done.stderr
    assert digests(store) == before


@needs_rsync
@pytest.mark.parametrize(
    "device, python, words",
    [
        (
            "nobody:/opt/gtzan",
            sys.executable,
            ["Could not resolve hostname nobody", "rsync to nobody ended with"],
        ),
        ("pi:STORE", "/no/python", ["a command is missing on pi", "--python"]),
    ],
)
def test_a_command_that_does_not_run_there(store, bundles, pi, device, python, words):
    before = digests(store)
    done = push(bundles[1], device.replace("STORE", str(store)), python=python)
    assert done.returncode == 23 and all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr and digests(store) == before


def test_what_cannot_be_pushed_says_why(store, bundles, pi, tmp_path, monkeypatch):
    other = shutil.copytree(bundles[1], tmp_path / "other")
    changed_byte(other)
    done = push(other, f"pi:{store}")
    assert done.returncode == 7 and "was changed" in done.stderr and list(pi.iterdir()) == []
    for device in ("pi", "pi:relative", ":/opt/gtzan", "-oProxyCommand=true:/opt/gtzan"):
        done = run_host("-m", "edvit_tf.cli", "push", bundles[1], "--", device)
        assert done.returncode == 3 and "it must be [USER@]HOST:STORE" in done.stderr, done.stderr
    assert push(bundles[1], f"pi:{store}", "--submodel", "5").returncode == 7
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = push(bundles[1], f"pi:{store}")
    assert done.returncode == 23 and "rsync is not installed here" in done.stderr
