"""Files that others' programs wrote in odd ways, from the folder to the model's input."""

import struct

import numpy as np
import pytest

from edvit_tf import data
from tests.support.data_files import tone, write_caltech, write_gtzan, write_wav

SOUND = {"image_size": (8, 8), "window_seconds": 0.1}
TURNED = (0x112, 3, 1, struct.pack("<HH", 6, 0))
# An entry of EXIF data: tag, type, count, value. None of them is what its tag should have.
ODD = {
    "resolution as text": (0x11A, 2, 4, b"72\0\0"),
    "date as a fraction far away": (0x132, 5, 1, struct.pack("<I", 38)),
    "maker as bytes": (0x10F, 1, 4, b"abcd"),
    "unit of no type": (0x128, 7, 4, b"\1\2\3\4"),
    "a type that is not there": (0x101, 99, 1, bytes(4)),
    "further data that are these": (0x8769, 4, 1, struct.pack("<I", 8)),
    "orientation once more, as text": (0x112, 2, 4, b"6\0\0\0"),
}


def with_exif(jpeg: bytes, *entries) -> bytes:
    table = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("odd", ODD)
def test_a_photo_with_odd_exif_data_is_trained_on(tmp_path, odd):
    write_caltech(tmp_path, {"ant": 20, "bee": 20})
    for path in sorted((tmp_path / "256_ObjectCategories/ant").iterdir()):
        path.write_bytes(with_exif(path.read_bytes(), TURNED, ODD[odd]))
    loaded = data.load("caltech256", tmp_path, num_classes=2, image_size=(8, 8))
    seen = [label for split in loaded.splits for _, label, _ in loaded.iterate(split)]
    assert seen.count(0) == seen.count(1) == 20 and not loaded.skipped


# What the RIFF chunk and the data chunk promise, where a program could not seek back.
SIZES = {
    "ffmpeg to a pipe": (0xFFFFFFFF, 0xFFFFFFFF),
    "sox to a pipe": (0x7FFFF024, 0x7FFFF000),
    "arecord that was killed": (0x7FFFFF24, 0x7FFFFF00),
    "nothing": (0, 0),
    "a few bytes too many": (8052, 8016),
}


@pytest.mark.parametrize("who", SIZES)
def test_sound_whose_header_is_wrong_is_read_to_its_end(tmp_path, who):
    folder = write_gtzan(tmp_path, num_samples=4000)
    right = data.load("gtzan", folder, **SOUND)
    before = np.stack([x for x, _, _ in right.iterate("train")])
    for path in sorted((folder / "genres").glob("*/*.wav")):
        content = bytearray(path.read_bytes())
        riff, samples = SIZES[who]
        content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", samples)
        path.write_bytes(content)
    loaded = data.load("gtzan", folder, **SOUND)
    np.testing.assert_array_equal([x for x, _, _ in loaded.iterate("train")], before)
    assert not loaded.skipped


@pytest.mark.parametrize("rate", [1, 100, 2_000_000])
def test_a_rate_that_cannot_be_is_a_damaged_header(tmp_path, rate):
    """Resampled from 1 Hz, this clip would last for hours."""
    folder = write_gtzan(tmp_path)
    write_wav(folder / "genres/jazz/jazz.00003.wav", tone(4000), rate)
    loaded = data.load("gtzan", folder, **SOUND)
    assert [s.path.split("/")[-1] for s in loaded.skipped] == ["jazz.00003.wav"]
    assert f"{rate} Hz" in loaded.skipped[0].reason


def test_channels_that_cancel_each_other_are_no_silence(tmp_path):
    folder = write_gtzan(tmp_path)
    one = tone(4000, 0.05)
    write_wav(folder / "genres/blues/blues.00000.wav", np.stack([one, -one], 1), 22_050)
    mono = data.audio.load_samples(folder / "genres/blues/blues.00000.wav", 22_050)
    np.testing.assert_allclose(mono, one, atol=1e-4)
