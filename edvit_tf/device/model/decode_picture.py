"""Picture files -> arrays, by Pillow, which is optional on a device and imported inside."""

import io
import struct

import numpy as np

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.device.model.input_spec import Source, file_bytes

# What Pillow raises on a damaged picture, besides its own DecompressionBombError.
_PICTURE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)


def decode_image(source: Source) -> np.ndarray:
    """JPEG, PNG, ... (path or bytes) -> uint8 (H, W) grey or (H, W, 3) RGB, upright as its EXIF
    says.

    InputError if it cannot be decoded; DecoderMissing without Pillow.
    """
    image, image_ops = _pillow()
    data = file_bytes(source)
    try:
        with image.open(io.BytesIO(data)) as opened:
            # a camera stores the picture as it was held, and says so
            picture = image_ops.exif_transpose(opened)
            if picture.mode.startswith("I"):
                # 16-bit grey: Pillow would clip it to 255, we keep the high byte
                deep = np.asarray(picture).astype(np.int64)
                return np.clip(deep >> 8, 0, 255).astype(np.uint8)

            # alpha goes, a palette becomes its colours
            grey = picture.mode in ("1", "L", "LA")
            return np.asarray(picture.convert("L" if grey else "RGB"))
    except (*_PICTURE_ERRORS, image.DecompressionBombError) as error:
        raise _unreadable_picture(error) from error


def picture_size(source: Source) -> tuple[int, int]:
    """(width, height) from a picture's header, decoding nothing; errors as `decode_image`."""
    image, _ = _pillow()
    data = file_bytes(source)
    try:
        with image.open(io.BytesIO(data)) as opened:
            return opened.size
    except (*_PICTURE_ERRORS, image.DecompressionBombError) as error:
        raise _unreadable_picture(error) from error


def _pillow() -> tuple:
    """Pillow's modules Image and ImageOps."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DecoderMissing(
            "Decoding pictures needs Pillow; `pip install pillow`, or send raw uint8 pixels."
        ) from error

    return Image, ImageOps


def _unreadable_picture(error: Exception) -> InputError:
    return InputError(f"Not a readable picture ({error}); a complete JPEG or PNG is needed.")
