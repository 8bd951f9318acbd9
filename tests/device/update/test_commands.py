"""Updates of a device's bundle by its commands: what is switched to, what is refused, and what goes
on serving.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc import tensors
from edvit_tf.device.update import store as versions
from tests.support.commands import ROOT, rewrite_manifest, run_device
from tests.support.update_store import changed_byte, digests, intact, run
from tests.support.worker_process import ask, worker


def test_install_rollback_list_and_prune(store, bundles, capsys):
    first, second = (open_bundle(path).digest for path in bundles)
    assert digests(store) == (first, None)
    assert run(store, "rollback") == 20 and "has no previous version" in capsys.readouterr().err
    assert run(store, "install", bundles[1]) == 0
    assert digests(store) == (second, first)
    assert run(store, "rollback") == 0
    assert digests(store) == (first, second)
    assert run(store, "rollback") == 0
    assert digests(store) == (second, first)
    assert run(store, "install", bundles[0]) == 0  # an older one, as asked
    assert run(store, "rollback", second[:12]) == 0
    assert digests(store) == (second, first)
    assert run(store, "rollback", "0" * 12) == 20 and first[:12] in capsys.readouterr().err

    assert run(store, "install", bundles[0]) == run(store, "prune") == 0
    capsys.readouterr()
    assert run(store, "list", "--json") == 0
    rows = {row["digest"]: row for row in json.loads(capsys.readouterr().out)}
    assert {digest: row["links"] for digest, row in rows.items()} == {
        first: ["current"],
        second: ["previous"],
    }
    assert rows[first]["sub_models"] == [0, 1] and rows[first]["problem"] is None
    assert run(store, "list") == 0 and f"{first[:12]}   demo" in capsys.readouterr().out


def test_prune_deletes_what_no_link_leads_to(store, bundles, tmp_path):
    other = shutil.copytree(bundles[0], tmp_path / "other")
    rewrite_manifest(other, lambda m: m.update(seed=99))
    for bundle in (bundles[1], other):
        assert run(store, "install", bundle) == 0
    assert len(list((store / "versions").iterdir())) == 3
    kept = digests(store)
    assert run(store, "prune") == 0
    assert digests(store) == kept and len(list((store / "versions").iterdir())) == 2


def test_a_version_that_is_there_is_not_copied_again(store, bundles, capsys):
    def inodes():
        return {
            str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns)
            for path in (store / "versions").rglob("*")
        }

    before, links = inodes(), digests(store)
    assert (
        run(store, "install", bundles[0]) == 0 and "is current already" in capsys.readouterr().out
    )
    assert inodes() == before and digests(store) == links


def test_what_a_device_does_not_run_is_not_copied(bundles, tmp_path, capsys):
    store = tmp_path / "store"
    old = os.umask(0o077)
    try:
        assert run(store, "install", bundles[0], "--submodel", "1") == 0
    finally:
        os.umask(old)
    names = {path.name: path.stat().st_mode & 0o777 for path in (store / "current").iterdir()}
    assert names == dict.fromkeys(("manifest.json", "submodel-01.tflite", "golden.npz"), 0o644)
    assert {
        path.stat().st_mode & 0o777 for path in (store, store / "versions", store / "current")
    } == {0o755}
    partial = tmp_path / "partial"
    shutil.copytree(store / "current", partial)  # the files of one sub-model are enough
    assert run(tmp_path / "another", "install", partial, "--submodel", "1") == 0
    assert run(tmp_path / "another", "install", partial) == 7
    assert "submodel-00.tflite is missing" in capsys.readouterr().err
    assert (
        run(store, "install", bundles[0], "--submodel", "7") == 7
        and "has 0 to 1" in capsys.readouterr().err
    )
    assert (
        run(store, "install", bundles[0]) == 0
    )  # the same digest, with more files: a version of its own
    assert (store / "current").resolve().name == f"{open_bundle(bundles[0]).digest[:12]}-2"
    assert (store / "current" / "fusion.tflite").is_file()


def test_too_little_room_is_said_before_anything_is_written(store, bundles, monkeypatch, capsys):
    monkeypatch.setattr(versions, "free_bytes", lambda folder: 100_000)
    assert run(store, "install", bundles[1]) == 21
    assert "has 0.1 MiB free; this version needs 2.1 MiB" in capsys.readouterr().err
    assert (
        digests(store) == (open_bundle(bundles[0]).digest, None)
        and not (store / ".partial").exists()
    )


def test_two_commands_do_not_change_a_store_at_once(store, bundles, capsys):
    descriptor = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for arguments in (["install", bundles[1]], ["rollback"], ["prune"]):
            assert (
                run(store, *arguments) == 20
                and "another process is changing" in capsys.readouterr().err
            )
        assert run(store, "list") == 0
    finally:
        os.close(descriptor)
    command = [sys.executable, "-m", "edvit_tf.device.update", store, "install"]
    both = [
        subprocess.Popen([*command, bundle], cwd=ROOT, stderr=subprocess.PIPE) for bundle in bundles
    ]
    ends = [(process.communicate(timeout=60)[1], process.returncode)[1] for process in both]
    assert set(ends) <= {0, 20} and 0 in ends
    assert (
        digests(store)[0] in [open_bundle(path).digest for path in bundles]
        and not (store / ".partial").exists()
    )


def test_what_is_no_store_is_left_alone(bundles, store, tmp_path, capsys):
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "letter.txt").write_text("keep me")
    assert run(strange, "install", bundles[0]) == 20 and "letter.txt" in capsys.readouterr().err
    assert [path.name for path in strange.iterdir()] == ["letter.txt"]
    for action in ("list", "prune", "rollback"):
        assert run(tmp_path / "nothing", action) == 20 and "is no store" in capsys.readouterr().err
    (store / "current").unlink()
    (store / "current").symlink_to(bundles[0])  # by hand
    for arguments in (["install", bundles[1]], ["prune"], ["list"]):
        assert run(store, *arguments) == 20 and "must lead to versions/" in capsys.readouterr().err
    (store / "current").unlink()
    (store / "current").mkdir()
    assert run(store, "prune") == 20 and "is no link" in capsys.readouterr().err
    assert len(list((store / "versions").iterdir())) == 1


def test_a_version_that_was_damaged_on_the_device(store, bundles, capsys):
    """It is not gone back to; installed again it is mended, under another name: a worker may have
    the files open.
    """
    assert run(store, "install", bundles[1]) == 0
    changed_byte((store / "previous").resolve())
    assert run(store, "rollback") == 7 and "was changed" in capsys.readouterr().err
    first, second = (open_bundle(path).digest for path in bundles)
    assert intact(store / "current") == second
    assert run(store, "install", bundles[0]) == 0
    assert (
        digests(store) == (first, second)
        and (store / "current").resolve().name == f"{first[:12]}-2"
    )
    assert run(store, "prune") == 0 and not (store / "versions" / first[:12]).exists()


@pytest.mark.parametrize("name", ["labels.txt", "mel_filters.npy"])
def test_a_version_with_any_damaged_file_is_not_gone_back_to(
    tiny_mel_bundle, bundles, tmp_path, name
):
    """Not of a model that is tried, and read by what serves all the same."""
    store = tmp_path / "store"
    assert run(store, "install", tiny_mel_bundle) == run(store, "install", bundles[0]) == 0
    before = digests(store)[0]
    file = store / "previous" / name
    file.write_bytes(file.read_bytes()[:-1])
    assert run(store, "rollback") == 7
    assert intact(store / "current") == before
    file.unlink()
    assert run(store, "rollback") == (7 if name == "mel_filters.npy" else 0)


def test_a_worker_serves_its_version_until_it_is_restarted(store, bundles, tmp_path):
    """Started through the link, over two updates and the deletion of its files."""
    first, second = (open_bundle(path).digest for path in bundles)
    other = shutil.copytree(bundles[0], tmp_path / "other")
    rewrite_manifest(other, lambda m: m.update(seed=99))
    request = tensors.infer_request("submodel-00", {"image": np.full((1, 16, 16, 1), 7, np.uint8)})

    def served_by(channel):
        return tensors.parameters(ask(channel, request))["bundle_digest"]

    with worker(store / "current", tmp_path) as one, one.channel() as channel:
        assert one.serving["bundle"] == first[:12] and served_by(channel) == first
        for arguments in (["install", other], ["install", bundles[1]], ["prune"]):
            assert run(store, *arguments) == 0
        assert not (store / "versions" / first[:12]).exists()
        assert served_by(channel) == first
        assert one.stop(signal.SIGTERM) == 0
    with worker(store / "current", tmp_path) as one, one.channel() as channel:
        assert served_by(channel) == second


def test_the_unit_starts_the_current_version(store):
    done = run_device(
        "-m",
        "edvit_tf.device",
        store / "current",
        "--listen",
        "127.0.0.1:8001",
        "--insecure",
        "--print-unit",
    )
    assert done.returncode == 0, done.stderr
    assert f"edvit_tf.device {store.resolve()}/current --submodel 0" in done.stdout


def test_wrong_usage_and_help(store):
    for arguments in ([], ["install"], ["install", "x", "--submodel", "one"], ["explode"]):
        done = run_device("-m", "edvit_tf.device.update", store, *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr
    shown = run_device("-m", "edvit_tf.device.update", "--help")
    assert shown.returncode == 0 and "Exit codes" in shown.stdout
