"""What a kind of input brings: from the name of a model's tensor to how a file becomes one.

A spec is a frozen dataclass of plain numbers and names. It travels in a bundle's manifest, so that
a device prepares a file as training did. `input_kinds.py` lists the kinds; everything else asks a
spec, and never which kind it is.
"""

import dataclasses
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edvit_tf.device.errors import InputError, InputTooLarge

# What a bundle holds for its kind of input, by name: of a .npy file an array, of another its bytes.
Files = Mapping[str, Any]
Source = str | Path | bytes  # an encoded file: its path, or what it holds
# Of a file that is decoded as a whole, in memory: a recording of four hours at 16 kHz.
MOST_DECODED_BYTES = 512 << 20
_PART_BYTES = 1 << 20


class InputSpec(ABC):
    """A kind of input with its settings, which are the dataclass fields of a subclass."""

    kind: ClassVar[str]  # in the manifest, and in `input_kinds.KINDS`
    name: ClassVar[str]  # of the model's input tensor
    dtype: ClassVar[str]  # of that tensor, e.g. "uint8"
    modality: ClassVar[str]  # "image", "audio", ...: of the task, and of a data set
    item: ClassVar[str]  # what one file is called, e.g. "picture"
    described: ClassVar[str]  # the tensor in the words of a bundle's card
    is_picture: ClassVar[bool] = False  # pixels 0..255: may be turned, coloured, mixed as such
    is_sound: ClassVar[bool] = False  # brings sample_rate_hz, window_samples and from_samples
    is_text: ClassVar[bool] = False  # brings length and vocab_size
    has_views: ClassVar[bool] = True  # rows and columns, which a device may see in its own way
    # Its tensor is small and quickly made: an aggregator makes it once, for all of its devices.
    is_prepared_once: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ()  # that a bundle must hold for it
    may_be_zero: ClassVar[tuple[str, ...]] = ()  # fields of which 0 is allowed
    largest_file: ClassVar[str] = ""  # that file, in words

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch axis."""

    @property
    @abstractmethod
    def largest_file_bytes(self) -> int:
        """Bytes that the encoded file of a request may have."""

    @property
    def model_fields(self) -> dict[str, int]:
        """Fields of a model's configuration, beside its input's shape, that follow from this."""
        return {}

    @property
    def decoding_bytes(self) -> int:
        """Memory that decoding the largest file of a request takes at most."""
        return 0

    @abstractmethod
    def probe(self, source: Source) -> None:
        """Looks at a file's header, decoding nothing, before a request's file is decoded.

        Raises InputError if it is no such file, InputTooLarge if it promises more than one request
        may bring.
        """

    @abstractmethod
    def from_file(self, source: Source, files: Files) -> np.ndarray:
        """An encoded file -> (n, *shape) of `dtype`; n > 1 where a file is cut into windows.

        Raises InputError if it cannot be used, DecoderMissing if a decoder is not installed.
        """

    @abstractmethod
    def golden_sample(self, seed: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        """(1, *shape) of `dtype`, made up: what a device proves itself with.

        `mean` and `std` are those by which the model normalises its input; a kind whose values have
        none leaves them alone.
        """

    def why_not(self, x: np.ndarray) -> tuple[str, str] | None:
        """(what was found, what was expected) where a request's tensor, of the right type and
        shape, holds what no model may be given; None where it does not.
        """
        return None

    def check_files(self, files: Files) -> None:  # noqa: B027 (nothing is the rule)
        """Raises ValueError where `files` are not what this spec was made with."""

    @property
    def task(self) -> str:
        """ "image-classification", ..."""
        return f"{self.modality}-classification"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary of JSON types, with its kind."""
        return {"kind": self.kind, **dataclasses.asdict(self)}  # type: ignore[call-overload]

    def check_fields(self) -> None:
        """Types and ranges of the fields; ValueError names the field."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            name = f"{type(self).__name__}.{field.name}"
            number = isinstance(value, int | float) and not isinstance(value, bool)

            # a whole number does for a float; True does for neither
            wanted: Any = field.type
            if wanted is float:
                fits = number
            else:
                fits = isinstance(value, wanted) and number == (wanted is int)

            if not fits:
                raise ValueError(f"{name} is {value!r}; it must be of type {wanted.__name__}.")

            allowed_zero = value == 0 and field.name in self.may_be_zero
            if number and not value > 0 and not allowed_zero:
                raise ValueError(f"{name} is {value!r}; it must be positive.")


def smooth_map(
    shape: tuple[int, int, int], seed: int, mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """float64 (H, W, C) of `mean` and `std`, made from the seed: 8 x 8 fields of one value each."""

    height, width, channels = shape
    coarse = np.random.default_rng(seed).normal(size=(8, 8, channels))  # (8, 8, C)

    # which row and column of the coarse map a pixel takes
    rows = np.linspace(0, 7, height).round().astype(int)
    columns = np.linspace(0, 7, width).round().astype(int)

    return np.array(mean) + np.array(std) * coarse[rows][:, columns]


def file_bytes(source: Source, most_bytes: int | None = None) -> bytes:
    """What an encoded file holds, given by its path or already read. InputError if it cannot be
    read, InputTooLarge for more than `most_bytes`.
    """
    if isinstance(source, bytes):
        return source
    try:
        if most_bytes is not None:
            return read_at_most(source, most_bytes)
        return Path(source).read_bytes()
    except OSError as error:
        raise InputError(unreadable(error)) from error


def read_at_most(path: str | Path, most_bytes: int) -> bytes:
    """What a file holds, or a pipe to its end. Raises OSError, and InputTooLarge for more."""
    most = f"{most_bytes / 2**20:.0f} MiB"
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            if status.st_size > most_bytes:
                raise InputTooLarge(f"{status.st_size / 2**20:.0f} MiB", f"{most} at most")
            return file.read()

        # a pipe or a device does not say how much it holds, and may have no end
        parts: list[bytes] = []
        left = most_bytes
        while part := file.read(_PART_BYTES):
            left -= len(part)
            if left < 0:
                raise InputTooLarge(f"more than {most}", f"{most} at most")
            parts.append(part)
        return b"".join(parts)


def unreadable(error: OSError) -> str:
    """Why a file cannot be read, in words."""
    # the text of an OSError would hold the path, which has no place in a manifest or an answer
    return f"it cannot be read: {error.strerror or type(error).__name__}"
