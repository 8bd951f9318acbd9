"""The figures of microphones of their own (`tests/sensor_figures.py`): what is done to a sound, and
the command on a small bundle.
"""

import json
import re
import shutil

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.watch.windows import wav_bytes
from tests import sensor_figures
from tests.support.aggregator_process import fused
from tests.support.commands import run_python
from tests.support.made_bundle import MEL

RNG = np.random.default_rng(3)


def test_a_sound_is_late_faint_or_noisy_by_as_much_as_is_said():
    sound = RNG.normal(0, 0.1, 50_000).astype(np.float32)
    np.testing.assert_array_equal(
        sensor_figures.late(sound, 120.0, RNG), np.concatenate([np.zeros(120), sound[:-120]])
    )
    faint = sensor_figures.faint(sound, 6.0, RNG)
    assert np.std(faint) / np.std(sound) == pytest.approx(10 ** (-6 / 20))
    added = sensor_figures.noisy(sound, 10.0, RNG) - sound
    assert np.square(sound).mean() / np.square(added).mean() == pytest.approx(10, rel=0.05)


def test_the_command_tells_the_share_of_right_answers(tiny_mel_bundle, tmp_path):
    """In a process of its own, as it loads .tflite files. As recorded it is what the files say."""
    bundle, data = shutil.copytree(tiny_mel_bundle, tmp_path / "bundle"), tmp_path / "data"
    opened = open_bundle(bundle)
    rule = bundle_input(opened)
    names, right = [], 0
    for number in range(8):
        label = number % len(opened.labels)
        name = f"{opened.labels[label]}/{number}"
        file = data / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(wav_bytes(RNG.uniform(-1, 1, MEL.window_samples), MEL.sample_rate_hz))
        names.append(name)
        right += fused(bundle, rule.from_file(file.read_bytes()))[0].argmax() == label
    (bundle / "splits.json").write_text(json.dumps({"test": names}))

    done = run_python("-m", "tests.sensor_figures", bundle, data)
    assert done.returncode == 0, done.stderr
    first, head, _, recorded, *rows = done.stdout.splitlines()
    assert first.startswith("8 recordings; ")
    assert head == "| What the microphones hear | one for all | a worker each | one of them bad |"
    share = f"{100 * right / 8:.1f} %"
    assert recorded == f"| as recorded | {share} | {share} | {share} |"
    assert [row.split(" | ")[0] for row in rows] == [
        *(f"| late by {ms} ms" for ms in (5, 20, 100, 300)),
        *(f"| fainter by {decibels} dB" for decibels in (6, 12)),
        *(f"| noise, SNR {ratio} dB" for ratio in (20, 10, 5)),
    ]
    for row in rows:
        shares = [float(cell) for cell in re.findall(r"([\d.]+) %", row)]
        # of eight recordings; the last is a mean over two microphones
        assert len(shares) == 3 and all((16 * one / 100).is_integer() for one in shares)
