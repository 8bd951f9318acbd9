"""Bundles that must not become current on a device: refused by sha256 or by a trial, and the old
version goes on.
"""

import os
import shutil
import struct

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from tests.support.commands import ROOT, rewrite_manifest, run_device
from tests.support.damaged import listed, outside, swapped
from tests.support.update_store import changed_byte, digests, run

CRASH = """
import os, signal, sys
if "edvit_tf.device.model.subprocess_main" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGSEGV)
"""  # a sitecustomize.py


@pytest.fixture
def other(bundles, tmp_path):
    """The second bundle, to be spoilt."""
    return shutil.copytree(bundles[1], tmp_path / "other")


def truncated(bundle):
    os.truncate(bundle / "submodel-00.tflite", 20_000)


def truncated_and_listed(bundle):
    truncated(bundle)
    listed(bundle, "submodel-00.tflite")


CAST = 53  # the first operator code of a sub-model's file


def other_operator(bundle, code, version):
    """Puts another first operator code into a file, behind its end: as if a later converter had
    written it.
    """
    content = bytearray((bundle / "submodel-00.tflite").read_bytes())

    def uint32(at):
        return struct.unpack_from("<I", content, at)[0]

    root = uint32(0)
    vtable = root - struct.unpack_from("<i", content, root)[0]
    codes = (
        root + struct.unpack_from("<H", content, vtable + 4 + 2 * 1)[0]
    )  # the model's second field
    first = codes + uint32(codes) + 4
    content += bytes(-len(content) % 4)
    content += struct.pack(
        "<6H", 12, 16, 12, 0, 8, 4
    )  # a vtable: where the old code, name, version and code stand
    struct.pack_into("<I", content, first, len(content) - first)
    content += struct.pack("<iiib3x", 12, code, version, min(code, 127))
    (bundle / "submodel-00.tflite").write_bytes(content)
    listed(bundle, "submodel-00.tflite")


def unknown_operator(bundle):
    other_operator(bundle, 5000, 1)


def later_version_of_an_operator(bundle):
    other_operator(bundle, CAST, 99)


def another_architecture(bundle):
    """A whole model, with other inputs and outputs than the manifest says."""
    shutil.copy(bundle / "fusion.tflite", bundle / "submodel-00.tflite")
    listed(bundle, "submodel-00.tflite")


def other_widths(bundle):
    """A manifest for features of another width than the model has."""
    with np.load(bundle / "golden.npz") as file:
        golden = dict(file)
    golden["submodel-00.features"] = golden["submodel-00.features"][:, :-1]
    np.savez(bundle / "golden.npz", **golden)
    listed(bundle, "golden.npz")


def wrong_sha256(bundle):
    rewrite_manifest(bundle, lambda m: m["files"]["fusion.tflite"].update(sha256="0" * 64))


def for_another_runtime(bundle):
    rewrite_manifest(
        bundle, lambda m: m["sub_models"][1]["flavours"]["float32"].update(runtimes=["abacus"])
    )


def no_golden_answers(bundle):
    np.savez(bundle / "golden.npz", input=np.zeros((1, 16, 16, 1), np.uint8))
    listed(bundle, "golden.npz")


def not_an_archive(bundle):
    (bundle / "golden.npz").write_bytes(b"spoilt")
    listed(bundle, "golden.npz")


def test_the_operator_that_is_put_in_is_read(store, other):
    """As it was before, at another place: so it is code and version that are refused below."""
    other_operator(other, CAST, 1)
    assert run(store, "install", other) == 0


@pytest.mark.parametrize(
    "damage, code, text",
    [
        (changed_byte, 7, "was changed"),
        (truncated, 7, "was changed: 20000 bytes"),
        (truncated_and_listed, 13, "submodel-00.tflite"),
        (unknown_operator, 13, "builtin_code"),
        (later_version_of_an_operator, 13, "version '99'"),
        (another_architecture, 13, "submodel-00.tflite"),
        (other_widths, 16, "relative error of inf"),
        (swapped, 16, "answers the golden input with a relative error of"),
        (wrong_sha256, 7, "fusion.tflite was changed"),
        (outside, 7, "leaves the bundle's folder"),
        (for_another_runtime, 7, "has no flavour for"),
        (no_golden_answers, 7, "not as a recipe writes it"),
        (not_an_archive, 7, "not as a recipe writes it"),
        (lambda b: (b / "submodel-01.tflite").unlink(), 7, "is missing"),
        (
            lambda b: rewrite_manifest(b, lambda m: m.update(sub_models=[3])),
            7,
            "not as a recipe writes it",
        ),
        (lambda b: (b / "manifest.json").write_text("{"), 7, "is not JSON"),
        (shutil.rmtree, 7, "no such folder"),
    ],
)
def test_what_is_wrong_is_refused_and_the_old_version_goes_on(
    store, bundles, other, damage, code, text, capsys
):
    damage(other)
    assert run(store, "install", other) == code
    error = capsys.readouterr().err
    assert text in error and "Traceback" not in error
    assert digests(store) == (open_bundle(bundles[0]).digest, None)
    assert sorted(path.name for path in store.iterdir()) == ["current", "versions"]
    assert len(list((store / "versions").iterdir())) == 1


def test_a_file_that_crashes_the_runtime_is_refused(store, bundles, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    done = run_device(
        "-m",
        "edvit_tf.device.update",
        store,
        "install",
        bundles[1],
        PYTHONPATH=f"{tmp_path}:{ROOT}",
    )
    assert (
        done.returncode == 13
        and "was ended by SIGSEGV" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert digests(store) == (open_bundle(bundles[0]).digest, None)
    assert not (store / ".partial").exists()
