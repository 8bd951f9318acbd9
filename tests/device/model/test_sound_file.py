"""A sound file whose header is wrong and whose sound is right is read to its end, with soundfile
and without; one that was cut off is not taken for a shorter recording.
"""

import io
import struct
import sys
import wave

import numpy as np
import pytest

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.device.model.decode_sound import decode_audio, mono, probe_audio
from tests.support.data_files import tone

soundfile = pytest.importorskip("soundfile")

SAMPLES = tone(3000)
RATE = 16_000
DATA_BYTES = 6000


@pytest.fixture(params=["with soundfile", "without"])
def decoder(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "soundfile", None)  # import soundfile -> ImportError


def wav(samples=SAMPLES) -> bytearray:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return bytearray(file.getvalue())


def with_sizes(riff: int, data: int) -> bytes:
    made = wav()
    struct.pack_into("<I", made, 4, riff)
    struct.pack_into("<I", made, 40, data)
    return bytes(made)


def encoded(form: str, samples=SAMPLES, subtype: str = "PCM_16") -> bytearray:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=form, subtype=subtype)
    return bytearray(file.getvalue())


def tagged(data: bytes, length: int = 300, footer: bool = False) -> bytes:
    """Behind an ID3 tag of so many bytes."""
    size = bytes((length >> shift) & 0x7F for shift in (21, 14, 7, 0))
    head = b"ID3\4\0" + bytes([0x10 if footer else 0]) + size
    return head + b"T" * length + (b"3DI" + head[3:] if footer else b"") + data


def is_the_tone(data: bytes, frames: int = len(SAMPLES)) -> None:
    assert probe_audio(bytes(data)) == (frames, RATE)
    samples, rate = decode_audio(bytes(data))
    assert rate == RATE and samples.dtype == np.float32
    np.testing.assert_allclose(samples, SAMPLES[:frames], atol=1e-4)


@pytest.mark.parametrize(
    "riff, data",
    [
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg into a pipe
        (0x7FFFF024, 0x7FFFF000),  # sox into a pipe
        (0x7FFFFF24, 0x7FFFFF00),  # arecord, killed
        (0x80000024, 0x80000000),
        (0xFFFFFFFF, 0xFFFFFFFF - 36),
        (0, 0),
        (36, 0),  # wave of Python, killed
        (36 + DATA_BYTES, 0),  # the one size written, the other not
        (36 + DATA_BYTES, DATA_BYTES + 36),  # a header counted in
        (36 + DATA_BYTES + 16, DATA_BYTES + 16),  # padding that is not there
        (36 + DATA_BYTES, 1_000_000),  # the file is whole: RIFF says so
        (0, DATA_BYTES),
        (0xFFFFFFFF, DATA_BYTES),
    ],
)
def test_sizes_that_a_pipe_or_a_kill_left(decoder, riff, data):
    is_the_tone(with_sizes(riff, data))


def test_a_file_that_was_cut_off_is_refused(decoder):
    """Both sizes say that more belongs there."""
    whole = bytes(wav())
    for kept in (0.9, 0.5, 0.1):
        with pytest.raises(InputError, match=r"Truncated audio: the header says 3000 frames"):
            decode_audio(whole[: int(len(whole) * kept)])


def test_an_empty_recording_is_refused_and_no_chunk_is_taken_for_sound(decoder):
    empty = wav(np.zeros(0))
    with pytest.raises(InputError, match="0 frames"):
        probe_audio(bytes(empty))
    chunk = b"LIST" + struct.pack("<I", 20) + b"INFOISFT" + bytes(12)
    with_chunk = empty + chunk
    struct.pack_into("<I", with_chunk, 4, len(with_chunk) - 8)
    with pytest.raises(InputError, match="0 frames"):
        probe_audio(bytes(with_chunk))


def test_chunks_behind_the_sound_are_no_sound(decoder):
    data = wav() + b"LIST" + struct.pack("<I", 20) + b"INFOISFT" + bytes(12)
    is_the_tone(data)


@pytest.mark.parametrize("length", [0, 1, 300, 5000])
@pytest.mark.parametrize("footer", [False, True])
def test_tags_before_a_wav(decoder, length, footer):
    is_the_tone(tagged(bytes(wav()), length, footer))
    # with wrong sizes as well, and a second tag
    is_the_tone(tagged(tagged(with_sizes(0, 0), length, footer), 10))


@pytest.mark.parametrize("form", ["FLAC", "AU"])
def test_tags_before_other_files(form):
    is_the_tone(tagged(bytes(encoded(form))))


def test_a_tag_that_is_larger_than_the_file(decoder):
    with pytest.raises(InputError, match="Not a WAV|cut off"):
        decode_audio(tagged(bytes(wav()), 2 << 20)[:5000])


def unknown_length(flac: bytearray) -> bytes:
    """As ffmpeg writes it into a pipe: 0 samples, no checksum."""
    packed = int.from_bytes(flac[18:26], "big")
    flac[18:26] = (packed >> 36 << 36).to_bytes(8, "big")
    flac[26:42] = bytes(16)
    return bytes(flac)


def test_flac_of_unknown_length():
    data = unknown_length(encoded("FLAC"))
    is_the_tone(data)
    is_the_tone(tagged(data))
    # counted no further than asked, by blocks of 65,536
    long = unknown_length(encoded("FLAC", np.zeros(1_000_000, np.float32)))
    frames, _ = probe_audio(long, most_frames=100_000)
    assert 100_000 < frames < 200_000
    assert probe_audio(long) == (1_000_000, RATE)


