"""Several microphones of one room: their sound through losses, and a real fleet that hears them."""

import contextlib
import errno
import http.server
import itertools
import os
import queue
import stat
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.errors import SourceError
from edvit_tf.watch import sound_pipe
from edvit_tf.watch.reopening import SourceLost
from edvit_tf.watch.room import Room, Sensor
from edvit_tf.watch.sensors import Sensors
from edvit_tf.watch.sound_pipe import Sound
from edvit_tf.watch.windows import wav_bytes
from tests.support.aggregator_process import outputs
from tests.support.commands import run_command, run_device
from tests.support.fleet_process import Place
from tests.support.made_bundle import MEL
from tests.support.watch_process import watching
from tests.support.worker_process import wait_for

RNG = np.random.default_rng(8)
NAMES = ("submodel-00", "submodel-01")
WORKERS = {name: f"pi-{place}:8001" for place, name in enumerate(NAMES)}


def level(value: float, seconds: float, rate: int = MEL.sample_rate_hz) -> bytes:
    """A recording of one value alone: each of its windows is the same, whenever it is cut."""
    return wav_bytes(np.full(round(seconds * rate), value), rate)


def ticks(stop: threading.Event) -> Iterator[None]:
    """One each 50 ms until `stop`, by the clock: those of a moment in which the machine stands
    still follow at once, as a microphone's sound does.
    """
    started = time.monotonic()
    for number in itertools.count(1):
        if stop.wait(max(0.0, started + number * 0.05 - time.monotonic())):
            return
        yield


class Heard:
    """Sensors that run in a thread."""

    def __init__(self, *sensors: Sensor, **options) -> None:
        self.items: queue.Queue = queue.Queue()
        self.words: list[str] = []
        self.error: Exception | None = None
        self.stop = threading.Event()
        room = Room(sensors, tolerance=0.25)
        sources = [sensor.source for sensor in sensors]
        self._sensors = Sensors(room, sources, MEL, MEL.window_samples, **options)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        def give(item) -> bool:
            self.items.put(item)
            return True

        try:
            self._sensors.run(give, self.stop, self.words.append)
        except SourceError as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def until(self, sensors: list[str]):
        """The next item with just these sensors, within a minute."""
        end = time.monotonic() + 60
        while True:
            item = self.items.get(timeout=max(0.0, end - time.monotonic()))
            if item.fields["sensors"] == sensors:
                return item
            assert time.monotonic() < end, f"no item of {sensors}; the last has {item.fields}"


def sensor(name: str, source, place: int, **options) -> Sensor:
    sub_model = NAMES[place]
    return Sensor(name, str(source), {sub_model: WORKERS[sub_model]}, **options)


def mean_of(value: bytes) -> float:
    return float(decode_audio(value)[0].mean())


def test_each_sub_model_gets_what_its_own_sensor_heard_at_the_rate_of_the_models(tmp_path):
    pytest.importorskip("soxr")
    (tmp_path / "a.wav").write_bytes(level(0.5, 60))
    (tmp_path / "b.wav").write_bytes(level(-0.25, 60, rate=16000))
    with Heard(sensor("a", tmp_path / "a.wav", 0), sensor("b", tmp_path / "b.wav", 1)) as heard:
        [values] = heard.until(["a", "b"]).values()
        [values] = heard.until(["a", "b"]).values()  # the first has the resampler's beginning
    assert list(values) == list(NAMES)
    assert all(decode_audio(value)[0].size == MEL.window_samples for value in values.values())
    assert mean_of(values[NAMES[0]]) == pytest.approx(0.5, abs=1e-3)
    assert mean_of(values[NAMES[1]]) == pytest.approx(-0.25, abs=1e-3)


