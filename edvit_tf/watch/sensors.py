"""Several microphones of one room as one source: an item holds what each sub-model's own sensor
heard.
"""

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from edvit_tf.device.model.sound import MelSpec
from edvit_tf.errors import SourceError
from edvit_tf.watch.item import Item
from edvit_tf.watch.moments import Moment, Moments
from edvit_tf.watch.room import Room
from edvit_tf.watch.sensor_sound import SensorSound
from edvit_tf.watch.silence import Silence
from edvit_tf.watch.windows import wav_bytes

_LOOK_SECONDS = 0.02  # between looks for a window whose time has come
_FIRST_SECONDS, _MOST_SECONDS = 0.5, 15.0  # until one that was not there is looked for again


class Sensors:
    """Windows of one moment, `hop` samples apart. `sources` are what stands for each sensor's
    source. Raises SourceError for a file that is not there.
    """

    unit = "windows"
    keeps = False

    def __init__(
        self,
        room: Room,
        sources: Sequence[str],
        spec: MelSpec,
        hop: int,
        stdin: BinaryIO | None = None,
    ) -> None:
        self._room, self._rate = room, spec.sample_rate_hz
        self._sounds = {
            sensor.name: SensorSound(sensor, source, self._rate, stdin)
            for sensor, source in zip(room.sensors, sources, strict=True)
        }
        delays = {sensor.name: sensor.delay for sensor in room.sensors}
        self._moments = Moments(delays, self._rate, spec.window_samples, hop, room.tolerance)
        self._silences = {
            name: Silence(sound.name, hop / self._rate) for name, sound in self._sounds.items()
        }
        self._lock = threading.Lock()  # of `moments`, and of what follows
        self._absent: dict[str, SourceError] = {}  # those that were looked for, and never heard
        self._error: Exception | None = None
        self._started = 0.0  # time.monotonic() of the first sample of every recording

    @property
    def lost(self) -> int:
        return sum(sound.lost for sound in self._sounds.values())

    def run(
        self, give: Callable[[Item], bool], stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        """Until all sensors are over, or `stop`. Raises SourceError where none is there."""
        # all before the first is played: recordings of one room are of one moment
        for sound in self._sounds.values():
            sound.decode()
            if stop.is_set():
                return
        self._started = time.monotonic()

        ended = threading.Event()
        for name, sound in self._sounds.items():
            arguments = (name, sound, ended, say)
            threading.Thread(
                target=self._listen, args=arguments, name=sound.name, daemon=True
            ).start()
        try:
            while not stop.wait(_LOOK_SECONDS):
                now = time.monotonic()
                with self._lock:
                    moments = list(self._moments.due(now))
                    is_over = self._moments.is_over(now)
                    self._check()
                for moment in moments:
                    if not give(self._item(moment, say)):
                        return
                if is_over:
                    return
        finally:
            ended.set()

    def _listen(
        self, name: str, sound: SensorSound, stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        """A thread's: one sensor's sound, whatever becomes of the others."""
        pause = _FIRST_SECONDS
        is_said = False
        try:
            while not stop.is_set():
                try:
                    self._take(name, sound, stop, say)
                    return
                except SourceError as error:
                    with self._lock:
                        self._absent[name] = error
                    if not is_said:
                        say(f"{error} Going on without {sound.name}.")
                    is_said = True
                    if sound.ends:
                        return
                stop.wait(pause)
                pause = min(_MOST_SECONDS, 2 * pause)
        except Exception as error:  # noqa: BLE001 (a thread's: it goes to the one that waits)
            with self._lock:
                self._error = error
        finally:
            with self._lock:
                self._moments.over(name)

    def _take(
        self, name: str, sound: SensorSound, stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        def began() -> None:
            with self._lock:
                self._moments.begin(name)

        for block in sound.blocks(self._started, began, stop, say):
            with self._lock:
                was_absent = self._absent.pop(name, None) is not None
                self._moments.heard(name, block, time.monotonic())
            if was_absent:
                say(f"{sound.name} is there.")

    def _check(self) -> None:
        """Raises what ended a sensor's thread, and SourceError where no sensor was ever there."""
        if self._error is not None:
            raise self._error
        if len(self._absent) == len(self._sounds):
            why = " ".join(str(error) for error in self._absent.values())
            raise SourceError(f"no sensor is there: {why}")

    def _item(self, moment: Moment, say: Callable[[str], None]) -> Item:
        for name, samples in moment.sounds.items():
            self._silences[name].heard(samples, say)
        seconds = round(moment.start_seconds, 3)
        fields = {"start_seconds": seconds, "sensors": list(moment.sounds)}
        values = functools.partial(self._values, moment)
        return Item(f"{seconds:.3f} s", values, fields)

    def _values(self, moment: Moment) -> list[Mapping[str, bytes]]:
        """What each sub-model is asked for."""
        found: dict[str, bytes] = {}
        for sensor in self._room.sensors:
            if sensor.name in moment.sounds:
                data = wav_bytes(moment.sounds[sensor.name], self._rate)
                found |= dict.fromkeys(sensor.workers, data)
        return [found]
