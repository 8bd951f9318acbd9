"""From a file to what a model takes, against tf.image and librosa, and what they refuse."""

import io
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.device.model import decode_picture, decode_sound
from edvit_tf.device.model.image import ImageSpec, image_batch, image_input
from edvit_tf.device.model.input_kinds import spec_from_dict
from edvit_tf.device.model.resize import resize
from edvit_tf.device.model.sound import (
    MelSpec,
    log_mel,
    mel_input,
    mel_windows,
    window_count,
    windows,
)
from tests.support.data_files import cut_off, tone, write_picture, write_sound, write_wav

MEL = {
    "sample_rate_hz": 16_000,
    "window_samples": 16_000,
    "n_fft": 2048,
    "hop_length": 512,
    "n_mels": 128,
    "frames": 32,
    "fmin_hz": 0.0,
    "fmax_hz": 8000.0,
    "height": 64,
    "width": 48,
}


def filters(spec: MelSpec) -> np.ndarray:
    librosa = pytest.importorskip("librosa")
    return librosa.filters.mel(
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz,
        htk=False,
        norm="slaney",
        dtype=np.float32,
    )


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resize_is_that_of_tensorflow(method, antialias):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    for source, target in [
        ((128, 1291), (224, 224)),
        ((28, 28), (224, 224)),
        ((50, 31), (17, 40)),
        ((8, 8), (8, 3)),
    ]:
        x = rng.uniform(0, 255, (2, *source, 3)).astype(np.float32)
        expected = tf.image.resize(x, target, method=method, antialias=antialias).numpy()
        got = resize(x, *target, method, antialias)
        assert got.dtype == np.float32 and got.flags.c_contiguous
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max(), (source, target)
        np.testing.assert_allclose(
            resize(x[1], *target, method, antialias), got[1], rtol=1e-5, atol=1e-3
        )


@pytest.mark.parametrize(
    ("rate", "seconds", "frames", "top_db"),
    [(16_000, 1.0, 32, 80.0), (22_050, 30.0, 1291, 80.0), (16_000, 1.0, 30, 30.0)],
)
def test_log_mel_is_that_of_librosa(rate, seconds, frames, top_db):
    librosa = pytest.importorskip("librosa")
    n = round(rate * seconds)
    spec = MelSpec(
        **{
            **MEL,
            "sample_rate_hz": rate,
            "window_samples": n,
            "frames": frames,
            "fmax_hz": rate / 2,
            "top_db": top_db,
        }
    )
    samples = (
        tone(n) * np.linspace(0, 1, n, dtype=np.float32) ** 4
    )  # quiet at first: top_db cuts there
    samples += np.random.default_rng(0).normal(0, 1e-5, n).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=rate,
        n_fft=2048,
        hop_length=512,
        win_length=2048,
        window="hann",
        center=True,
        pad_mode="constant",
        power=2.0,
        n_mels=128,
        fmin=0.0,
        fmax=rate / 2,
        htk=False,
        norm="slaney",
    )
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=top_db)[:, :frames]
    got = log_mel(samples, spec, filters(spec))
    assert got.shape == (128, frames) and got.dtype == np.float32
    assert (expected == expected.min()).mean() > 0.1  # the cut at top_db is in play
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_mel_input_pads_and_refuses_what_is_too_long():
    spec = MelSpec(**MEL)
    bank = filters(spec)
    short = mel_input(tone(5000), spec, bank)
    padded = np.zeros(16_000, np.float32)
    padded[:5000] = tone(5000)
    assert short.shape == (64, 48, 1)
    np.testing.assert_array_equal(short, mel_input(padded, spec, bank))
    with pytest.raises(ValueError, match="windows"):
        log_mel(np.zeros(16_001, np.float32), spec, bank)
    with pytest.raises(ValueError, match="NaN"):
        log_mel(np.full(16_000, np.nan, np.float32), spec, bank)
    with pytest.raises(ValueError, match=r"\(128, 1025\)"):
        log_mel(padded, spec, bank[:, :-1])