def test_recordings_are_of_one_moment_however_long_each_takes_to_decode(tmp_path, monkeypatch):
    seconds = np.arange(60 * MEL.sample_rate_hz) / MEL.sample_rate_hz
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(wav_bytes(seconds / 60, MEL.sample_rate_hz))
    decoded = []

    def decode(data: bytes):
        decoded.append(len(data))
        time.sleep(len(decoded) - 1)  # the second takes a second longer
        return decode_audio(data)

    monkeypatch.setattr("edvit_tf.watch.sound_file.decode_audio", decode)
    with Heard(sensor("a", tmp_path / "a.wav", 0), sensor("b", tmp_path / "b.wav", 1)) as heard:
        apart = []
        # not the first alone: a machine may stand still
        while not apart or (min(apart) > 0.1 and len(apart) < 20):
            [values] = heard.until(["a", "b"]).values()
            one, other = (mean_of(values[name]) * 60 for name in NAMES)
            apart.append(abs(one - other))
    assert len(decoded) == 2 and min(apart) <= 0.1


def test_it_ends_with_its_recordings(tmp_path):
    (tmp_path / "a.wav").write_bytes(level(0.5, 1.2))
    (tmp_path / "b.wav").write_bytes(level(0.5, 0.6))
    with Heard(sensor("a", tmp_path / "a.wav", 0), sensor("b", tmp_path / "b.wav", 1)) as heard:
        heard.thread.join(60)
        assert not heard.thread.is_alive() and heard.error is None


class Writer:
    """Raw sound of one value into a named pipe, as long as it is told."""

    def __init__(self, path, value: float) -> None:
        self._path, self._block = path, np.full(400, value * 32768, "<i2").tobytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def _write(self) -> None:
        while not self._stop.is_set():
            # the reader may just close it: it opens it again
            with (
                contextlib.suppress(BrokenPipeError),
                open(self._path, "wb", buffering=0) as pipe,
            ):
                for _ in ticks(self._stop):
                    pipe.write(self._block)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_that_nobody_writes_to_is_missing_and_comes_back_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("edvit_tf.watch.reopening._MOST_SECONDS", 0.5)
    (tmp_path / "a.wav").write_bytes(level(0.5, 300))
    pipe = tmp_path / "b"
    os.mkfifo(pipe)
    with Heard(sensor("a", tmp_path / "a.wav", 0), sensor("b", pipe, 1, rate=8000)) as heard:
        [values] = heard.until(["a"]).values()
        assert list(values) == [NAMES[0]]
        for _ in range(2):
            with Writer(pipe, 0.25):
                [values] = heard.until(["a", "b"]).values()
                assert mean_of(values[NAMES[1]]) == pytest.approx(0.25, abs=1e-3)
            heard.until(["a"])
        went = "sensor b went away, going on: "
        wait_for(lambda: any(words.startswith(went) for words in heard.words), 60)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_whose_read_fails_is_said_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("edvit_tf.watch.reopening._MOST_SECONDS", 0.5)
    (tmp_path / "a.wav").write_bytes(level(0.5, 300))
    pipe = tmp_path / "b"
    os.mkfifo(pipe)
    fails = threading.Event()
    read = os.read

    def reads(number, most):
        if fails.is_set() and stat.S_ISFIFO(os.fstat(number).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        return read(number, most)

    sensors = sensor("a", tmp_path / "a.wav", 0), sensor("b", pipe, 1, rate=8000)
    with Heard(*sensors) as heard, Writer(pipe, 0.25):
        heard.until(["a", "b"])
        monkeypatch.setattr(sound_pipe.os, "read", reads)
        fails.set()
        heard.until(["a"])
        went = f"sensor b went away, going on: {pipe} cannot be read further: Input/output error."
        wait_for(lambda: any(words.startswith(went) for words in heard.words), 60)
        fails.clear()
        heard.until(["a", "b"])
    assert heard.error is None


def test_one_that_is_not_there_is_said_and_none_at_all_ends_it(tmp_path, monkeypatch):
    class Sounddevice:
        class PortAudioError(Exception):
            pass

        @staticmethod
        def query_devices(device, kind):
            raise Sounddevice.PortAudioError(f"no input device matches {device!r}")

    monkeypatch.setitem(__import__("sys").modules, "sounddevice", Sounddevice)
    (tmp_path / "a.wav").write_bytes(level(0.5, 300))
    with Heard(sensor("a", tmp_path / "a.wav", 0), sensor("b", "USB", 1)) as heard:
        heard.until(["a"])
        wait_for(lambda: heard.words)
    assert "sensor b: no sound can be recorded: no input device" in heard.words[0]

    with Heard(sensor("a", "USB", 0), sensor("b", "USB 2", 1)) as heard:
        heard.thread.join(60)
    assert "no sensor is there: sensor a: no sound can be recorded" in str(heard.error)

    with pytest.raises(SourceError, match=r"sensor a: .*none.wav is no file and no pipe"):
        Heard(sensor("a", tmp_path / "none.wav", 0))


def test_one_that_was_not_there_at_first_is_heard_later(tmp_path, monkeypatch):
    there = threading.Event()

    @contextlib.contextmanager
    def opened(where, lost):
        if not there.is_set():
            raise SourceLost("it is not plugged in.")
        block = np.full(400, 0.25, np.float32)
        yield Sound(8000, (block for _ in ticks(over)))

    over = threading.Event()
    monkeypatch.setattr("edvit_tf.watch.sensor_sound.opened_recorder", opened)
    (tmp_path / "a.wav").write_bytes(level(0.5, 300))
    with Heard(sensor("a", tmp_path / "a.wav", 0), sensor("b", "USB", 1)) as heard:
        heard.until(["a"])
        wait_for(lambda: heard.words)
        there.set()
        heard.until(["a", "b"])
        wait_for(lambda: len(heard.words) >= 2)
        over.set()
    absent = "sensor b: it is not plugged in. Going on without sensor b."
    assert heard.words[:2] == [absent, "sensor b is there."]


def test_sound_of_an_address_is_heard(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "b.wav").write_bytes(level(0.25, 5))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}/b.wav"
            with Heard(sensor("b", address, 1)) as heard:
                [values] = heard.until(["b"]).values()
        finally:
            server.shutdown()
            serving.join(60)
    assert mean_of(values[NAMES[1]]) == pytest.approx(0.25, abs=1e-3)


