"""Sound as it comes: its rates, its windows, its pipes."""

import contextlib
import errno
import io
import os
import queue
import struct
import sys
import threading
import types
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edvit_tf.aggregate.framing import pcm_windows
from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.errors import SourceError
from edvit_tf.watch import microphone, recorder, sound_file, sound_pipe
from edvit_tf.watch import windows as windows_module
from edvit_tf.watch.asking import Counts
from edvit_tf.watch.microphone import Microphone
from edvit_tf.watch.newest import Newest
from edvit_tf.watch.reopening import kept_open
from edvit_tf.watch.sound_pipe import piped
from edvit_tf.watch.watch import _summary
from edvit_tf.watch.windows import cut_recording, resampled, sliding, wav_bytes
from tests.support.made_bundle import MEL

RNG = np.random.default_rng(6)


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 70), window=st.integers(1, 20), hop=st.integers(1, 20), cut=st.data())
def test_windows_are_those_of_a_raw_stream_however_the_sound_comes(total, window, hop, cut):
    hop = min(hop, window)
    samples = np.arange(1, total + 1, dtype=np.float32) / 32768
    raw = np.arange(1, total + 1, dtype="<i2").tobytes()
    expected = list(pcm_windows(io.BytesIO(raw), window, hop))

    places = sorted(cut.draw(st.lists(st.integers(0, total), max_size=5)))
    found = list(sliding(np.split(samples, places), window, hop))

    assert [start for start, _ in found] == [start for start, _ in expected]
    for (_, one), (_, other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_rate_becomes_the_bundle_s_with_the_same_tone():
    pytest.importorskip("soxr")
    seconds = np.arange(44100) / 44100
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    found = np.concatenate(list(resampled(np.array_split(tone, 7), 44100, 8000)))
    assert abs(len(found) - 8000) <= 2
    spectrum = np.abs(np.fft.rfft(found[:8000]))
    assert spectrum.argmax() == 440 and found.std() == pytest.approx(tone.std(), rel=0.02)


def test_a_wav_file_holds_what_was_heard():
    samples = RNG.uniform(-1, 1, 4000).astype(np.float32)
    decoded, rate = decode_audio(wav_bytes(samples, 8000))
    assert rate == 8000
    np.testing.assert_allclose(decoded, samples, atol=1 / 32768)
    loud, _ = decode_audio(wav_bytes(np.array([2.0, -2.0]), 8000))  # cut, and not turned round
    np.testing.assert_allclose(loud, [1, -1], atol=1e-4)


def test_a_recording_of_a_folder_is_cut_into_windows_of_the_bundle_s_rate():
    pytest.importorskip("soxr")
    values = cut_recording(wav_bytes(RNG.uniform(-1, 1, 3 * 8000), 16000), MEL)
    assert [decode_audio(value)[0].size for value in values] == [4000, 4000, 4000]


@pytest.mark.parametrize("says", [True, False])
def test_a_flac_of_more_sound_than_memory_is_refused_before_it_is_decoded(monkeypatch, says):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr(windows_module, "_MOST_SAMPLES", 200_000)
    decoded = []
    monkeypatch.setattr(windows_module, "decode_audio", decoded.append)
    file = io.BytesIO()
    soundfile.write(file, np.zeros((2_000_000, 2), np.float32), 8000, format="FLAC")
    data = bytearray(file.getvalue())
    assert len(data) < 20_000  # silence: a header's worth of bytes for each block
    if not says:  # a pipe's: the last 36 bits of these eight bytes are the frames
        [packed] = struct.unpack_from(">Q", data, 18)
        struct.pack_into(">Q", data, 18, packed >> 36 << 36)
    with pytest.raises(
        InputError, match="more than 12 s, 2 channels at 8000 Hz; .* 200000 samples"
    ):
        cut_recording(bytes(data), MEL)
    assert decoded == []


def test_a_flac_of_more_sound_than_memory_is_not_played(monkeypatch, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr(sound_file, "_MOST_SAMPLES", 200_000)
    long, short = tmp_path / "long.flac", tmp_path / "short.flac"
    soundfile.write(long, np.zeros(200_001, np.float32), 8000)
    soundfile.write(short, np.zeros(200_000, np.float32), 8000)
    with pytest.raises(SourceError, match="--microphone: it has more than 25 s, 1 channels"):
        sound_file.recording("--microphone", long)
    assert len(sound_file.recording("--microphone", short).samples) == 200_000


def test_a_recording_that_grows_by_resampling_is_refused(monkeypatch):
    monkeypatch.setattr(windows_module, "_MOST_SAMPLES", 200_000)
    # 1000 samples at 1 Hz are eight millions of the bundle's
    with pytest.raises(InputError, match="more than 25 s, 1 channels at 1 Hz"):
        cut_recording(wav_bytes(np.zeros(1000, np.float32), 1), MEL)
    assert len(cut_recording(wav_bytes(np.zeros(200_000, np.float32), 8000), MEL)) == 50


def wav(width: int, channels: int, rate: int, frames: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(frames)
    return file.getvalue()


def from_pipe(data: bytes, raw_rate: int = 8000) -> tuple[int, np.ndarray]:
    """(rate, samples) of what comes through a real pipe, some bytes at a time."""
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb", buffering=0) as file:
            for place in range(0, len(data), 777):
                file.write(data[place : place + 777])

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as file:
        sound = piped(file, raw_rate, threading.Event(), print)
        samples = np.concatenate(list(sound.blocks))
    thread.join()
    return sound.rate, samples


def test_a_pipe_brings_raw_sound_or_a_wav_file_of_any_width():
    expected = RNG.uniform(-0.9, 0.9, 3000)
    rate, raw = from_pipe((expected * 32768).astype("<i2").tobytes() + b"\1", 11025)
    assert rate == 11025  # and half a sample at its end is no sample
    np.testing.assert_allclose(raw, expected, atol=1 / 30000)

    wide = (expected * 2**31).astype("<i4")
    three = wide.astype("<i4").view("u1").reshape(-1, 4)[:, 1:].tobytes()
    one = np.rint(expected * 128 + 128).astype("u1").tobytes()
    two = np.repeat((expected * 32768).astype("<i2"), 2).tobytes()  # of two channels
    for width, channels, frames in (
        (4, 1, wide.tobytes()),
        (3, 1, three),
        (1, 1, one),
        (2, 2, two),
    ):
        rate, samples = from_pipe(wav(width, channels, 22050, frames))
        assert rate == 22050 and len(samples) == 3000
        np.testing.assert_allclose(samples, expected, atol=0.01 if width == 1 else 1e-4)


def test_a_wav_file_that_is_still_written_has_no_length():
    data = wav(2, 1, 8000, (np.ones(3000) * 8192).astype("<i2").tobytes())
    unknown = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    rate, samples = from_pipe(unknown)
    assert rate == 8000 and len(samples) == 3000 and samples.mean() == 0.25


@pytest.mark.parametrize("length", [0, 2000, 6000])
def test_a_wav_file_s_header_does_not_end_what_still_comes(length):
    data = wav(2, 1, 8000, (np.ones(3000) * 8192).astype("<i2").tobytes())
    guessed = data[:4] + bytes(4) + data[8:40] + length.to_bytes(4, "little") + data[44:]
    rate, samples = from_pipe(guessed)
    assert rate == 8000 and len(samples) == 3000 and samples.mean() == 0.25


def test_what_stands_beside_the_samples_of_a_wav_file_is_no_sound():
    data = wav(2, 1, 8000, (np.ones(3000) * 8192).astype("<i2").tobytes())
    extensible = struct.pack(
        "<IHHIIHHHHIH14s", 40, 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4, 1, b""
    )
    listed = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    rate, samples = from_pipe(data[:12] + listed + data[12:16] + extensible + data[36:] + listed)
    assert rate == 8000 and len(samples) == 3000 and samples.mean() == 0.25


def test_a_pipe_that_is_silent_is_left_at_the_end():
    reading, writing = os.pipe()
    stop = threading.Event()
    given_items: list = []
    with open(reading, "rb") as file, open(writing, "wb"):
        one = Microphone("-", MEL, 4000, fast=False, pipe=file, pipe_rate=8000)
        arguments = (lambda item: given_items.append(item) or True, stop, print)
        thread = threading.Thread(target=one.run, args=arguments, daemon=True)
        thread.start()
        stop.set()
        thread.join(60)
        assert not thread.is_alive() and given_items == []


@pytest.mark.parametrize(
    "data, said", [(b"", "without a sample"), (b"RIFFxxxxAVI ", "no WAV file of whole numbers")]
)
def test_a_pipe_without_sound_is_one_error(data, said):
    with pytest.raises(SourceError, match=said):
        from_pipe(data)


# ---- a microphone, by a sounddevice that is made up: no test machine has one


class Made:
    """sounddevice: sessions of blocks that its microphone gives, or an error."""

    class PortAudioError(Exception):
        pass

    def __init__(self, sessions: list, overflows: tuple[int, ...] = ()) -> None:
        self.sessions = sessions
        self.overflows = overflows  # blocks before which PortAudio dropped sound
        self.active = False

    def query_devices(self, device, kind):
        if isinstance(self.sessions[0], str):
            raise Made.PortAudioError(self.sessions.pop(0))
        return {"default_samplerate": 16000.0, "max_input_channels": 32}

    def InputStream(self, callback, **settings):
        assert settings["samplerate"] == 16000 and settings["channels"] == 2
        return _Stream(self.sessions.pop(0), callback, self.overflows)


class _Stream:
    active = False

    def __init__(self, blocks, callback, overflows) -> None:
        self._blocks, self._callback, self._overflows = blocks, callback, overflows

    def __enter__(self):
        for number, block in enumerate(self._blocks):
            status = types.SimpleNamespace(input_overflow=number in self._overflows)
            self._callback(np.asarray(block, np.float32), len(block), None, status)

    def __exit__(self, *_):
        return False


def heard(monkeypatch, sessions, count: int) -> tuple[list, list[str]]:
    pytest.importorskip("soxr")
    made = Made(sessions)
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    monkeypatch.setattr(recorder, "_SILENT_SECONDS", 0.01)
    monkeypatch.setattr("edvit_tf.watch.reopening._FIRST_SECONDS", 0.01)
    given_items, words = [], []
    stop = threading.Event()

    def give(item) -> bool:
        given_items.append(item)
        return len(given_items) < count

    one = Microphone("USB", MEL, 4000, fast=False, pipe=None, pipe_rate=8000)
    one.run(give, stop, words.append)
    return given_items, words


def test_a_microphone_of_another_rate_that_goes_away_is_opened_again(monkeypatch):
    second = RNG.uniform(-1, 1, (17000, 2))
    items, words = heard(monkeypatch, [[second], "no such device", [second]], 4)
    starts = [item.fields["start_seconds"] for item in items]
    # the time goes on meanwhile, and within each it is that of the sound
    assert starts[:2] == [0.0, 0.5] and starts[2] >= 1.0
    assert starts[3] == pytest.approx(starts[2] + 0.5)
    assert decode_audio(items[0].values()[0])[0].size == 4000
    assert len(words) == 2
    assert words[0].startswith("--microphone USB went away, going on: nothing came")
    assert words[1] == "--microphone USB is back."


def test_sound_that_nobody_takes_in_time_is_said_and_begins_again(monkeypatch):
    monkeypatch.setattr(recorder, "_MOST_BLOCKS", 2)
    block = RNG.uniform(-1, 1, (17000, 1))
    items, words = heard(monkeypatch, [[block] * 3, [block]], 6)
    assert len({item.name for item in items}) == 6
    assert len(words) == 2 and words[1] == "--microphone USB is back."
    assert "went away, going on: " in words[0] and "and more was lost" in words[0]


def test_sound_that_the_device_dropped_is_counted_with_what_the_fleet_could_not_take(monkeypatch):
    pytest.importorskip("soxr")
    block = RNG.uniform(-1, 1, (8000, 1))
    made = Made([[block] * 4], overflows=(1, 3))
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    one = Microphone("USB", MEL, 4000, fast=False, pipe=None, pipe_rate=8000)
    given = []
    one.run(lambda item: bool(given.append(item)) or len(given) < 3, threading.Event(), print)
    assert one.lost == 2

    newest = Newest()
    for item in given:  # of three two are replaced before anybody takes them
        newest.put(item)
    asking = types.SimpleNamespace(counts=Counts())
    assert _summary(asking, newest, one, 1.0)["dropped"] == 2 + 2


def test_a_pipe_that_is_silent_is_said_once_and_when_it_is_over(monkeypatch):
    monkeypatch.setattr(sound_pipe, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(sound_pipe, "_LOOK_SECONDS", 0.001)
    reading, writing = os.pipe()
    words: queue.Queue[str] = queue.Queue()
    samples = []

    def hear() -> None:
        with open(reading, "rb") as file:
            sound = piped(file, 8000, threading.Event(), words.put, "sensor a")
            samples.extend(np.concatenate(list(sound.blocks)))

    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    assert words.get(timeout=60) == (
        "sensor a: nothing came for 0 s. Does the recorder before it run? Going on."
    )
    # far from a second line, for all that it is looked a thousand times a second
    thread.join(0.1)
    assert words.empty()
    with open(writing, "wb", buffering=0) as file:
        file.write(b"\0\x40")
        assert words.get(timeout=60) == "sensor a gives sound again."
    thread.join(60)
    assert samples == [0.5]


def test_a_pipe_whose_read_fails_is_one_error(monkeypatch):
    def read(number, most):
        raise OSError(errno.EIO, "Input/output error")

    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as writer, open(reading, "rb") as file:
        writer.write(b"\0\x40" * 1000)
        monkeypatch.setattr(sound_pipe.os, "read", read)
        with pytest.raises(SourceError, match=r"sensor a cannot be read further: Input/output err"):
            piped(file, 8000, threading.Event(), print, "sensor a")


def test_a_source_that_comes_and_goes_is_said_in_a_few_lines_and_opened_less_often(monkeypatch):
    seconds = 0.0
    waits: list[float] = []
    words: list[str] = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    def pieces(count: int):
        nonlocal seconds
        for number in range(count):
            yield number
            seconds += 1.0

    clock = types.SimpleNamespace(monotonic=lambda: seconds)
    monkeypatch.setattr("edvit_tf.watch.reopening.time", clock)
    sessions = iter([1] * 20 + [20, 1])
    stop = Stop()

    @contextlib.contextmanager
    def opened():
        count = next(sessions)
        if count == 20:
            assert len(words) == 3 and waits[-1] == 15.0
        yield pieces(count)

    frames = kept_open("--camera x", opened, stop, words.append)
    assert [next(frames) for _ in range(41)]
    assert [line.partition(",")[0] for line in words] == [
        "--camera x went away",
        "--camera x is back.",
        "--camera x went away again",
        "--camera x is back.",
        "--camera x went away",
        "--camera x is back.",
    ]
    assert waits[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0] and waits[-1] == 0.5


def test_a_microphone_that_is_not_there_is_one_error(monkeypatch):
    with pytest.raises(SourceError, match="--microphone USB: no sound can be recorded: no such"):
        heard(monkeypatch, ["no such device"], 1)


def test_a_recording_that_is_not_there_is_no_microphone():
    for where in ("none.wav", "recordings/none"):
        with pytest.raises(SourceError, match="is no file. Give a recording"):
            Microphone(where, MEL, 4000, fast=False, pipe=None, pipe_rate=8000)


@pytest.mark.parametrize("has_come", [True, False])
def test_one_that_ends_because_all_does_has_not_gone_away(has_come):
    stop, words = threading.Event(), []

    def pieces():
        if has_come:
            yield 0
        stop.set()  # while the next piece is waited for

    def opened():
        return contextlib.nullcontext(pieces())

    assert list(kept_open("sensor a", opened, stop, words.append)) == [0] * has_come
    assert words == []


def test_a_microphone_that_is_muted_is_said_once_and_when_it_is_over(monkeypatch):
    silence, noise = np.zeros((96000, 1)), RNG.uniform(-1, 1, (33000, 1))
    items, words = heard(monkeypatch, [[silence, noise]], 14)
    assert len(items) == 14
    assert [line.split(" gives ")[1] for line in words] == [
        "nothing but zeros: is it muted? Going on.",
        "sound again.",
    ]


def test_without_portaudio_it_says_what_to_install(monkeypatch):
    def load(*_):
        raise OSError("PortAudio library not found")

    found = types.SimpleNamespace(find_spec=load)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [found, *sys.meta_path])
    one = Microphone("", MEL, 4000, fast=False, pipe=None, pipe_rate=8000)
    with pytest.raises(SourceError, match="apt install libportaudio2"):
        one.run(lambda item: True, threading.Event(), print)


def test_a_recording_is_played_at_its_own_rate_and_a_fast_one_at_once(tmp_path, monkeypatch):
    file = tmp_path / "sound.wav"
    file.write_bytes(wav_bytes(RNG.uniform(-1, 1, 12000), 8000))
    waits = []
    for module in (microphone, sound_file):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: 100.0))

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    for fast in (False, True):
        items: list = []
        one = Microphone(str(file), MEL, 2000, fast=fast, pipe=None, pipe_rate=8000)
        one.run(lambda item, items=items: items.append(item) or True, Stop(), print)
        assert [item.fields["start_seconds"] for item in items] == [0, 0.25, 0.5, 0.75, 1]
        assert bool(waits) is not fast
        assert fast or max(waits) == pytest.approx(1.5)  # of a clock that stands still
        waits.clear()