@pytest.mark.parametrize(
    ("num_samples", "starts"),
    [
        (0, (0,)),
        (99, (0,)),
        (100, (0,)),
        (149, (0,)),
        (150, (0, 50)),
        (199, (0, 99)),
        (200, (0, 100)),
        (251, (0, 100, 151)),
    ],
)
def test_windows(num_samples, starts):
    assert windows(num_samples, 100) == starts
    assert window_count(num_samples, 100) == len(starts)


def test_windows_are_counted_and_not_listed():
    """A header may say any number of samples: 4 million starts took 200 MiB."""
    tracemalloc.start()
    assert window_count(68_719_476_735, 16_000) == 4_294_967
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_mel_windows_are_those_of_the_starts():
    spec = MelSpec(**MEL)
    bank, samples = filters(spec), tone(41_000) * np.linspace(0.1, 1, 41_000, dtype=np.float32)
    got = mel_windows(samples, spec, bank)
    assert len(got) == 3
    np.testing.assert_array_equal(got[2], mel_input(samples[25_000:], spec, bank))


def test_image_input_converts_channels():
    rgb = np.zeros((6, 4, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    grey, colour = ImageSpec(6, 4, 1), ImageSpec(6, 4, 3)
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert (image_input(rgb, grey) == luma).all()
    assert (image_input(np.dstack([rgb, rgb[..., :1]]), colour) == rgb).all()  # alpha is dropped
    assert (image_input(rgb[..., 1], colour) == 100).all()
    assert image_input(rgb[..., 1], grey).shape == (6, 4, 1)
    with pytest.raises(ValueError, match="float"):
        image_input(rgb / 255.0, colour)


def test_image_input_rounds_and_clips():
    pixels = np.array([[0, 255, 0, 255]] * 4, np.uint8)
    up = image_input(pixels, ImageSpec(4, 16, 1, resize="bicubic"))
    assert (
        up.dtype == np.uint8 and up.min() == 0 and up.max() == 255
    )  # bicubic overshoots: clipped, not wrapped
    down = image_input(np.array([[0, 255], [255, 254]], np.uint8), ImageSpec(1, 1, 1))
    assert down.item() == 191  # the mean, 191.0
    batch = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    spec = ImageSpec(5, 5, 3)
    np.testing.assert_array_equal(image_batch(batch, spec)[2], image_input(batch[2], spec))


def test_specs_travel_as_json():
    for spec in (ImageSpec(224, 200, 3, resize="bicubic", antialias=False), MelSpec(**MEL)):
        assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "video"}, "video"),
        ({"kind": None}, "None"),
        ({"depth": 3}, "depth"),
        ({"height": "64"}, "height"),
        ({"height": True}, "height"),
        ({"height": 64.0}, "height"),
        ({"antialias": 1}, "antialias"),
        ({"height": 0}, "positive"),
        ({"resize": "lanczos"}, "lanczos"),
        ({"frames": 33}, "33"),
        ({"fmax_hz": 9e3}, "9000"),
    ],
)
def test_spec_from_dict_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        spec_from_dict({**MelSpec(**MEL).to_dict(), **change})


def test_spec_from_dict_names_a_missing_key():
    values = MelSpec(**MEL).to_dict()
    del values["n_fft"]
    with pytest.raises(ValueError, match="n_fft"):
        spec_from_dict(values)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".au"])
def test_decode_audio(tmp_path, suffix):
    pytest.importorskip("soundfile")
    path = write_sound(tmp_path / f"a{suffix}", tone(5000), 16_000)
    samples, rate = decode_sound.decode_audio(path)
    assert rate == 16_000 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(5000), atol=1e-4)
    assert decode_sound.probe_audio(path) == (5000, 16_000)
    np.testing.assert_array_equal(decode_sound.decode_audio(path.read_bytes())[0], samples)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".au"])
@pytest.mark.parametrize("keep", [0.0, 0.003, 0.5, 0.99])
def test_truncated_audio_is_refused(tmp_path, suffix, keep):
    pytest.importorskip("soundfile")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
    path = cut_off(write_sound(tmp_path / f"a{suffix}", noise, 16_000), keep)
    with pytest.raises(InputError, match="Truncated|Damaged|cut off|Not a WAV"):
        decode_sound.decode_audio(path)


