"""The input of a request -> what the model takes, and the size that a message may have: nothing is
believed unseen.

A tensor has the manifest's name, type and shape, with finite numbers. An encoded file is decoded by
the bundle's input spec, as training decodes it, after its header was found to promise no more than
one request may bring.
"""

import math

import grpc
import numpy as np

from edvit_tf.device.errors import DecoderMissing, InputError, InputTooLarge
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc import messages, tensors

_MARGIN_BYTES = 64 << 10  # names, parameters, headers of a message


def message_limit(rule: BundleInput) -> int:
    """Bytes that a request may have: the tensor as typed contents (uint8 takes up to two bytes
    there), or a file.
    """
    tensor_bytes = math.prod(rule.shape) * max(2, rule.dtype.itemsize)
    return max(tensor_bytes, rule.spec.largest_file_bytes) + _MARGIN_BYTES


def request_input(
    arrays: dict[str, np.ndarray | list[bytes]], rule: BundleInput
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


def decoded(encoded: bytes, rule: BundleInput) -> np.ndarray:
    """The encoded file of a request, e.g. a picture or one window of sound -> (1, H, W, C).

    Raises WireError: FAILED_PRECONDITION where the decoder is not installed here, INVALID_ARGUMENT
    on an unusable file.
    """
    field = f"input '{rule.name}', encoded file"
    try:
        rule.spec.probe(encoded)
        inputs = rule.from_file(encoded)
    except InputTooLarge as error:
        raise messages.wrong(field, error.found, error.allowed) from error
    except InputError as error:
        found = f"{len(encoded)} bytes: {error}"
        raise messages.wrong(field, found, f"a {rule.spec.item}") from error
    except DecoderMissing as error:
        code = grpc.StatusCode.FAILED_PRECONDITION
        raise messages.WireError(f"{field}: {error}", code) from error
    if len(inputs) != 1:
        raise messages.wrong(field, f"{len(inputs)} windows", "one; send each window by itself")
    return inputs
