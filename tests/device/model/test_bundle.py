"""The device side: opening bundles, refusing changed ones, answering without TensorFlow. Files in,
exit codes out.
"""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import open_bundle, verified_path
from tests.support.commands import rewrite_manifest, run_device, run_python


@pytest.fixture
def copy(smoke_bundle, tmp_path):
    """A bundle that a test may spoil."""
    return shutil.copytree(smoke_bundle, tmp_path / "copy")


def test_digest_depends_on_the_content_not_on_the_form(copy):
    before = open_bundle(copy).digest
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest, indent=7))
    assert open_bundle(copy).digest == before
    rewrite_manifest(copy, lambda m: m.update(seed=1))
    assert open_bundle(copy).digest != before


def test_what_is_no_bundle_is_named(tmp_path, copy):
    (tmp_path / "thing.txt").write_text("")
    with pytest.raises(BundleError, match="no manifest.json .*thing.txt"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match="no such folder"):
        open_bundle(tmp_path / "nothing")
    rewrite_manifest(copy, lambda m: m.pop("labels"))
    with pytest.raises(BundleError, match="lacks labels"):
        open_bundle(copy)
    rewrite_manifest(copy, lambda m: m.update(schema_version=99))
    with pytest.raises(BundleError, match="schema_version 99; this program reads 1"):
        open_bundle(copy)
    (copy / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(BundleError, match="is not JSON"):
        open_bundle(copy)


def test_a_folder_that_may_not_be_entered_is_a_bundle_error(copy):
    """By somebody else than root, who may enter all."""
    copy.chmod(0)
    try:
        with as_another_user(), pytest.raises(BundleError, match="cannot be read .*ermission"):
            open_bundle(copy)
    finally:
        copy.chmod(0o755)

    copy.with_name("a").symlink_to("b")
    copy.with_name("b").symlink_to("a")
    with pytest.raises(BundleError, match="cannot be read|no such folder"):
        open_bundle(copy.with_name("a"))


@contextlib.contextmanager
def as_another_user():
    """This process is not root's meanwhile."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_changed_missing_and_foreign_files_are_refused(copy):
    bundle = open_bundle(copy)
    file = copy / "submodel-00.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    file.write_bytes(content)
    with pytest.raises(BundleError, match="was changed.*not loaded"):
        verified_path(bundle, file.name)
    file.unlink()
    with pytest.raises(BundleError, match="is missing"):
        verified_path(bundle, file.name)
    with pytest.raises(BundleError, match="is not a file of"):
        verified_path(bundle, "submodel-99.tflite")


@pytest.mark.parametrize("name", ["../outside.bin", "sub/../../outside.bin", "link.bin"])
def test_names_that_leave_the_folder_are_refused(copy, name):
    outside = copy.parent / "outside.bin"
    outside.write_bytes(b"x")
    (copy / "sub").mkdir()
    (copy / "link.bin").symlink_to(outside)
    rewrite_manifest(copy, lambda m: m["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        verified_path(open_bundle(copy), name)


def test_check_passes_on_the_exporting_machine(smoke_bundle):
    done = run_device("-m", "edvit_tf.device", smoke_bundle, "--check", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] and [row["name"] for row in result["models"]] == [
        "submodel-00",
        "submodel-01",
        "fusion",
    ]
    assert all(row["golden_error"] < 1e-5 and row["median_ms"] > 0 for row in result["models"])
    one = run_device("-m", "edvit_tf.device", smoke_bundle, "--check", "--submodel", "1")
    assert one.returncode == 0 and "submodel-01" in one.stdout and "submodel-00" not in one.stdout


def test_check_finds_a_model_that_answers_otherwise(copy):
    """The file of sub-model 1 under the name of sub-model 0, manifest and all: only the golden
    answers tell.
    """
    shutil.copy(copy / "submodel-01.tflite", copy / "submodel-00.tflite")
    rewrite_manifest(
        copy, lambda m: m["files"].update({"submodel-00.tflite": m["files"]["submodel-01.tflite"]})
    )
    done = run_device("-m", "edvit_tf.device", copy, "--check")
    assert (
        done.returncode == 1 and "WRONG" in done.stdout and "do not use this device" in done.stdout
    )


def test_check_covers_the_fusion(copy):
    with open(copy / "fusion.tflite", "ab") as file:
        file.write(b"x")
    done = run_device("-m", "edvit_tf.device", copy, "--check")
    assert done.returncode == 7 and "fusion.tflite was changed" in done.stderr


def test_options_that_do_not_go_together_are_refused(smoke_bundle):
    for arguments in (
        ["--check", "--missing", "1"],
        ["--predict", "x.png", "--submodel", "0"],
        ["--predict", "x.png", "--missing", "abc"],
    ):
        done = run_device("-m", "edvit_tf.device", smoke_bundle, *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_missing_decoder_is_said_not_thrown(smoke_bundle, tmp_path):
    (tmp_path / "one.jpg").write_bytes(b"\xff\xd8\xff")
    code = (
        "import sys; sys.modules['PIL'] = None; from edvit_tf.device.__main__ import main; "
        f"sys.exit(main([r'{smoke_bundle}', '--predict', r'{tmp_path / 'one.jpg'}']))"
    )
    done = run_python("-c", code)
    assert done.returncode == 10 and "Pillow" in done.stderr and "Traceback" not in done.stderr


def test_corrupt_file_ends_with_the_bundle_code(copy):
    with open(copy / "submodel-00.tflite", "r+b") as file:
        file.truncate(1000)
    done = run_device("-m", "edvit_tf.device", copy, "--check")
    assert (
        done.returncode == 7
        and "was changed: 1000 bytes" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_predict_answers_from_a_picture_and_flags_missing_sub_models(smoke_bundle, tmp_path):
    from PIL import Image

    pixels = np.zeros((40, 40), np.uint8)
    pixels[10:30, 18:22] = 255
    Image.fromarray(pixels).save(tmp_path / "one.png")
    done = run_device(
        "-m", "edvit_tf.device", smoke_bundle, "--predict", tmp_path / "one.png", "--json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert (
        sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        and answer["missing"] == []
    )
    degraded = run_device(
        "-m",
        "edvit_tf.device",
        smoke_bundle,
        "--predict",
        tmp_path / "one.png",
        "--missing",
        "1",
        "--json",
    )
    other = json.loads(degraded.stdout)
    assert other["missing"] == [1] and other["probabilities"] != answer["probabilities"]


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--missing", "0,1"], 7, "all sub-models are missing"),
        (["--missing", "5"], 7, "has 0 to 1"),
        ([], 10, "error:"),
    ],
)
def test_predict_refuses(smoke_bundle, tmp_path, arguments, code, message):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    done = run_device(
        "-m", "edvit_tf.device", smoke_bundle, "--predict", tmp_path / "broken.png", *arguments
    )
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr


def test_predict_goes_on_behind_a_file_that_cannot_be_used(smoke_bundle, tmp_path):
    from PIL import Image

    for name in ("left/one.png", "right/one.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    files = [tmp_path / name for name in ("broken.png", "left/one.png", "no.png", "right/one.png")]

    done = run_device("-m", "edvit_tf.device", smoke_bundle, "--predict", *files, "--json")

    assert done.returncode == 10 and "Traceback" not in done.stderr
    answered = [json.loads(line)["file"] for line in done.stdout.splitlines()]
    assert answered == [str(files[1]), str(files[3])]  # two of one name
    # beside the runtime's own lines
    first, second = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert first.startswith(f"error: {files[0]}: ") and second.startswith(f"error: {files[2]}: ")


def test_run_refuses_wrong_inputs(smoke_bundle):
    """In a process of its own: the runtime does not work in one that has loaded TensorFlow."""
    code = f"""
import numpy as np
from edvit_tf.device.model.runtime import load
model = load(r'{smoke_bundle / "submodel-00.tflite"}')
fusion = load(r'{smoke_bundle / "fusion.tflite"}')
present = np.ones((1, 2), np.float32)
features = np.zeros(fusion.inputs["features"]["shape"], np.float32)
for call in (lambda: model.run(picture=np.zeros((1, 28, 28, 1), np.uint8)),
             lambda: model.run(image=np.zeros((1, 28, 28, 1), np.float32)),
             lambda: model.run(image=np.zeros((2, 28, 28, 1), np.uint8)),
             lambda: fusion.run(features=features * np.nan, present=present)):
    try:
        call()
        print("accepted")
    except ValueError as error:
        print(error)
"""
    lines = run_python("-c", code).stdout.strip().splitlines()
    assert "takes the inputs ['image']; got ['picture']" in lines[0]
    assert "float32[1, 28, 28, 1]; it must be uint8[1, 28, 28, 1]" in lines[1]
    assert "uint8[2, 28, 28, 1]; it must be" in lines[2]
    assert "NaN or Inf" in lines[3]


def test_batch_refuses_to_measure_beside_tensorflow(smoke_bundle, tmp_path):
    code = (
        "import sys, types; from edvit_tf.device.model import subprocess_main as batch; "
        "sys.modules['tensorflow'] = types.ModuleType('tensorflow'); "
        f"sys.exit(batch.main([r'{smoke_bundle / 'submodel-00.tflite'}', "
        f"r'{tmp_path / 'x.npy'}', r'{tmp_path / 'o.npz'}']))"
    )
    np.save(tmp_path / "x.npy", np.zeros((2, 28, 28, 1), np.uint8))
    done = run_python("-c", code)
    assert (
        done.returncode == 1
        and "tensorflow was loaded" in done.stderr
        and not (tmp_path / "o.npz").exists()
    )
