"""A camera's frame -> what the hub is asked, and frames that show nothing."""

import io
import threading
import time
from collections.abc import Callable

import numpy as np

from edvit_tf.device.model.image import ImageSpec, image_input
from edvit_tf.watch.item import Value

# An array needs no decoder on any device; a larger one costs more on the network than that.
_MOST_ARRAY_BYTES = 64 << 10
_JPEG_QUALITY = 92
# A frame is scaled down to so many times the model's height and width, before the exact resizing.
SPARE = 2
# Of a picture, 0 to 255: less is noise of a sensor in the dark, or of a codec's one colour.
_LEAST_SPREAD = 2.0
_AGAIN_SPREAD = 4.0  # so much more it must be to be over: a night swings about the first
_FROZEN_SECONDS = 10.0
_FROZEN_FRAMES = 5


def picture_value(pixels: np.ndarray, spec: ImageSpec) -> Value:
    """uint8 (H, W, 3) -> an input (1, height, width, channels), or where that is large the same as
    a JPEG.
    """
    small = image_input(pixels, spec)  # (height, width, channels)
    if small.nbytes <= _MOST_ARRAY_BYTES:
        return small[np.newaxis]
    try:
        from PIL import Image
    except ImportError:
        return small[np.newaxis]

    file = io.BytesIO()
    grey_or_rgb = small[..., 0] if spec.channels == 1 else small
    Image.fromarray(grey_or_rgb).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


class Seeing:
    """Whether a camera shows something: frames of one colour, or for seconds the very same one, are
    said once, and once when that is over. Threads may call it at the same time.
    """

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name, self._say = name, say
        self._lock = threading.Lock()
        self._last: np.ndarray | None = None
        self._since = 0.0  # time.monotonic() of the first frame that was as the last
        self._same = 0
        self._wrong = ""  # what is, by now
        self._is_one_colour = False

    def look(self, pixels: np.ndarray) -> None:
        """uint8 (H, W, 3), of each frame that is asked."""
        with self._lock:
            wrong = self._what_is_wrong(pixels)
            if wrong and not self._wrong:
                self._say(f"{self._name} {wrong}, going on.")
            if self._wrong and not wrong:
                self._say(f"{self._name} shows something again.")
            self._wrong = wrong

    def _what_is_wrong(self, pixels: np.ndarray) -> str:
        now = time.monotonic()
        if self._last is None or not np.array_equal(self._last, pixels):
            self._last, self._since, self._same = pixels, now, 0
        self._same += 1

        colours = pixels.reshape(-1, pixels.shape[-1])  # (H * W, 3)
        least = _AGAIN_SPREAD if self._is_one_colour else _LEAST_SPREAD
        self._is_one_colour = bool(colours.std(axis=0).max() < least)
        if self._is_one_colour:
            red, green, blue = colours.mean(axis=0).round().astype(int)
            return f"shows one colour alone (red {red}, green {green}, blue {blue})"
        if self._same >= _FROZEN_FRAMES and now - self._since >= _FROZEN_SECONDS:
            return f"shows the very same picture for {now - self._since:.0f} s"
        return ""