# ---- a real fleet


def expected(folder, sounds: list[bytes | None]) -> np.ndarray:
    """Probabilities (classes,) of a window for each sub-model, by the files alone."""
    bundle = open_bundle(folder)
    rule = bundle_input(bundle)
    features = []
    for entry, width, sound in zip(bundle.sub_models, bundle.widths, sounds, strict=True):
        features.append(np.zeros((1, width), np.float32))
        if sound is not None:
            x = {rule.name: rule.from_file(sound)}
            features[-1] = outputs(folder / entry.file, x)["features"]
    present = [[sound is not None for sound in sounds]]
    inputs = {
        "features": np.concatenate(features, axis=1),
        "present": np.array(present, np.float32),
    }
    return outputs(folder / bundle.fusion.file, inputs)["probabilities"][0]


def room_file(folder, sources, addresses):
    rows = [
        f'[[sensor]]\nname = "{name}"\nsource = "{source}"\nworkers = {{ {sub} = "{address}" }}\n'
        for name, source, sub, address in zip("ab", sources, NAMES, addresses, strict=True)
    ]
    file = folder / "room.toml"
    file.write_text("".join(rows))
    return file


def test_each_worker_answers_for_its_own_sensor_and_one_that_is_killed_comes_back(
    tiny_mel_bundle, tmp_path
):
    (tmp_path / "a.wav").write_bytes(level(0.5, 600))
    # what the second one hears comes 0.1 s later
    late = np.concatenate([np.zeros(800), np.full(600 * 8000, -0.25)])
    (tmp_path / "b.wav").write_bytes(wav_bytes(late, 8000))
    one, other = level(0.5, 0.5), level(-0.25, 0.5)
    places = [Place(tiny_mel_bundle, tmp_path, [place]).start() for place in range(2)]
    file = room_file(
        tmp_path, [tmp_path / "a.wav", tmp_path / "b.wav"], [place.address for place in places]
    )
    arguments = ["--sensors", file, "--bundle", tiny_mel_bundle, "--insecure"]
    try:
        with watching(tmp_path, *arguments) as watched:

            def answered(missing: str, sounds: list[bytes | None]) -> None:
                wanted = expected(tiny_mel_bundle, sounds)
                # by what is in the answer, and not by which it is: a machine may stand still
                seen = len(watched.events("answer"))

                def found():
                    return any(
                        event["parameters"]["missing"] == missing
                        and np.allclose(event["probabilities"], wanted, atol=1e-5)
                        for event in watched.events("answer")[seen:]
                    )

                wait_for(found, 60)

            answered("", [one, other])
            places[1].end()
            answered(NAMES[1], [one, None])
            places[1].start()
            answered("", [one, other])
            summary = watched.end()
    finally:
        for place in places:
            place.close()
    assert summary["unit"] == "windows" and 0 < summary["degraded"] < summary["answered"]


