"""A microphone of this machine, by sounddevice (PortAudio), at the rate that it likes best."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edvit_tf.device.model.decode_sound import mono
from edvit_tf.errors import SourceError
from edvit_tf.watch.reopening import SourceLost
from edvit_tf.watch.sound_pipe import BLOCK_SECONDS, Sound
from edvit_tf.watch.video import needed

_MOST_BLOCKS = 200  # that wait: 10 s
_MOST_CHANNELS = 2
_SILENT_SECONDS = 5.0  # without a block: it is gone, though nobody says so


def device_of(where: str) -> int | str:
    """What tells a device from others: PortAudio's number of it, by whichever name; what it is
    called, where that cannot be asked.
    """
    called = where.strip().casefold()
    try:
        sounddevice = _sounddevice()
    except SourceError:  # said where it is opened
        return called
    with contextlib.suppress(sounddevice.PortAudioError, ValueError):
        return sounddevice.query_devices(_asked(where), "input").get("index", called)
    return called


@contextlib.contextmanager
def opened_recorder(where: str, lost: Callable[[], None]) -> Iterator[Sound]:
    """The sound of a device by number or name, or of the machine's choice (""). `lost` is called
    where PortAudio says that it dropped some, by a thread of its own.

    Raises SourceError without PortAudio, SourceLost where the device is not there, or stops.
    """
    device = _asked(where)
    sounddevice = _sounddevice()
    blocks: queue.Queue[np.ndarray] = queue.Queue(_MOST_BLOCKS)

    is_late = threading.Event()

    def heard(data: np.ndarray, frames: int, at: Any, status: Any) -> None:
        # PortAudio's thread: it must never wait
        if status.input_overflow:
            lost()
        try:
            if not is_late.is_set():  # what waits hangs together
                blocks.put_nowait(data.copy())
        except queue.Full:
            is_late.set()

    try:
        found = sounddevice.query_devices(device, "input")
        rate = round(found["default_samplerate"])
        stream = sounddevice.InputStream(
            device=device,
            samplerate=rate,
            # of a card with 32 inputs the mean of all is next to nothing
            channels=min(_MOST_CHANNELS, found["max_input_channels"]),
            blocksize=round(BLOCK_SECONDS * rate),
            dtype="float32",
            callback=heard,
        )
        with stream:
            yield Sound(rate, _blocks(blocks, stream, is_late))
    except (sounddevice.PortAudioError, ValueError) as error:
        raise SourceLost(f"no sound can be recorded: {error}.") from error


def _blocks(
    blocks: queue.Queue[np.ndarray], stream: Any, is_late: threading.Event
) -> Iterator[np.ndarray]:
    while True:
        # what would follow is not what came next: it begins again, at the time that it is by then
        if is_late.is_set() and blocks.empty():
            waited = _MOST_BLOCKS * BLOCK_SECONDS
            raise SourceLost(f"{waited:g} s of its sound waited, and more was lost.")
        try:
            block = blocks.get(timeout=_SILENT_SECONDS)  # (n, channels)
        except queue.Empty:
            state = "is still" if stream.active else "is not"
            raise SourceLost(
                f"nothing came for {_SILENT_SECONDS:g} s; its stream {state} open."
            ) from None
        yield mono(block)


def _asked(where: str) -> int | str | None:
    """As sounddevice takes it: more digits than a C int has are no number to it, but a name."""
    return int(where) if where.isdecimal() and len(where) < 10 else where or None


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise needed("sounddevice", "--microphone") from error
    except OSError as error:
        raise SourceError(
            f"--microphone: {error}. Run: sudo apt install libportaudio2, or pipe the sound of "
            "`arecord` into --microphone -."
        ) from error
    return sounddevice
