"""Bundles from somebody who means harm, or that could not serve: refused by `install` and --check
with one line, at once, and nothing of theirs or of this machine is left anywhere.
"""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model import array_file
from edvit_tf.device.model.array_file import read_npy, read_npz
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.golden import Limit
from edvit_tf.device.model.tune import choice
from edvit_tf.device.update import store as versions
from tests.support.commands import rewrite_manifest, run_device
from tests.support.damaged import listed
from tests.support.machine_clock import machine_seconds
from tests.support.update_store import digests, run


@pytest.fixture
def hostile(bundles, tmp_path):
    """A copy of the second bundle, to be spoilt."""
    return shutil.copytree(bundles[1], tmp_path / "hostile")


def text(content: str | bytes):
    content = content.encode() if isinstance(content, str) else content
    return lambda bundle: (bundle / "manifest.json").write_bytes(content)


def changed(change):
    return lambda bundle: rewrite_manifest(bundle, change)


def many(manifest):
    manifest["sub_models"] = manifest["sub_models"] * 5000
    manifest["fusion"]["widths"] = manifest["fusion"]["widths"] * 5000


def larger_input(manifest):
    manifest["input"]["shape"] = [10**9, 10**9, 3]
    manifest["input"]["spec"].update(height=10**9, width=10**9, channels=3)


def two_of_one_name(manifest):
    manifest["sub_models"][1]["name"] = manifest["sub_models"][0]["name"]


