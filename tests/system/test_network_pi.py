"""A worker on an emulated 64-bit Pi behind 2 Mbit/s and 10 ms, another on this machine, and an
aggregator over both.

Raw input against JPEG and FLAC on that line. Emulation is slow, so milliseconds of compute say
nothing; those of the wire do. Real files of $EDVIT_DATA are taken where it is set, made-up ones
else. Needs what test_arm64.py and test_network.py need:

    python -m pytest -q -s -m 'arm64 and network'
"""

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.sound import MelSpec
from edvit_tf.models.vit.config import ViTConfig
from tests.support import made_bundle
from tests.support.aggregator_process import fused, infer, wait_ready
from tests.support.forked import ROOT
from tests.support.netlab import DEVICE, HUB, NETLAB, inside, network
from tests.support.pi_machine import SCRIPT
from tests.support.worker_process import server, wait_for

pytestmark = [pytest.mark.arm64, pytest.mark.network]

SHAPE = (224, 224, 3)
SPEECH = MelSpec(
    sample_rate_hz=16000,
    window_samples=16000,
    n_fft=2048,
    hop_length=512,
    n_mels=128,
    frames=31,
    fmin_hz=0.0,
    fmax_hz=8000.0,
    height=224,
    width=224,
)
FILES = {
    "image": ("caltech101_10class", "**/*.jpg"),
    "mel": ("speech_commands_subset", "**/*.flac"),
}
TIMES = 15


def config(channels: int) -> ViTConfig:
    return ViTConfig(
        (224, 224, channels),
        patch_size=32,
        num_layers=2,
        hidden_dim=24,
        num_heads=2,
        head_dim=12,
        mlp_dim=48,
        num_classes=3,
    )


@pytest.fixture(scope="module")
def guest(pi_root) -> Path:
    """The Pi's root file system."""
    return pi_root("bookworm")


def encoded(kind: str) -> tuple[bytes, str]:
    """(a JPEG or FLAC file, where it comes from)."""
    folder, pattern = FILES[kind]
    found = sorted((Path(os.environ.get("EDVIT_DATA", "/nowhere")) / folder).glob(pattern))
    if found:
        return found[0].read_bytes(), found[0].name
    rng, file = np.random.default_rng(0), io.BytesIO()
    if kind == "image":
        from PIL import Image

        Image.fromarray(rng.integers(0, 256, (14, 14, 3), np.uint8)).resize((300, 200)).save(
            file, "JPEG", quality=85
        )
    else:
        import soundfile

        seconds = np.arange(16000) / 16000
        sound = 0.3 * np.sin(2 * np.pi * 440 * seconds) * np.exp(-3 * seconds) + rng.normal(
            0, 0.01, 16000
        )
        soundfile.write(file, sound, 16000, format="FLAC")
    return file.getvalue(), "made up"


@pytest.mark.parametrize("kind", FILES)
def test_an_emulated_pi_answers_over_a_slow_line(guest, tmp_path, kind):
    share = tmp_path / "share"
    shutil.copytree(
        ROOT / "edvit_tf",
        share / "source" / "edvit_tf",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    bundle = made_bundle.write(
        share / "bundle",
        config(3 if kind == "image" else 1),
        mel=SPEECH if kind == "mel" else False,
    )
    file, name = encoded(kind)
    opened = open_bundle(bundle)
    raw = bundle_input(opened).from_file(file)
    worker = ("edvit_tf.device", "--insecure", "--insecure-anywhere", "--deadline-ms", "30000")
    with network(2, "2mbit", 10), contextlib.ExitStack() as stack:
        stack.enter_context(
            server(
                [
                    str(NETLAB),
                    "exec",
                    "dev1",
                    str(SCRIPT),
                    "run",
                    str(guest),
                    str(share),
                    "python3",
                    "-m",
                    worker[0],
                    "/share/bundle",
                    *worker[1:],
                    "--submodel",
                    "0",
                    "--listen",
                    f"{DEVICE.format(1)}:8001",
                ],
                tmp_path,
            )
        )
        stack.enter_context(
            server(
                inside(
                    "dev2",
                    worker[0],
                    bundle,
                    *worker[1:],
                    "--submodel",
                    "1",
                    "--listen",
                    f"{DEVICE.format(2)}:8001",
                ),
                tmp_path,
            )
        )
        one = stack.enter_context(
            server(
                inside(
                    "agg",
                    "edvit_tf.cli",
                    "serve",
                    bundle,
                    "--devices",
                    f"{DEVICE.format(1)}:8001,{DEVICE.format(2)}:8001",
                    "--listen",
                    f"{HUB}:8000",
                    "--insecure",
                    "--insecure-anywhere",
                    "--deadline-ms",
                    "20000",
                ),
                tmp_path,
            )
        )
        channel = stack.enter_context(one.channel())
        wait_ready(channel, 60)
        wait_for(lambda: one.events("device"))
        wanted = fused(bundle, raw)
        for what, value in (("raw", raw), ("file", file)):
            rows = []
            for _ in range(TIMES):
                outputs, said, _ = infer(channel, value, timeout=30, name=kind)
                assert not said["degraded"]
                np.testing.assert_allclose(outputs["probabilities"], wanted, rtol=1e-3, atol=1e-5)
                rows.append(
                    [
                        said[f"submodel-0{j}.{part}_ms"]
                        for j in (0, 1)
                        for part in ("wire", "compute")
                    ]
                    + [said["total_ms"]]
                )
            middle = np.median(rows, axis=0)
            size = len(value) if isinstance(value, bytes) else value.nbytes
            print(
                f"\n{kind}, {what}, {size} bytes ({name}): p50 of {TIMES}: emulated Pi "
                f"{middle[0]:.0f} ms of wire "
                f"(and {middle[1]:.0f} ms of emulated compute), this machine {middle[2]:.0f} ms of "
                "wire "
                f"({middle[3]:.1f} ms of compute), total {middle[4]:.0f} ms"
            )
            if what == "raw":
                slowest = middle[2]
        assert slowest > 8e3 * raw.nbytes / 2e6  # the line is as slow as it should be
        if len(file) < raw.nbytes / 4:
            assert middle[2] < slowest / 2
