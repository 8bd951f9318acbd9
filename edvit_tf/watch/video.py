"""Frames by PyAV: of a video file, a stream of the network, or a camera of this machine."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from edvit_tf.errors import SourceError
from edvit_tf.watch.address import shown_address
from edvit_tf.watch.reopening import SourceLost

_OPEN_SECONDS, _READ_SECONDS = 10.0, 10.0  # that a stream may be silent


class Frame(NamedTuple):
    """A frame that was read."""

    seconds: float | None  # since the start of its video
    # pixels(height, width): uint8 (H, W, 3), scaled down to that size where it is larger
    pixels: Callable[[int, int], np.ndarray]


def needed(package: str, why: str) -> SourceError:
    """What is missing, and how it is installed."""
    return SourceError(f"{why} needs {package}. Run: pip install 'edvit-tf[watch]'.")


def without_password(where: str) -> str:
    """An address as it may be shown."""
    return shown_address(where) if "://" in where else where


@contextlib.contextmanager
def opened_video(where: str) -> Iterator[Iterator[Frame]]:
    """The frames of a file, an address, or of camera N of this machine. Raises SourceLost."""
    try:
        import av
    except ImportError as error:
        raise needed("av (PyAV)", f"--camera {without_password(where)}") from error

    file, options = _as_ffmpeg(where)
    shown = without_password(where)
    try:
        with av.open(file, timeout=(_OPEN_SECONDS, _READ_SECONDS), **options) as container:
            if not container.streams.video:
                raise SourceLost(f"{shown} has no pictures in it.")
            # several frames at once is the faster way, and the one that shows a live one late
            is_live = bool(options) or "://" in where
            yield _frames(av, container, "SLICE" if is_live else "AUTO")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        words = str(error).replace(file, shown)
        raise SourceLost(f"it cannot be opened, or read further: {words}.") from error


def _as_ffmpeg(where: str) -> tuple[str, dict[str, Any]]:
    """What `av.open` takes."""
    if where.isdecimal():
        if sys.platform == "darwin":
            return where, {"format": "avfoundation"}
        return f"/dev/video{where}", {"format": "v4l2"}
    if where.startswith("/dev/"):
        return where, {"format": "v4l2"}
    if where.startswith(("rtsp://", "rtsps://")):
        # by TCP: lost packets of UDP are grey stripes. And nothing is held back
        return where, {"options": {"rtsp_transport": "tcp", "fflags": "nobuffer"}}
    return where, {}


def _frames(av: Any, container: Any, threads: str) -> Iterator[Frame]:
    """Those that can be decoded; a damaged one is left out."""
    stream = container.streams.video[0]
    stream.thread_type = threads
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in decoded:
            yield Frame(frame.time, _pixels_of(frame))


def _pixels_of(frame: Any) -> Callable[[int, int], np.ndarray]:
    def pixels(height: int, width: int) -> np.ndarray:
        # of a telephone that was held upright, the rows come as columns
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        if turns % 2:
            height, width = width, height
        small = frame.reformat(
            width=min(width, frame.width),
            height=min(height, frame.height),
            format="rgb24",
            interpolation="AREA",
        )
        return np.rot90(small.to_ndarray(), turns)

    return pixels