MANIFESTS = {
    "a list in lists": (text("[" * 100_000), "is not JSON"),
    "objects in objects": (text('{"a":' * 100_000), "is not JSON"),
    "a number of 5,000 digits": (text('{"schema_version": 1' + "0" * 5000 + "}"), "is not JSON"),
    "UTF-16": (text("{}".encode("utf-16")), "is not JSON"),
    "20 MiB of spaces": (text("{" + " " * (20 << 20) + "}"), "more than 16 MiB"),
    "a lone surrogate": (changed(lambda m: m.update(note="\ud800")), "not JSON of ours"),
    "deep, and still read": (
        changed(lambda m: m.update(note=json.loads("[" * 900 + "]" * 900))),
        None,
    ),
    "10,000 sub-models": (changed(many), "at most 1024 are served"),
    "a huge input": (changed(larger_input), "input.shape is [1000000000"),
    "an input of no pixel": (
        changed(lambda m: m["input"].update(shape=[0, 16, 1])),
        "input.shape is",
    ),
    "labels: one too few": (changed(lambda m: m["labels"].pop()), "there are 3 labels"),
    "no labels": (changed(lambda m: m.update(labels=[])), "labels is empty"),
    "a label with an escape": (
        changed(lambda m: m["labels"].__setitem__(0, "\x1b[31mred")),
        "one line without control characters",
    ),
    "a class twice": (
        changed(lambda m: m["sub_models"][0].update(classes=[0, 0])),
        "must hold each class once",
    ),
    "two of one name": (changed(two_of_one_name), "as of another"),
    "a name with a newline": (
        changed(lambda m: m["sub_models"][0].update(name='a"\n\x1b[31mb')),
        "sub_models[0].name is",
    ),
    "an index that is another": (
        changed(lambda m: m["sub_models"][0].update(index=1)),
        "it must be its place",
    ),
    "a width of a billion": (
        changed(lambda m: m["fusion"].update(widths=[10**9, 24])),
        "fusion.widths is",
    ),
    "a negative width": (changed(lambda m: m["fusion"].update(widths=[-1, 24])), "fusion.widths"),
    "a path for a file": (
        changed(lambda m: m["files"].update({"/etc/passwd": {"bytes": 1, "sha256": "0"}})),
        "leaves the bundle's folder",
    ),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_is_refused_with_one_line_and_at_once(store, bundles, hostile, case, capsys):
    damage, words = MANIFESTS[case]
    damage(hostile)
    before = digests(store)

    started = machine_seconds()
    code = run(store, "install", hostile)
    # five seconds are far above what it takes, and far below what 10,000 trials take
    assert machine_seconds() - started < 5 or words is None
    err = capsys.readouterr().err
    if words is None:
        assert code in (0, 7) and "Traceback" not in err
        return
    assert code == 7 and err.count("\n") == 1, err
    assert words in err and "\x1b" not in err
    assert digests(store) == before


@pytest.mark.parametrize("case", ["a list in lists", "10,000 sub-models", "a huge input"])
def test_check_refuses_them_too(hostile, case):
    damage, words = MANIFESTS[case]
    damage(hostile)
    done = run_device("-m", "edvit_tf.device", hostile, "--check")
    assert done.returncode == 7 and words in done.stderr and "Traceback" not in done.stderr


def npy(header: dict, content: bytes = b"\0" * 100) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def promising(shape, dtype: str = "|u1") -> bytes:
    return npy({"descr": dtype, "fortran_order": False, "shape": shape})


def with_golden_input(bundle, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> None:
    with np.load(bundle / "golden.npz") as golden:
        kept = dict(golden)
    with zipfile.ZipFile(bundle / "golden.npz", "w", compression) as archive:
        for name, value in kept.items():
            file = io.BytesIO()
            np.save(file, value)
            archive.writestr(f"{name}.npy", content if name == "input" else file.getvalue())
    listed(bundle, "golden.npz")


GOLDEN = {
    "100 GB, by the header": promising((1, 10**11)),
    "more than there is, by the header": promising((1, 16, 16, 2)),
    "a negative side": promising((1, -16, 16, 1)),
    "100 MiB of zeros, compressed to 100 kB": promising((100 << 20,)) + bytes(100 << 20),
    "another shape": promising((1, 10, 10, 1)),
    "another type": npy(
        {"descr": "<f4", "fortran_order": False, "shape": (1, 16, 16, 1)}, bytes(1024)
    ),
    "a header of nonsense": b"\x93NUMPY\x01\x00v\x00" + b"(" * 118,
    "objects": npy({"descr": "|O", "fortran_order": False, "shape": (1,)}),
    "nothing": b"",
}


@pytest.mark.parametrize("case", GOLDEN)
def test_a_golden_input_promises_no_more_than_there_is(store, hostile, case, capsys):
    with_golden_input(hostile, GOLDEN[case])
    before = digests(store)
    assert run(store, "install", hostile) == 7
    err = capsys.readouterr().err
    assert "golden.npz is not as a recipe writes it" in err and err.count("\n") == 1
    assert digests(store) == before


@pytest.mark.parametrize(
    "value",
    [np.array([["0.5"] * 24]), np.zeros((1, 0), "f4"), np.full((1, 24), np.nan, "f4")],
    ids=["texts", "nothing", "no number"],
)
@pytest.mark.parametrize("name", ["submodel-00.features", "fusion.probabilities"])
def test_golden_answers_are_numbers(store, hostile, name, value, capsys):
    with np.load(hostile / "golden.npz") as file:
        golden = {**file, name: value}
    np.savez(hostile / "golden.npz", **golden)
    listed(hostile, "golden.npz")
    assert run(store, "install", hostile) == 7
    err = capsys.readouterr().err
    assert f"{name} is" in err and err.count("\n") == 1


def test_answers_that_are_no_numbers_are_wrong():
    wanted = {"logits": np.ones((1, 2), np.float32)}
    for answer in (np.array([["1", "1"]]), np.array([[b"1", b"1"]]), np.ones((1, 2), complex)):
        assert Limit(1e-3).error({"logits": answer}, wanted) == np.inf


def test_a_member_that_says_less_than_it_holds_takes_no_memory(tmp_path):
    """128 MiB of zeros, of which 1000 bytes are promised."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", promising((872,), "|u1")[:128] + bytes(128 << 20))
        # what stands in the directory at the end, which is written when the archive is closed
        archive.infolist()[0].file_size = 1000

    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            read_npz(tmp_path / "x.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_large_archive_is_refused_before_its_directory_is_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", a=np.zeros(10))
    with open(tmp_path / "x.npz", "r+b") as file:
        file.truncate(array_file.MAX_BYTES + 1)
    monkeypatch.setattr(array_file.zipfile, "ZipFile", lambda path: pytest.fail("read"))
    with pytest.raises(ValueError, match="at most"):
        read_npz(tmp_path / "x.npz")


def test_arrays_are_those_that_numpy_reads(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "fortran": np.asfortranarray(rng.integers(0, 9, (5, 2))),
        "text": np.array("some text"),
        "none": np.zeros((0, 3), np.uint8),
    }
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "x.npz", **arrays)
        found = read_npz(tmp_path / "x.npz")
        assert found.keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
    np.save(tmp_path / "x.npy", arrays["fortran"])
    np.testing.assert_array_equal(read_npy(tmp_path / "x.npy"), arrays["fortran"])


def test_an_input_file_promises_no_more_than_there_is(tiny_mel_bundle, tmp_path):
    bundle = shutil.copytree(tiny_mel_bundle, tmp_path / "mel")
    (bundle / "mel_filters.npy").write_bytes(promising((10**6, 10**6), "<f4"))
    listed(bundle, "mel_filters.npy")
    with pytest.raises(BundleError, match="promises"):
        bundle_input(open_bundle(bundle))
    with open(bundle / "mel_filters.npy", "wb") as file:
        file.truncate(array_file.MAX_BYTES + 1)
    with pytest.raises(ValueError, match="at most"):
        read_npy(bundle / "mel_filters.npy")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: m["input"]["spec"].update(height=17), "its spec gives"),
        (lambda m: m["input"]["spec"].update(kind="smell"), "kind 'smell'"),
        (lambda m: m["input"].update(dtype="object"), "input.dtype is 'object'"),
        (lambda m: m["input"].update(dtype="int32"), "its spec gives"),
        (lambda m: m["input"].update(name="x"), "named image"),
    ],
)
def test_an_input_that_cannot_be_prepared_is_not_installed(store, hostile, change, words, capsys):
    rewrite_manifest(hostile, change)
    before = digests(store)
    assert run(store, "install", hostile) == 7
    assert re.search(words, capsys.readouterr().err)
    assert digests(store) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["sub_models"][0]["flavours"]["float32"].update(file="other.tflite"),
        lambda m: m["fusion"].update(file="other.tflite"),
        lambda m: m["input"].update(files=["other.tflite"]),
    ],
)
def test_a_file_that_is_used_and_not_listed_is_named(store, hostile, change, capsys):
    rewrite_manifest(hostile, change)
    assert run(store, "install", hostile) == 7
    assert "other.tflite" in capsys.readouterr().err
    # where nothing is installed, too
    try:
        bundle = open_bundle(hostile)
        choice(bundle, 0)
        bundle_input(bundle)
    except BundleError as error:
        assert "other.tflite" in str(error)


def test_a_number_that_is_no_float_is_refused(tiny_mel_bundle, tmp_path, store, capsys):
    for key in ("sample_rate_hz", "fmin_hz"):
        bundle = shutil.copytree(tiny_mel_bundle, tmp_path / key)
        rewrite_manifest(bundle, lambda m, key=key: m["input"]["spec"].update({key: 10**400}))
        assert run(store, "install", bundle) == 7
        assert capsys.readouterr().err.count("\n") == 1


def test_a_spec_that_would_take_the_memory_is_refused(tiny_mel_bundle, tmp_path, store, capsys):
    """A window of hours, or a spectrum of each sample."""
    for change in ({"hop_length": 1, "n_fft": 1 << 20}, {"window_samples": 10**10}):
        bundle = shutil.copytree(tiny_mel_bundle, tmp_path / f"mel{len(change)}")
        rewrite_manifest(bundle, lambda m, change=change: m["input"]["spec"].update(change))
        assert run(store, "install", bundle) == 7
        assert "MiB; at most 1024 are allowed" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [5, 1])
def test_labels_that_are_not_those_of_the_fusion_are_not_installed(store, hostile, labels, capsys):
    """Five labels for a fusion of four answers: it could be tried, and answered nothing."""

    def change(manifest):
        manifest["labels"] = [f"label {i}" for i in range(labels)]
        if labels < 4:
            for entry in manifest["sub_models"]:
                entry.update(classes=[0], labels=["label 0"])

    rewrite_manifest(hostile, change)
    before = digests(store)
    assert run(store, "install", hostile) == 7
    assert "answers" in capsys.readouterr().err
    assert digests(store) == before


@pytest.mark.parametrize("name", ["golden.npz", "manifest.json", "signature.json"])
def test_a_file_that_cannot_be_read_is_named_and_not_the_store(
    store, hostile, name, monkeypatch, capsys
):
    """Found unreadable only when it is copied, as on a share that goes away."""
    (hostile / name).touch()
    opening = os.open

    def refused(path, flags, *args, **options):
        if path == name and options.get("dir_fd") is not None:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opening(path, flags, *args, **options)

    monkeypatch.setattr(versions.os, "open", refused)
    before = digests(store)
    assert run(store, "install", hostile) == 7
    assert f"{hostile}/{name} cannot be read (Permission denied)" in capsys.readouterr().err
    assert digests(store) == before


def test_a_file_that_breaks_off_is_named_and_not_the_store(store, hostile, monkeypatch, capsys):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(versions, "open_plain", lambda *_: Broken())
    assert run(store, "install", hostile) == 7
    assert f"{hostile}/manifest.json cannot be read" in capsys.readouterr().err


def test_a_fifo_is_not_waited_for(store, hostile, capsys):
    for name in ("submodel-00.tflite", "manifest.json"):
        (hostile / name).unlink()
        os.mkfifo(hostile / name)
        assert run(store, "install", hostile) == 7
    assert "Traceback" not in capsys.readouterr().err