def test_wav_decodes_without_soundfile(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)  # import soundfile -> ImportError
    stereo = np.stack([tone(3000), np.zeros(3000, np.float32)], axis=1)
    path = write_wav(tmp_path / "a.wav", stereo, 8000)
    samples, rate = decode_sound.decode_audio(path)
    assert rate == 8000
    np.testing.assert_allclose(samples, tone(3000) / 2, atol=1e-4)
    with pytest.raises(InputError, match="Truncated"):
        decode_sound.decode_audio(cut_off(path))
    with pytest.raises(DecoderMissing, match="pip install soundfile"):
        decode_sound.decode_audio(
            b"fLaC" + bytes(14) + (16_000 << 44 | 100).to_bytes(8, "big") + bytes(100)
        )


@pytest.mark.parametrize(
    ("mode", "suffix", "shape"),
    [
        ("L", ".png", (20, 30)),
        ("1", ".png", (20, 30)),
        ("LA", ".png", (20, 30)),
        ("RGB", ".jpg", (20, 30, 3)),
        ("RGBA", ".png", (20, 30, 3)),
        ("CMYK", ".jpg", (20, 30, 3)),
        ("P", ".png", (20, 30, 3)),
    ],
)
def test_decode_image_modes(tmp_path, mode, suffix, shape):
    pytest.importorskip("PIL")
    path = write_picture(tmp_path / f"a{suffix}", (30, 20), mode, value=255)
    pixels = decode_picture.decode_image(path)
    assert pixels.shape == shape and pixels.dtype == np.uint8
    assert (pixels >= 250).all()


def test_decode_image_keeps_sixteen_bits_and_turns_upright():
    image = pytest.importorskip("PIL.Image")
    deep, turned = io.BytesIO(), io.BytesIO()
    image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(deep, "PNG")
    assert (decode_picture.decode_image(deep.getvalue()) == 40_000 >> 8).all()
    exif = image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    image.new("RGB", (30, 20)).save(turned, "JPEG", exif=exif)
    assert decode_picture.decode_image(turned.getvalue()).shape == (30, 20, 3)


def test_damaged_picture_is_refused(tmp_path):
    pytest.importorskip("PIL")
    path = write_picture(tmp_path / "a.jpg", (100, 100))
    with pytest.raises(InputError, match="readable picture"):
        decode_picture.decode_image(cut_off(path, 0.7))
    with pytest.raises(InputError, match="readable picture"):
        decode_picture.decode_image(b"no picture")


def test_inputs_from_file(tmp_path):
    pytest.importorskip("PIL")
    picture = write_picture(tmp_path / "a.png", (30, 20))
    got = ImageSpec(16, 16, 3).from_file(picture, {})
    assert got.shape == (1, 16, 16, 3) and got.dtype == np.uint8
    spec = MelSpec(**MEL)
    sound = write_wav(tmp_path / "a.wav", tone(40_000), 16_000)
    got = spec.from_file(sound.read_bytes(), {"mel_filters.npy": filters(spec)})
    assert got.shape == (3, 64, 48, 1) and got.dtype == np.float32
    other = write_wav(tmp_path / "b.wav", tone(40_000), 22_050)
    with pytest.raises(InputError, match="22050 Hz.*16000 Hz"):
        spec.from_file(other, {"mel_filters.npy": filters(spec)})


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_request_s_recording_of_another_rate_is_told_as_that(tmp_path, rate):
    """And not as too many windows, which one second at 44.1 kHz would be."""
    spec = MelSpec(**MEL)
    second = write_wav(tmp_path / "a.wav", tone(rate), rate)
    with pytest.raises(InputError, match=f"has {rate} Hz; the model takes 16000 Hz"):
        spec.probe(second.read_bytes())


def test_importing_it_loads_numpy_alone():
    code = (
        "import sys, edvit_tf.device.model.input_kinds; "
        "print([m for m in ('PIL', 'soundfile', 'librosa', 'scipy', 'tensorflow', "
        "'edvit_tf.errors') "
        "if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"
