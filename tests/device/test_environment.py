"""An environment with only the [device] extra answers from a bundle. `.ci/run` makes both and names
them:

    EDVIT_DEVICE_PYTHON   the python of a virtual environment with only edvit-tf[device]
    EDVIT_DEVICE_BUNDLE   a bundle of recordings, for instance of `python recipes/gtzan.py --smoke`

That Python runs with another working directory, so it meets the installed package and not this
checkout.
"""

import json
import os
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

PYTHON, BUNDLE = os.environ.get("EDVIT_DEVICE_PYTHON"), os.environ.get("EDVIT_DEVICE_BUNDLE")
pytestmark = [
    pytest.mark.device_env,
    pytest.mark.skipif(
        not (PYTHON and BUNDLE), reason="EDVIT_DEVICE_PYTHON and EDVIT_DEVICE_BUNDLE are not set"
    ),
]


def device(tmp_path, *arguments) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [PYTHON, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_nothing_of_the_host_is_installed(tmp_path):
    names = [
        "tensorflow",
        "keras",
        "tf_keras",
        "librosa",
        "soundfile",
        "scipy",
        "matplotlib",
        "PIL",
    ]
    result = device(
        tmp_path, "-c", f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    )
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_the_package_is_the_installed_one(tmp_path):
    result = device(tmp_path, "-c", "import edvit_tf.device; print(edvit_tf.device.__file__)")
    assert "site-packages" in Path(result.stdout.strip()).parts, result.stderr


def test_the_bundle_checks(tmp_path):
    result = device(tmp_path, "-m", "edvit_tf.device", Path(BUNDLE).resolve(), "--check", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ok"] is True


def test_a_recording_is_answered(tmp_path):
    bundle = Path(BUNDLE).resolve()
    labels = (bundle / "labels.txt").read_text("utf-8").split("\n")
    rate = json.loads((bundle / "manifest.json").read_text("utf-8"))["input"]["spec"][
        "sample_rate_hz"
    ]
    tone = (8000 * np.sin(2 * np.pi * 440 / rate * np.arange(3 * rate))).astype("<i2")  # 3 s
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(tone.tobytes())
    result = device(tmp_path, "-m", "edvit_tf.device", bundle, "--predict", "tone.wav", "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["label"] in labels
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)


def test_a_worker_answers(tmp_path):
    """The worker is the device's; the client is this Python."""
    import grpc

    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.device.rpc import messages, tensors
    from tests.support.worker_process import log_lines, wait_for

    bundle = open_bundle(Path(BUNDLE))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [
                PYTHON,
                "-m",
                "edvit_tf.device",
                bundle.path.resolve(),
                "--listen",
                "127.0.0.1:0",
                "--insecure",
            ],
            cwd=tmp_path,
            env=environment,
            stderr=log,
        )
    try:

        def serving():
            assert process.poll() is None, (tmp_path / "log").read_text()
            return [line for line in log_lines(tmp_path / "log") if line["event"] == "serving"]

        address = wait_for(serving, 120)[0]["address"]
        mel = np.zeros((1, *bundle.input.shape), np.float32)
        with grpc.insecure_channel(address) as channel:
            request = tensors.infer_request("submodel-00", {bundle.input.name: mel})
            answer = tensors.arrays(messages.stub(channel, "ModelInfer")(request, timeout=30))
        assert answer["features"].shape == (1, bundle.widths[0])
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_changed_file_is_refused(tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(BUNDLE).iterdir():
        if file.suffix in (".json", ".tflite", ".npy", ".npz", ".txt"):
            (copy / file.name).write_bytes(file.read_bytes())
    damaged = bytearray((copy / "submodel-00.tflite").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / "submodel-00.tflite").write_bytes(damaged)
    result = device(tmp_path, "-m", "edvit_tf.device", copy, "--check")
    assert result.returncode != 0
    assert "submodel-00.tflite" in result.stderr + result.stdout
