"""A device without the optional decoders: it says so for the files that need them, and answers all
others.

They are missing for real: the processes see this environment's packages through a folder of links
that lacks them.
"""

import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import wave
from pathlib import Path

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import tensors
from tests.support import made_bundle
from tests.support.aggregator_process import aggregator, infer, wait_ready
from tests.support.commands import ROOT
from tests.support.worker_process import ask, server

RATE = made_bundle.MEL.sample_rate_hz
SOUND = 0.4 * np.sin(np.arange(made_bundle.MEL.window_samples) / 9).astype(np.float32)
MISSING = {  # what is not linked, by what then happens
    "not installed": (("soundfile", "_soundfile"), "No module named 'soundfile'"),
    "without libsndfile": (("_soundfile_data",), "sndfile"),
}


def without(folder: Path, prefixes: tuple[str, ...]) -> dict[str, str]:
    """Environment of a process that finds the packages installed here, but those whose names begin
    so. Use with -S.
    """
    links = folder / "packages"
    links.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.startswith(prefixes):
                (links / entry.name).symlink_to(entry)
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{links}", "EDVIT_CACHE": str(folder / "cache")}


def encoded(suffix: str) -> bytes:
    """One window of sound as a file."""
    file = io.BytesIO()
    if suffix == "wav":
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
            out.writeframes((SOUND * 32767).astype("<i2").tobytes())
    else:
        soundfile = pytest.importorskip(
            "soundfile", reason="soundfile makes the FLAC file of this test"
        )
        soundfile.write(file, SOUND, RATE, format=suffix.upper())
    return file.getvalue()


@pytest.fixture(params=MISSING)
def device(request, tmp_path):
    """(environment, the reason that an import of soundfile has)."""
    prefixes, words = MISSING[request.param]
    environment = without(tmp_path, prefixes)
    probe = subprocess.run(
        [sys.executable, "-S", "-c", "import soundfile"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if probe.returncode == 0:
        pytest.skip("the system has a libsndfile of its own, which soundfile finds")
    assert words in probe.stderr
    return environment, words


def test_a_worker_says_that_flac_needs_soundfile_and_takes_wav(tiny_mel_bundle, tmp_path, device):
    environment, words = device
    command = [
        sys.executable,
        "-S",
        "-m",
        "edvit_tf.device",
        str(tiny_mel_bundle),
        "--listen",
        "127.0.0.1:0",
        "--insecure",
    ]
    with server(command, tmp_path, **environment) as one, one.channel() as channel:
        for suffix in ("flac", "au"):
            with pytest.raises(grpc.RpcError) as error:
                ask(channel, tensors.infer_request("submodel-00", {"mel": encoded(suffix)}))
            assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION, error.value
            said = error.value.details()
            assert "needs soundfile" in said and words in said and "send 16-bit PCM WAV" in said
            response = ask(channel, tensors.infer_request("submodel-00", {"mel": encoded("wav")}))
            assert tensors.arrays(response)["features"].shape == (1, made_bundle.CONFIG.hidden_dim)


def test_an_aggregator_passes_it_on(tiny_mel_bundle, tmp_path):
    command = [
        sys.executable,
        "-S",
        "-m",
        "edvit_tf.device",
        str(tiny_mel_bundle),
        "--listen",
        "127.0.0.1:0",
        "--insecure",
    ]
    with (
        server(command, tmp_path, **without(tmp_path, ("soundfile", "_soundfile"))) as bare,
        aggregator(tiny_mel_bundle, tmp_path, [bare.address]) as one,
        one.channel() as channel,
    ):
        wait_ready(channel)
        with pytest.raises(grpc.RpcError) as error:
            infer(channel, encoded("flac"), name="mel")
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        # one worker holds both: whichever refuses first may end the waiting for the other
        refused = f"{re.escape(bare.address)} FAILED_PRECONDITION"
        assert re.search(rf"submodel-0[01]: {refused}", error.value.details())
        for j in range(2):
            assert re.search(rf"submodel-0{j}: (not waited for|{refused})", error.value.details())
        assert "needs soundfile" in error.value.details()
        assert not infer(channel, encoded("wav"), name="mel")[1]["degraded"]


def test_predict_says_it_too(tiny_mel_bundle, tmp_path, device):
    environment, words = device
    ends = {}
    for suffix in ("flac", "wav"):
        file = tmp_path / f"one.{suffix}"
        file.write_bytes(encoded(suffix))
        ends[suffix] = subprocess.run(
            [
                sys.executable,
                "-S",
                "-m",
                "edvit_tf.device",
                tiny_mel_bundle,
                "--predict",
                file,
                "--json",
            ],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ends["flac"].returncode == 10 and "Traceback" not in ends["flac"].stderr, ends[
        "flac"
    ].stderr
    assert "needs soundfile" in ends["flac"].stderr and words in ends["flac"].stderr
    assert (
        ends["wav"].returncode == 0
        and json.loads(ends["wav"].stdout)["label"] in made_bundle.LABELS
    )


def test_a_worker_of_pictures_without_pillow(tiny_bundle, tmp_path):
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "PNG")
    command = [
        sys.executable,
        "-S",
        "-m",
        "edvit_tf.device",
        str(tiny_bundle),
        "--listen",
        "127.0.0.1:0",
        "--insecure",
    ]
    with server(command, tmp_path, **without(tmp_path, ("PIL",))) as one, one.channel() as channel:
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, tensors.infer_request("submodel-00", {"image": file.getvalue()}))
        assert (
            error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            and "needs Pillow" in error.value.details()
        )
        assert ask(
            channel,
            tensors.infer_request("submodel-00", {"image": np.zeros((1, 16, 16, 1), np.uint8)}),
        )
