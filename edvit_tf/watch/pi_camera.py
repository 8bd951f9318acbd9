"""Frames of a Raspberry Pi's own camera, by picamera2, which its system brings."""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np

from edvit_tf.errors import SourceError
from edvit_tf.watch.reopening import SourceLost
from edvit_tf.watch.video import Frame

_SIZE = (1280, 720)


@contextlib.contextmanager
def opened_pi_camera() -> Iterator[Iterator[Frame]]:
    """Its frames. Raises SourceError without picamera2, SourceLost without a camera."""
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise SourceError(
            "--camera pi needs picamera2. Run: sudo apt install python3-picamera2, and make the "
            "virtual environment with --system-site-packages."
        ) from error

    try:
        camera = Picamera2()
        # its BGR888 is what numpy calls RGB
        camera.configure(
            camera.create_video_configuration(main={"size": _SIZE, "format": "BGR888"})
        )
        camera.start()
    except (RuntimeError, IndexError, OSError) as error:  # an IndexError: no camera at all
        raise SourceLost(f"the Pi's camera cannot be started: {error}.") from error
    try:
        yield _frames(camera)
    except (RuntimeError, OSError) as error:
        raise SourceLost(f"the Pi's camera stopped: {error}.") from error
    finally:
        camera.stop()
        camera.close()


def _frames(camera) -> Iterator[Frame]:
    while True:
        yield Frame(None, functools.partial(_whole, camera.capture_array("main")))


def _whole(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Of that size whatever is asked: it is small enough."""
    return pixels