def test_options_that_do_not_go_together_are_one_error(
    tiny_mel_bundle, tiny_bundle, tmp_path, monkeypatch
):
    (tmp_path / "a.wav").write_bytes(level(0.5, 1))
    file = room_file(tmp_path, [tmp_path / "a.wav"] * 2, ["pi-0:8001", "pi-0:8001"])

    def code_and_words(*arguments):
        code, _, err = run_command(["watch", *arguments])
        return code, err

    given = ["--sensors", file, "--bundle", tiny_mel_bundle, "--insecure"]
    code, err = code_and_words(*given)
    assert code == 3 and "have the same address pi-0:8001" in err
    code, err = code_and_words("h:1", *given)
    assert code == 3 and "Leave HUB out" in err
    code, err = code_and_words("--sensors", file, "--insecure")
    assert code == 3 and "--sensors needs --bundle" in err
    assert code_and_words("--sensors", file, "--bundle", tiny_mel_bundle)[0] == 2
    code, err = code_and_words("--sensors", file, "--bundle", tiny_bundle, "--insecure")
    assert code == 3 and "--sensors are microphones" in err
    code, err = code_and_words(*given, "--fast")
    assert code == 3 and "--fast goes with" in err
    code, err = code_and_words("h:1", "--insecure", "--folder", tmp_path, "--bundle", tmp_path)
    assert code == 3 and "--bundle goes with --sensors" in err
    code, err = code_and_words(*given, "--on", "whale>0.5")
    assert code == 3 and "same address" in err  # the file is read first
    (tmp_path / "a.wav").unlink()
    code, err = code_and_words(*given)
    assert code == 27 and "is no file and no pipe" in err
    monkeypatch.setenv("ROOM", "-")  # two texts, and one standard input
    room_file(tmp_path, ["-", "env:ROOM"], ["pi-0:8001", "pi-1:8001"])
    code, err = code_and_words(*given)
    assert code == 3 and "a and b have one source, '-'" in err


def test_a_sub_model_without_a_sensor_is_said_and_labels_are_checked(tiny_mel_bundle, tmp_path):
    (tmp_path / "a.wav").write_bytes(level(0.5, 0.6))
    file = tmp_path / "room.toml"
    file.write_text(
        f'[[sensor]]\nname = "a"\nsource = "{tmp_path / "a.wav"}"\n'
        'workers = { submodel-00 = "127.0.0.1:1" }\n'
    )
    given = ["watch", "--sensors", file, "--bundle", tiny_mel_bundle, "--insecure"]
    # in a process of its own: tflite-runtime loads no file where TensorFlow is loaded already, as
    # other tests do it in this one
    done = run_device("-m", "edvit_tf.cli", *given, "--on", "whale>0.5")
    assert done.returncode == 3, done.stderr
    assert "room.toml has no sensor for submodel-01: every answer is degraded" in done.stderr
    assert "--on names 'whale'; the bundle tells apart ant, bee" in done.stderr
