"""Updates that are killed, lose power or meet a full disk, at every step: the old version is
current, or the new.
"""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.update import commands as update
from tests.support.commands import rewrite_manifest, run_device
from tests.support.forked import DEVICE, ROOT, Forked
from tests.support.update_cuts import CUT, INODES, ROOM_KIB, state

KILLS = 50
WHOLE = 6  # files of a version: manifest, two sub-models, fusion, golden input, labels
READY = (
    "import sys\nfrom edvit_tf.device.update.commands import main\nprint('ready', flush=True)\n"
    "raise SystemExit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def digests(bundles):
    return tuple(open_bundle(path).digest for path in bundles)


def rows(*arguments, within=()) -> list[dict]:
    command = [*within, sys.executable, "-m", "tests.support.update_cuts", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def steps(found: list[dict], least: int) -> list[dict]:
    """The rows, after what holds of all: some were interrupted, the last was not, and nothing
    temporary stays.
    """
    assert [row["code"] for row in found] == [CUT] * (len(found) - 1) + [0] and len(found) > least
    assert all(row["then"]["rest"] == [] for row in found) and found[-1]["left"]["rest"] == []
    assert any(row["left"]["rest"] for row in found)  # or nothing was interrupted
    return found


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_an_install_that_ends_at_any_step(kind, made_store, bundles, digests):
    """The old version or the new one is current, whole; the same command, given again, brings the
    new one.
    """
    old, new = digests
    found = steps(rows(kind, made_store, "STORE", "install", bundles[1]), 25)
    assert {row["left"]["current"] for row in found} == {old, new}
    assert {row["left"]["previous"] for row in found if row["left"]["current"] == new} == {old}
    for row in found:
        assert (row["again"], row["then"]) == (
            0,
            {"current": new, "previous": old, "rest": [], "files": [WHOLE] * 2},
        )


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_a_first_install_that_ends_at_any_step(kind, bundles, digests, tmp_path):
    found = steps(rows(kind, tmp_path / "nothing", "STORE", "install", bundles[1]), 25)
    assert {row["left"]["current"] for row in found} == {None, digests[1]}
    assert all((row["again"], row["then"]["current"]) == (0, digests[1]) for row in found)


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_a_rollback_that_ends_at_any_step(kind, made_store, bundles, digests, tmp_path):
    old, new = digests
    both = shutil.copytree(made_store, tmp_path / "both", symlinks=True)
    assert update.main([str(both), "install", str(bundles[1])]) == 0
    found = steps(rows(kind, both, "STORE", "rollback", old[:12]), 6)
    assert {row["left"]["current"] for row in found} == {old, new}
    assert {row["then"]["current"] for row in found} == {old}
    assert {row["again"] for row in found if row["left"]["current"] == new} == {0}
    assert {row["again"] for row in found if row["left"]["current"] == old} == {
        20
    }  # it is current already


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_a_prune_that_ends_at_any_step(kind, made_store, bundles, digests, tmp_path):
    three = shutil.copytree(made_store, tmp_path / "three", symlinks=True)
    third = shutil.copytree(bundles[0], tmp_path / "third")
    rewrite_manifest(third, lambda m: m.update(seed=3))
    for path in (bundles[1], third):
        assert update.main([str(three), "install", str(path)]) == 0
    found = steps(rows(kind, three, "STORE", "prune"), 8)
    expected = {
        "current": open_bundle(third).digest,
        "previous": digests[1],
        "rest": [],
        "files": [WHOLE] * 2,
    }
    for row in found:
        assert row["left"]["files"] in ([WHOLE] * 2, [WHOLE] * 3)  # no version is there in part
        assert {**row["left"], "rest": [], "files": [WHOLE] * 2} == row["then"] == expected and row[
            "again"
        ] == 0


def test_kill_9_at_random_points_of_an_install(made_store, bundles, digests, tmp_path, monkeypatch):
    """Real processes, models tried and all, killed after delays spread over what an install
    takes.
    """
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))

    def begin(path):
        process = Forked(
            [sys.executable, "-c", READY, path, "install", bundles[1], "--submodel", "0"],
            modules=DEVICE,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        return process, time.perf_counter()

    def end(process):
        process.stdout.close()
        return process.wait(60)

    durations = []
    for number in range(3):
        process, started = begin(
            shutil.copytree(made_store, tmp_path / f"whole-{number}", symlinks=True)
        )
        process.stdout.read()
        assert end(process) == 0
        durations.append(time.perf_counter() - started)
    rng, ends, left = random.Random(7), [], []
    for number in range(KILLS):
        path = shutil.copytree(made_store, tmp_path / f"killed-{number}", symlinks=True)
        process, started = begin(path)
        try:
            process.wait(min(durations) * rng.uniform(0, 1.1))
            # the machine has more time for it than when it was measured
            durations.append(time.perf_counter() - started)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        ends.append(end(process))
        left.append(state(path))
        assert left[-1]["current"] in digests
        assert update.main([str(path), "prune"]) == 0
        assert state(path)["current"] == left[-1]["current"] and state(path)["rest"] == []
    assert ends.count(-signal.SIGKILL) > KILLS // 2
    assert (
        sum(row["rest"] == [".partial"] for row in left) > KILLS // 2
    )  # killed at work, not before or after
    assert list((tmp_path / "temporary").iterdir()) == []


def test_ctrl_c_cleans_up(made_store, bundles, digests, tmp_path):
    path = shutil.copytree(made_store, tmp_path / "store", symlinks=True)
    code = (
        "from edvit_tf.device.update import commands as update\n"
        "def interrupted(*arguments): raise KeyboardInterrupt\n"
        "update.try_out = interrupted\n"
        f"raise SystemExit(update.main([{str(path)!r}, 'install', {str(bundles[1])!r}]))"
    )
    done = run_device("-c", code)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert state(path) == {"current": digests[0], "previous": None, "rest": [], "files": [WHOLE]}


@pytest.mark.parametrize("limit", [0, 4_000, 30_000])
def test_a_file_that_cannot_be_written_whole(limit, made_store, bundles, digests, tmp_path):
    """By a limit of the process on the size of files: it fails in the manifest, then in a model."""
    path = shutil.copytree(made_store, tmp_path / "store", symlinks=True)
    done = subprocess.run(
        [sys.executable, "-m", "edvit_tf.device.update", path, "install", bundles[1]],
        cwd=ROOT,
        text=True,
        timeout=60,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (
        done.returncode == 21
        and "cannot be changed" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert state(path) == {"current": digests[0], "previous": None, "rest": [], "files": [WHOLE]}


def test_a_full_disk(made_store, bundles, digests, tmp_path):
    """Real small file systems, in a mount namespace of its own: too few bytes, then too few
    files.
    """
    within = ("unshare", "--user", "--map-root-user", "--mount")
    try_first = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    ways = [
        way
        for way in (("unshare", "--mount"), within)
        if shutil.which("unshare")
        and subprocess.run([*way, *try_first], capture_output=True).returncode == 0
    ]
    if not ways:
        pytest.skip(
            "mounting a small tmpfs takes root, or unshare(1) with user namespaces; neither is "
            "there"
        )
    (tmp_path / "mounted").mkdir()
    found = rows(
        "full", made_store, tmp_path / "mounted", "STORE", "install", bundles[1], within=ways[0]
    )
    assert len(found) == len(ROOM_KIB) + len(INODES)
    for part in (found[: len(ROOM_KIB)], found[len(ROOM_KIB) :]):
        codes = [row["code"] for row in part]
        assert (
            set(codes) == {0, 21} and sorted(codes, reverse=True) == codes and codes.count(21) >= 3
        ), codes
    for row in found:
        expected = (digests[1], digests[0]) if row["code"] == 0 else (digests[0], None)
        assert (row["left"]["current"], row["left"]["previous"], row["left"]["rest"]) == (
            *expected,
            [],
        ), row
