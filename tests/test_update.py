"""Updates of a device's bundle by its commands: what is switched to, what is refused, and what goes on serving."""

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

from edvit_tf.device import update, versions, wire
from edvit_tf.device.bundle import open_bundle, sha256, verified_path
from tests.conftest import ROOT, rewrite_manifest, run_python
from tests.worker_process import ask, worker

CRASH = """
import os, signal, sys
if "edvit_tf.device.batch" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGSEGV)
"""  # a sitecustomize.py


@pytest.fixture(scope="module")
def bundles(tiny_bundle, tmp_path_factory):
    """Two bundles of different digests, the second with another file of labels."""
    second = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("second") / "tiny")
    (second / "labels.txt").write_text("eel\nfox\ngnu\nhen\n")
    listed(second, "labels.txt")
    rewrite_manifest(second, lambda m: m.update(labels=["eel", "fox", "gnu", "hen"]))
    return tiny_bundle, second


@pytest.fixture
def other(bundles, tmp_path):
    """The second bundle, to be spoilt."""
    return shutil.copytree(bundles[1], tmp_path / "other")


@pytest.fixture
def store(bundles, tmp_path):
    """A store with the first bundle."""
    assert run(tmp_path / "store", "install", bundles[0]) == 0
    return tmp_path / "store"


def listed(bundle, name):
    """Makes the manifest list a file as it now is."""
    file = bundle / name
    rewrite_manifest(bundle, lambda m: m["files"][name].update(bytes=file.stat().st_size, sha256=sha256(file)))


def run(store, *arguments) -> int:
    """The command in this process, which loads no runtime: models are tried in child processes."""
    return update.main([str(store), *map(str, arguments)])


def digests(store) -> tuple:
    """Digests behind `current` and `previous`, None for no link; every file was verified."""
    return tuple(intact(store / link) if (store / link).is_symlink() else None for link in ("current", "previous"))


def intact(folder) -> str:
    bundle = open_bundle(folder)
    for file in folder.iterdir():
        if file.name != "manifest.json":
            verified_path(bundle, file.name)
    return bundle.digest


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
    assert {digest: row["links"] for digest, row in rows.items()} == {first: ["current"], second: ["previous"]}
    assert rows[first]["sub_models"] == [0, 1] and rows[first]["problem"] is None
    assert run(store, "list") == 0 and f"{first[:12]}   demo" in capsys.readouterr().out


def test_prune_deletes_what_no_link_leads_to(store, bundles, other):
    rewrite_manifest(other, lambda m: m.update(seed=99))
    for bundle in (bundles[1], other):
        assert run(store, "install", bundle) == 0
    assert len(list((store / "versions").iterdir())) == 3
    kept = digests(store)
    assert run(store, "prune") == 0
    assert digests(store) == kept and len(list((store / "versions").iterdir())) == 2


def test_a_version_that_is_there_is_not_copied_again(store, bundles, capsys):
    def inodes():
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in (store / "versions").rglob("*")}

    before, links = inodes(), digests(store)
    assert run(store, "install", bundles[0]) == 0 and "is current already" in capsys.readouterr().out
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
    assert {path.stat().st_mode & 0o777 for path in (store, store / "versions", store / "current")} == {0o755}
    assert run(store, "install", bundles[0], "--submodel", "7") == 7 and "has 0 to 1" in capsys.readouterr().err
    assert run(store, "install", bundles[0]) == 0  # the same digest, with more files: a version of its own
    assert (store / "current").resolve().name == f"{open_bundle(bundles[0]).digest[:12]}-2"
    assert (store / "current" / "fusion.tflite").is_file()