def test_flac_of_unknown_length_that_is_damaged():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30_000).astype(np.float32)
    data = unknown_length(encoded("FLAC", noise))
    with pytest.raises(InputError, match="Damaged"):
        decode_audio(data[: len(data) // 2])
    with pytest.raises(InputError, match="Damaged|0 frames"):
        decode_audio(data[:50])


def test_flac_of_unknown_length_without_soundfile(monkeypatch):
    data = unknown_length(encoded("FLAC"))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    for read in (probe_audio, decode_audio):
        with pytest.raises(DecoderMissing, match="pip install soundfile"):
            read(data)


def test_rf64(decoder):
    """WAV of more than 4 GiB, as some recorders write all of theirs: the sizes stand in ds64."""
    data = encoded("RF64")
    assert data[:4] == b"RF64" and data[12:16] == b"ds64"
    is_the_tone(data)

    bw64 = data.copy()
    bw64[:4] = b"BW64"
    is_the_tone(bw64)

    # a recorder that was killed
    struct.pack_into("<QQ", data, 20, 0, 0)
    is_the_tone(data)
    struct.pack_into("<QQ", data, 20, 1 << 40, 1 << 40)
    is_the_tone(data)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0, DATA_BYTES + 20])
def test_au_of_a_pipe(size):
    data = encoded("AU")
    struct.pack_into(">I", data, 8, size)
    is_the_tone(data)


def test_au_that_was_cut_off():
    data = encoded("AU")
    with pytest.raises(InputError, match="Truncated"):
        decode_audio(bytes(data[: len(data) // 2]))


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "ULAW", "PCM_U8"])
def test_other_samples_of_a_pipe(subtype):
    data = encoded("WAV", subtype=subtype)
    place = data.index(b"data") + 4
    struct.pack_into("<I", data, place, 0xFFFFFFFF)
    struct.pack_into("<I", data, 4, 0xFFFFFFFF)
    samples, _ = decode_audio(bytes(data))
    assert abs(len(samples) - len(SAMPLES)) <= 1  # u8 of odd length has a byte of padding
    np.testing.assert_allclose(samples[:3000], SAMPLES, atol=0.02)


def test_a_file_of_chunks_alone_ends():
    data = b"RIFF" + struct.pack("<I", 8 * 5000) + b"WAVE" + (b"junk" + bytes(4)) * 5000
    with pytest.raises(InputError, match="1000 chunks and no data"):
        probe_audio(data)


@pytest.mark.parametrize("tag", [0x55, 0x11, 0])
def test_a_wav_that_holds_something_compressed(decoder, tag):
    data = wav()
    struct.pack_into("<H", data, 20, tag)
    with pytest.raises(InputError, match=f"format tag {tag}; convert"):
        decode_audio(bytes(data))


def test_channels_that_cancel_each_other_out(decoder):
    """-x beside x is a microphone wired the wrong way round; its mean was silence."""
    is_the_tone(wav(np.stack([SAMPLES, -SAMPLES], axis=1)))
    # what is only quieter in the middle is averaged as ever
    other = tone(3000, 0.3)
    mean, _ = decode_audio(bytes(wav(np.stack([SAMPLES, other], axis=1))))
    np.testing.assert_allclose(mean, (SAMPLES + other) / 2, atol=1e-4)
    silence, _ = decode_audio(bytes(wav(np.zeros((100, 2)))))
    assert not silence.any()


@pytest.mark.parametrize("one, other", [(0, 1), (1, 2), (2, 3)])
def test_channels_that_cancel_each_other_out_beside_silent_ones(decoder, one, other):
    """An array of four with unused capsules: its first channel may be a silent one."""
    channels = np.zeros((3000, 4))
    channels[:, one], channels[:, other] = SAMPLES, -SAMPLES
    is_the_tone(wav(channels))


def test_one_channel_is_taken_of_all_blocks_of_a_stream():
    """Where two are as loud but for noise, a change from x to -x would click."""
    loud, quiet = np.stack([SAMPLES, -0.99 * SAMPLES], 1), np.stack([SAMPLES, -1.01 * SAMPLES], 1)
    for block in (loud, quiet):
        np.testing.assert_array_equal(mono(block), SAMPLES)


@pytest.mark.parametrize("block", [0, 1, 3, 4, 8, 0xFFFF])
def test_a_wrong_block_alignment_drops_no_samples(decoder, block):
    """A slip of headers that are made by hand: stereo's value in a mono file."""
    data = wav()
    struct.pack_into("<H", data, 32, block)
    is_the_tone(data)


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wrong_block_alignment_of_other_samples(subtype, channels):
    data = encoded("WAV", np.stack([SAMPLES] * channels, 1), subtype)
    place = data.index(b"fmt ") + 8
    struct.pack_into("<H", data, place + 12, 5)
    assert probe_audio(bytes(data)) == (3000, RATE)
    samples, _ = decode_audio(bytes(data))
    np.testing.assert_allclose(samples, SAMPLES, atol=0.02)


@pytest.mark.parametrize("tag, bits", [(1, 0), (1, 64), (3, 16), (3, 0)])
def test_samples_of_a_width_that_nothing_reads(decoder, tag, bits):
    data = wav()
    struct.pack_into("<H", data, 20, tag)
    struct.pack_into("<H", data, 34, bits)
    with pytest.raises(InputError, match=f"{bits} bits a sample .* convert it"):
        probe_audio(bytes(data))
