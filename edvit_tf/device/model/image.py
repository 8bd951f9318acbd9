"""Pictures: a file, or pixels -> uint8 of the size and the channels that the model takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edvit_tf.device.model.decode_picture import MAX_PIXELS, check_picture_size, decode_image
from edvit_tf.device.model.input_spec import Files, InputSpec, Source, smooth_map
from edvit_tf.device.model.resize import check_method, resize

_MAX_FILE_BYTES = 8 << 20
# Memory that a request's picture takes at most, decoded and resized: libwebp holds four copies of
# MAX_PIXELS at 4 bytes (256 MiB), and an eighth is to spare. Pillow's other decoders take half of
# that; tests/device/model/test_picture_memory.py measures them all.
DECODING_BYTES = MAX_PIXELS * 4 * 4 * 9 // 8
# A large JPEG is decoded at a fraction that has this many times the model's height and width: what
# libjpeg averages then is a small part of what the resizing averages anyway.
_SPARE = 2
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R 601


@dataclass(frozen=True)
class ImageSpec(InputSpec):
    """A picture, stretched as a whole to (height, width, channels), uint8 0..255."""

    height: int
    width: int
    channels: int  # 1 (grey) or 3 (RGB)
    resize: str = "bilinear"
    antialias: bool = True

    kind = name = modality = "image"
    dtype = "uint8"
    item = "picture"
    described = "picture (uint8, 0-255)"
    is_picture = True
    largest_file = f"encoded picture of {MAX_PIXELS >> 20} megapixels"

    def __post_init__(self) -> None:
        self.check_fields()
        check_method(self.resize, "ImageSpec.resize")
        if self.channels not in (1, 3):
            raise ValueError(
                f"ImageSpec.channels is {self.channels}; it must be 1 (grey) or 3 (RGB)."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def largest_file_bytes(self) -> int:
        """Bytes that the file of a request may have."""
        return _MAX_FILE_BYTES

    @property
    def decoding_bytes(self) -> int:
        """DECODING_BYTES, whatever the model takes."""
        return DECODING_BYTES

    def probe(self, source: Source) -> None:
        """Errors as `check_picture_size`."""
        check_picture_size(source)

    def from_file(self, source: Source, files: Files) -> np.ndarray:
        """A picture -> uint8 (1, height, width, channels); errors as `decode_image`."""
        at_least = None
        # without antialias a place of the result is made from one pixel, which must be there
        if self.antialias:
            at_least = _SPARE * self.height, _SPARE * self.width

        return image_input(decode_image(source, at_least), self)[np.newaxis]

    def golden_sample(self, seed: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        """uint8 (1, height, width, channels)."""
        smooth = smooth_map(self.shape, seed, mean, std)
        return smooth.clip(0, 255).round().astype(np.uint8)[np.newaxis]


def image_input(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """One picture, uint8 (H, W) or (H, W, C) -> uint8 (height, width, channels)."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return image_batch(pixels[None], spec)[0]


def image_batch(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 (N, H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA -> uint8 (N, height, width,
    channels).
    """
    pixels = np.asarray(pixels)
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 4
        or not 1 <= pixels.shape[-1] <= 4
        or not all(pixels.shape[1:])
    ):
        raise ValueError(
            f"Pictures of shape {pixels.shape}, {pixels.dtype}; uint8 (N, H, W, 1 to 4) is needed. "
            "Decode the file first, or scale to 0..255."
        )

    # alpha is dropped
    colour = pixels[..., : 3 if pixels.shape[-1] > 2 else 1]

    # a picture of the right size is left as it is
    if colour.shape[1:3] != (spec.height, spec.width):
        colour = resize(colour, spec.height, spec.width, spec.resize, spec.antialias)
    # after the resizing: there are fewer pixels by then
    colour = _with_channels(colour, spec.channels)  # (N, height, width, channels)

    # float32 since colours were mixed to a grey, or the size was changed
    if colour.dtype != np.uint8:
        colour = np.clip(np.rint(colour), 0, 255).astype(np.uint8)

    return np.ascontiguousarray(colour)


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(N, H, W, 1 or 3) -> (N, H, W, channels). float32 where colours are mixed to a grey, else as
    it came.
    """
    if channels == 3 and pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if channels == 1 and pixels.shape[-1] == 3:
        return pixels @ _LUMA

    return pixels