def changed_byte(bundle):
    content = bytearray((bundle / "submodel-00.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "submodel-00.tflite").write_bytes(content)


def truncated(bundle):
    os.truncate(bundle / "submodel-00.tflite", 20_000)


def truncated_and_listed(bundle):
    truncated(bundle)
    listed(bundle, "submodel-00.tflite")


def unknown_operator(bundle):
    """The first operator code of the file becomes one that no runtime has, as if a later converter had written it."""
    content = bytearray((bundle / "submodel-00.tflite").read_bytes())

    def uint32(at):
        return struct.unpack_from("<I", content, at)[0]

    def field(table, number):
        vtable = table - struct.unpack_from("<i", content, table)[0]
        return table + struct.unpack_from("<H", content, vtable + 4 + 2 * number)[0]

    codes = field(uint32(0), 1)
    first = codes + uint32(codes) + 4
    first += uint32(first)
    content[field(first, 0)] = 127  # "the code is in the other field"
    struct.pack_into("<i", content, field(first, 3), 5000)
    (bundle / "submodel-00.tflite").write_bytes(content)
    listed(bundle, "submodel-00.tflite")


def swapped(bundle):
    shutil.copy(bundle / "submodel-01.tflite", bundle / "submodel-00.tflite")
    listed(bundle, "submodel-00.tflite")


def wrong_sha256(bundle):
    rewrite_manifest(bundle, lambda m: m["files"]["fusion.tflite"].update(sha256="0" * 64))


def outside(bundle):
    shutil.copy(bundle / "submodel-00.tflite", bundle.parent / "outside.tflite")

    def change(manifest):
        manifest["files"]["../outside.tflite"] = manifest["files"]["submodel-00.tflite"]
        manifest["sub_models"][0]["flavours"]["float32"]["file"] = "../outside.tflite"

    rewrite_manifest(bundle, change)


def for_another_runtime(bundle):
    rewrite_manifest(bundle, lambda m: m["sub_models"][1]["flavours"]["float32"].update(runtimes=["abacus"]))


def no_golden_answers(bundle):
    np.savez(bundle / "golden.npz", input=np.zeros((1, 16, 16, 1), np.uint8))
    listed(bundle, "golden.npz")


def not_an_archive(bundle):
    (bundle / "golden.npz").write_bytes(b"spoilt")
    listed(bundle, "golden.npz")


@pytest.mark.parametrize("damage, code, text", [
    (changed_byte, 7, "was changed"),
    (truncated, 7, "was changed: 20000 bytes"),
    (truncated_and_listed, 13, "submodel-00.tflite"),
    (unknown_operator, 13, "builtin_code"),
    (swapped, 16, "answers the golden input with a relative error of"),
    (wrong_sha256, 7, "fusion.tflite was changed"),
    (outside, 7, "leaves the bundle's folder"),
    (for_another_runtime, 7, "has no flavour for"),
    (no_golden_answers, 7, "not as a recipe writes it"),
    (not_an_archive, 7, "not as a recipe writes it"),
    (lambda b: (b / "submodel-01.tflite").unlink(), 7, "is missing"),
    (lambda b: rewrite_manifest(b, lambda m: m.update(sub_models=[3])), 7, "not as a recipe writes it"),
    (lambda b: (b / "manifest.json").write_text("{"), 7, "is not JSON"),
    (shutil.rmtree, 7, "no such folder"),
])
def test_what_is_wrong_is_refused_and_the_old_version_goes_on(store, bundles, other, damage, code, text, capsys):
    damage(other)
    assert run(store, "install", other) == code
    error = capsys.readouterr().err
    assert text in error and "Traceback" not in error
    assert digests(store) == (open_bundle(bundles[0]).digest, None)
    assert sorted(path.name for path in store.iterdir()) == ["current", "versions"]
    assert len(list((store / "versions").iterdir())) == 1


def test_a_file_that_crashes_the_runtime_is_refused(store, bundles, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    done = run_python("-m", "edvit_tf.device.update", store, "install", bundles[1], PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 13 and "was ended by SIGSEGV" in done.stderr and "Traceback" not in done.stderr
    assert digests(store) == (open_bundle(bundles[0]).digest, None)
    assert not (store / ".partial").exists()


def test_too_little_room_is_said_before_anything_is_written(store, bundles, monkeypatch, capsys):
    monkeypatch.setattr(versions, "free_bytes", lambda folder: 100_000)
    assert run(store, "install", bundles[1]) == 21
    assert "has 0.1 MiB free; this version needs 2.1 MiB" in capsys.readouterr().err
    assert digests(store) == (open_bundle(bundles[0]).digest, None) and not (store / ".partial").exists()


def test_two_commands_do_not_change_a_store_at_once(store, bundles, capsys):
    descriptor = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for arguments in (["install", bundles[1]], ["rollback"], ["prune"]):
            assert run(store, *arguments) == 20 and "another process is changing" in capsys.readouterr().err
        assert run(store, "list") == 0
    finally:
        os.close(descriptor)
    command = [sys.executable, "-m", "edvit_tf.device.update", store, "install"]
    both = [subprocess.Popen([*command, bundle], cwd=ROOT, stderr=subprocess.PIPE) for bundle in bundles]
    ends = [(process.communicate(timeout=60)[1], process.returncode)[1] for process in both]
    assert set(ends) <= {0, 20} and 0 in ends
    assert digests(store)[0] in [open_bundle(path).digest for path in bundles] and not (store / ".partial").exists()


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
    """It is not gone back to; installed again it is mended, under another name: a worker may have the files open."""
    assert run(store, "install", bundles[1]) == 0
    changed_byte((store / "previous").resolve())
    assert run(store, "rollback") == 7 and "was changed" in capsys.readouterr().err
    first, second = (open_bundle(path).digest for path in bundles)
    assert intact(store / "current") == second
    assert run(store, "install", bundles[0]) == 0
    assert digests(store) == (first, second) and (store / "current").resolve().name == f"{first[:12]}-2"
    assert run(store, "prune") == 0 and not (store / "versions" / first[:12]).exists()


def test_a_worker_serves_its_version_until_it_is_restarted(store, bundles, other, tmp_path):
    """Started through the link, over two updates and the deletion of its files."""
    first, second = (open_bundle(path).digest for path in bundles)
    rewrite_manifest(other, lambda m: m.update(seed=99))
    request = wire.infer_request("submodel-00", {"image": np.full((1, 16, 16, 1), 7, np.uint8)})

    def served_by(channel):
        return wire.parameters(ask(channel, request))["bundle_digest"]

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
    done = run_python("-m", "edvit_tf.device", store / "current", "--listen", "127.0.0.1:8001", "--insecure",
                      "--print-unit")
    assert done.returncode == 0, done.stderr
    assert f"edvit_tf.device {store.resolve()}/current --submodel 0" in done.stdout


def test_wrong_usage_and_help(store):
    for arguments in ([], ["install"], ["install", "x", "--submodel", "one"], ["explode"]):
        done = run_python("-m", "edvit_tf.device.update", store, *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr
    shown = run_python("-m", "edvit_tf.device.update", "--help")
    assert shown.returncode == 0 and "Exit codes" in shown.stdout
