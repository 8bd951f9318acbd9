"""A camera: of this machine, of a Pi, of the network, or a video file in the place of one."""

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import SourceError
from edvit_tf.watch.item import Item, Value
from edvit_tf.watch.pi_camera import opened_pi_camera
from edvit_tf.watch.pictures import SPARE, Seeing, picture_value
from edvit_tf.watch.reopening import SourceLost, kept_open
from edvit_tf.watch.video import Frame, opened_video, without_password

_MOST_SECONDS = 60.0  # from a file's frame to its next; what is more is a clock that was set


class Camera:
    """Frames of "0" (/dev/video0), "pi", an address (rtsp://...), or a file, which is played at its
    own rate, with `fast` as fast as the fleet answers.

    Raises SourceError where no such file is there.
    """

    unit = "frames"
    lost = 0  # drivers do not say

    def __init__(self, where: str, spec: ImageSpec, fast: bool) -> None:
        self.name = f"--camera {without_password(where)}"
        self._where, self._spec = where, spec
        is_device = where.isdecimal() or where.startswith("/dev/")
        self._is_file = not (is_device or where == "pi" or "://" in where)
        self.keeps = fast and self._is_file
        if fast and not self._is_file:
            raise SourceError(f"--fast goes with a file; {self.name} has its own pace.")
        if self._is_file and not Path(where).is_file():
            raise SourceError(
                f"{self.name} is no file. Give a number (0 is /dev/video0), pi, an address "
                "(rtsp://...), or a video."
            )

    def run(
        self, give: Callable[[Item], bool], stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        """Until its end, or `stop`."""
        seeing = Seeing(self.name, say)
        frames = self._played(stop) if self._is_file else self._live(stop, say)
        for number, frame in enumerate(frames):
            fields: dict[str, float] = {"frame": number}
            if frame.seconds is not None:
                fields["seconds"] = round(frame.seconds, 3)
            values = functools.partial(self._values, frame, seeing, itertools.count())
            if not give(Item(f"frame {number}", values, fields)):
                return

    def _live(self, stop: threading.Event, say: Callable[[str], None]) -> Iterator[Frame]:
        return kept_open(self.name, self._opened, stop, say)

    def _opened(self) -> contextlib.AbstractContextManager[Iterator[Frame]]:
        return opened_pi_camera() if self._where == "pi" else opened_video(self._where)

    def _played(self, stop: threading.Event) -> Iterator[Frame]:
        """The frames of a file, each at its time. Raises SourceError."""
        start = 0.0  # time.monotonic() of the second 0
        last = None  # the second of the frame before
        try:
            with opened_video(self._where) as frames:
                for frame in frames:
                    if frame.seconds is not None and not self.keeps:
                        now = time.monotonic()
                        if last is None or not 0 <= frame.seconds - last <= _MOST_SECONDS:
                            start = now - frame.seconds
                        last = frame.seconds
                        stop.wait(max(0.0, start + frame.seconds - now))
                    if stop.is_set():
                        return
                    yield frame
        except SourceLost as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _values(self, frame: Frame, seeing: Seeing, tries: Iterator[int]) -> list[Value]:
        pixels = frame.pixels(SPARE * self._spec.height, SPARE * self._spec.width)
        # one that is asked for again is no second frame
        if next(tries) == 0:
            seeing.look(pixels)
        return [picture_value(pixels, self._spec)]
