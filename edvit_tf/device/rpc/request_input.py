"""The input of a request -> what the model takes, and the size that a message may have: nothing is
believed unseen.

A tensor has the manifest's name, type and shape, with finite numbers. An encoded file is decoded by
`preprocess`, the one implementation, after its header was found to promise no more than MAX_PIXELS
or one window of sound.
"""

import math
from dataclasses import dataclass

import grpc
import numpy as np

from edvit_tf.device.model import preprocess
from edvit_tf.device.model.bundle import Bundle, BundleError
from edvit_tf.device.model.decode import probe_audio
from edvit_tf.device.model.predict import mel_filters
from edvit_tf.device.rpc import messages, tensors

MAX_PIXELS = 16 << 20  # of an encoded picture: some 300 MB while it is resized
MAX_PICTURE_BYTES = 8 << 20  # of its file
_MARGIN_BYTES = 64 << 10  # names, parameters, headers of a message
_SAMPLE_BYTES = 2 * 4  # of an encoded recording: two channels of float32 at most


@dataclass(frozen=True)
class InputRule:
    """What a request must bring: a tensor `name` of `dtype` and `shape` (1, H, W, C), or an encoded
    file.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, int, int, int]
    spec: preprocess.ImageSpec | preprocess.MelSpec
    mel_filters: np.ndarray | None


def input_rule(bundle: Bundle) -> InputRule:
    """The rule in a bundle's manifest; raises BundleError if it cannot be used."""
    try:
        given = bundle.manifest["input"]
        rule = InputRule(
            str(given["name"]),
            np.dtype(given["dtype"]),
            (1, *(int(n) for n in given["shape"])),
            preprocess.spec_from_dict(given["spec"]),
            mel_filters(bundle),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"the input of {bundle.path} cannot be used ({error}). Export the bundle again."
        ) from error
    channels = getattr(rule.spec, "channels", 1)
    if rule.dtype not in tensors.DATATYPES or rule.shape != (
        1,
        rule.spec.height,
        rule.spec.width,
        channels,
    ):
        raise BundleError(
            f"the input of {bundle.path} is {rule.dtype} {list(rule.shape)}; its spec gives [1, "
            f"{rule.spec.height}, {rule.spec.width}, {channels}]. Export the bundle again."
        )
    return rule


def message_limit(rule: InputRule) -> int:
    """Bytes that a request may have: the tensor as typed contents (uint8 takes up to two bytes
    there), or a file.
    """
    tensor = math.prod(rule.shape) * max(2, rule.dtype.itemsize)
    if isinstance(rule.spec, preprocess.ImageSpec):
        return max(tensor, MAX_PICTURE_BYTES) + _MARGIN_BYTES
    return max(tensor, rule.spec.window_samples * 3 // 2 * _SAMPLE_BYTES) + _MARGIN_BYTES


def request_input(
    arrays: dict[str, np.ndarray | list[bytes]], rule: InputRule
) -> np.ndarray | bytes:
    """The one input of a request: an array of the rule's shape and type, or an encoded file. Raises
    WireError.
    """
    if set(arrays) != {rule.name}:
        raise messages.wrong(
            "inputs", f"{[name[:64] for name in list(arrays)[:8]]}", f"['{rule.name}']"
        )
    value, field = arrays[rule.name], f"input '{rule.name}'"
    if isinstance(value, list):
        if len(value) != 1 or not value[0]:
            raise messages.wrong(
                f"{field}, BYTES",
                f"{len(value)} elements of {[len(v) for v in value[:4]]} bytes",
                "one encoded file, BYTES [1]",
            )
        return value[0]
    if value.dtype != rule.dtype:
        raise messages.wrong(
            f"{field}, datatype",
            tensors.DATATYPES[value.dtype.newbyteorder("=")],
            f"{tensors.DATATYPES[rule.dtype]}, or BYTES for an encoded file",
        )
    if value.shape != rule.shape:
        raise messages.wrong(
            f"{field}, shape", str(list(value.shape)), f"{list(rule.shape)}; the batch is always 1"
        )
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        bad = int(np.count_nonzero(~np.isfinite(value)))
        raise messages.wrong(field, f"{bad} values that are NaN or Inf", "finite numbers")
    return value


def decoded(encoded: bytes, rule: InputRule) -> np.ndarray:
    """An encoded picture or one window of sound -> (1, H, W, C).

    Raises WireError: FAILED_PRECONDITION where the decoder is not installed here, INVALID_ARGUMENT
    on an unusable file.
    """
    field = f"input '{rule.name}', encoded file"
    try:
        if isinstance(rule.spec, preprocess.MelSpec):
            frames, _ = probe_audio(encoded)
            count = len(preprocess.windows(frames, rule.spec.window_samples))
            if count > 1:
                raise messages.wrong(
                    field,
                    f"{frames} samples, {count} windows",
                    f"one window of {rule.spec.window_samples}; send each window by itself",
                )
        return preprocess.inputs_from_file(encoded, rule.spec, rule.mel_filters, MAX_PIXELS)
    except ValueError as error:
        raise messages.wrong(
            field,
            f"{len(encoded)} bytes: {error}",
            "a picture" if rule.mel_filters is None else "a recording",
        ) from error
    except RuntimeError as error:
        raise messages.WireError(
            f"{field}: {error}", grpc.StatusCode.FAILED_PRECONDITION
        ) from error
