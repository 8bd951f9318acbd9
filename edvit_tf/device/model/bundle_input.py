"""The input of a bundle: its spec, with the files that preparing an input takes."""

import functools
import threading
from dataclasses import dataclass, field

import numpy as np

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.array_file import read_npy
from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.input_kinds import spec_from_dict
from edvit_tf.device.model.input_spec import Files, InputSpec, Source


@dataclass(frozen=True)
class BundleInput:
    """What the models of a bundle take, and how a file becomes it."""

    spec: InputSpec
    files: Files
    _decoding: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    # Computed once: each request is held against them.

    @functools.cached_property
    def name(self) -> str:
        """Of the models' input tensor."""
        return self.spec.name

    @functools.cached_property
    def dtype(self) -> np.dtype:
        return np.dtype(self.spec.dtype)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """With the batch axis, which is 1."""
        return (1, *self.spec.shape)

    def from_file(self, source: Source) -> np.ndarray:
        """An encoded file -> (n, ...); raises InputError, DecoderMissing.

        One file at a time, whichever thread brings it: `decoding_bytes` is reckoned once for a
        process.
        """
        with self._decoding:
            return self.spec.from_file(source, self.files)


def bundle_input(bundle: Bundle) -> BundleInput:
    """The input of a bundle, its files verified and loaded; BundleError if it cannot be used."""
    try:
        given = bundle.input
        spec = spec_from_dict(given.spec)
        tensor = str(given.name), str(np.dtype(given.dtype)), list(given.shape)
    # the last two: a number too large to be reckoned with, a type that numpy cannot read
    except (TypeError, ValueError, ArithmeticError, SyntaxError) as error:
        raise BundleError(
            f"the input of {bundle.path} cannot be used ({error}). Export the bundle again."
        ) from error

    # The tensor as it was exported, and the one that the spec makes: they must agree.
    name, dtype, shape = tensor
    if tensor != (spec.name, spec.dtype, list(spec.shape)):
        raise BundleError(
            f"the input of {bundle.path} is {name}, {dtype} {[1, *shape]}; its spec gives "
            f"{[1, *spec.shape]}, {spec.dtype}, named {spec.name}. Export the bundle again."
        )

    lacking = [file for file in spec.files if file not in bundle.input_files]
    if lacking:
        raise BundleError(
            f"the input of {bundle.path} lacks {', '.join(lacking)}. Export the bundle again."
        )

    files = {file: _loaded(bundle, file) for file in bundle.input_files}
    try:
        spec.check_files(files)
    except ValueError as error:
        raise BundleError(
            f"the input of {bundle.path} cannot be used ({error}). Export the bundle again."
        ) from error
    return BundleInput(spec, files)


def _loaded(bundle: Bundle, file: str) -> np.ndarray | bytes:
    path = verified_path(bundle, file)
    try:
        return read_npy(path) if path.suffix == ".npy" else path.read_bytes()
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} is not as a recipe writes it ({error}). Copy the bundle again, or export it "
            "again."
        ) from error
