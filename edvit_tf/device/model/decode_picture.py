"""Picture files -> arrays, by Pillow, which is optional on a device and imported inside.

A file may come from anybody. So only the FORMATS that training reads are tried, of the EXIF data
the orientation alone is read (`exif.py`), and whatever a decoder raises is one error.
"""

import io
import re
import warnings

import numpy as np

from edvit_tf.device.errors import DecoderMissing, InputError, InputTooLarge
from edvit_tf.device.model.exif import orientation, upright
from edvit_tf.device.model.input_spec import Source, file_bytes

# As Pillow names them; "MPO", a JPEG with further pictures behind it, is opened as JPEG.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
# The same in words, for messages.
FORMAT_WORDS = "JPEG, PNG, BMP, GIF or WebP"

# Of a request's picture. What decoding one of them costs at most is image.DECODING_BYTES.
MAX_PIXELS = 16 << 20
MAX_SIDE = 16_384  # twice the width of the widest screens and of a phone's panorama
MAX_RATIO = 64  # of the longer side to the shorter

# Scans of a JPEG: a progressive one has about ten. Each is a pass over the whole picture, however
# few bytes it has.
_MAX_SCANS = 64
# Segments of a JPEG, scans among them: 8 MiB of EXIF and other data in segments of 64 KiB are 128,
# and a scan may bring eight tables.
_MAX_SEGMENTS = 4096
# What begins a segment, or ends the picture. Like libjpeg this passes over pixels (in which FF is
# followed by 00), marks of a restart (D0 to D7), and whatever is not known.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_START_OF_SCAN = 0xDA
_END_OF_PICTURE = 0xD9

_STRIP_BYTES = 1 << 20  # of Pillow's pixels, 4 bytes each, that are copied at a time


def decode_image(source: Source, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """A picture of FORMATS (path or bytes) -> uint8 (H, W) grey or (H, W, 3) RGB, upright as its
    EXIF says.

    With `at_least` (height, width) a large JPEG is decoded at a half, a quarter or an eighth of its
    size where that is still no smaller; it takes a fraction of the time. InputError if it cannot be
    decoded; DecoderMissing without Pillow.
    """
    image = _pillow()
    data = file_bytes(source)
    _check_scans(data)
    try:
        with _opened(image, data) as picture:
            if at_least is not None:
                _draft(picture, at_least)

            picture.load()
            # a PNG may have its EXIF data behind its pixels
            turn = orientation(picture.info)
            pixels = _pixels(picture)
    except MemoryError:
        raise
    # which exceptions a decoder has depends on the file, and any of them is the file's fault
    except Exception as error:
        raise _unreadable_picture(error) from error

    return upright(pixels, turn)


def check_picture_size(source: Source) -> None:
    """InputTooLarge for a picture of more than MAX_PIXELS, MAX_SIDE or MAX_RATIO, by its header,
    decoding nothing; errors as `decode_image`.
    """
    image = _pillow()
    try:
        with _opened(image, file_bytes(source)) as picture:
            width, height = picture.size
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable_picture(error) from error

    found = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise InputTooLarge(found, f"at most {MAX_PIXELS}")
    if max(width, height) > MAX_SIDE:
        raise InputTooLarge(found, f"sides of at most {MAX_SIDE}")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise InputTooLarge(found, f"a longer side of at most {MAX_RATIO} times the shorter")


def _pillow():
    """Pillow's module Image, with what opens the FORMATS."""
    try:
        from PIL import Image, WebPImagePlugin  # noqa: F401 (Pillow loads the others by itself)
    except ImportError as error:
        raise DecoderMissing(
            "Decoding pictures needs Pillow; `pip install pillow`, or send raw uint8 pixels."
        ) from error

    # Pillow warns, on standard error, of oddities in a file; ours to judge are the pixels
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


def _opened(image, data: bytes):
    """The picture, opened by its header."""
    image.preinit()
    # a build of Pillow may lack one of them, and would look for it in all other formats
    formats = [name for name in FORMATS if name in image.OPEN]
    return image.open(io.BytesIO(data), formats=formats)


def _check_scans(data: bytes) -> None:
    """InputError for a JPEG that would keep a decoder busy for minutes.

    Its segments are walked by their lengths, to the end of the first picture: what they hold, and
    the video that a phone puts behind a picture, have such bytes by chance.
    """
    if not data.startswith(b"\xff\xd8"):
        return

    place = 2
    scans = 0
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, place)
        # without an end it goes to the decoder, which says what is amiss
        if marker is None or data[marker.end() - 1] == _END_OF_PICTURE:
            return

        scans += data[marker.end() - 1] == _START_OF_SCAN
        if scans > _MAX_SCANS:
            raise InputError(
                f"A JPEG of more than {_MAX_SCANS} scans; at most {_MAX_SCANS} are decoded. Write "
                "the file again."
            )

        # the length counts itself, two bytes
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        place = marker.end() + max(length, 2)

    raise InputError(
        f"A JPEG of more than {_MAX_SEGMENTS} segments; at most {_MAX_SEGMENTS} are read. Write "
        "the file again."
    )


def _draft(picture, at_least: tuple[int, int]) -> None:
    """Lets libjpeg decode a JPEG at a fraction; no other format has it."""
    height, width = at_least
    # as the file has it, which is turned afterwards
    if orientation(picture.info) >= 5:
        height, width = width, height
    picture.draft(None, (width, height))


def _pixels(picture) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) of a loaded picture; alpha goes, a palette becomes its colours."""
    width, height = picture.size
    is_grey = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
    pixels = np.empty((height, width) if is_grey else (height, width, 3), np.uint8)

    # a strip at a time: Pillow would make two further copies of the whole
    rows = max(1, _STRIP_BYTES // (4 * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = picture if rows >= height else picture.crop((0, top, width, bottom))
        pixels[top:bottom] = _strip(strip, is_grey)

    return pixels


def _strip(strip, is_grey: bool) -> np.ndarray:
    if strip.mode.startswith("I"):
        # 16-bit grey: Pillow would clip it to 255, we keep the high byte
        deep = np.asarray(strip).astype(np.int32)
        return np.clip(deep >> 8, 0, 255)

    return np.asarray(strip.convert("L" if is_grey else "RGB"))


def _unreadable_picture(error: Exception) -> InputError:
    # what Pillow says of bytes that it does not know holds an address of ours
    words = str(error)
    if type(error).__name__ == "UnidentifiedImageError":
        words = f"it is none of {FORMAT_WORDS}"
    return InputError(
        f"Not a readable picture ({words or type(error).__name__}); a complete "
        f"{FORMAT_WORDS} file is needed."
    )
