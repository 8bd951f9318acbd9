"""What a request brings -> what the model takes, and the size that a message may have: nothing is
believed unseen.

A tensor has the manifest's name, type and shape, with finite numbers. An encoded file is decoded by
the bundle's input spec, as training decodes it, after its header was found to promise no more than
one request may bring.
"""

import math
from collections.abc import Sequence

import grpc
import numpy as np

from edvit_tf.device.errors import DecoderMissing, InputError, InputTooLarge
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc import messages, tensors

_MARGIN_BYTES = 64 << 10  # names, parameters, headers of a message


def message_limit(model_input: BundleInput) -> int:
    """Bytes that a request may have: the tensor as typed contents (uint8 takes up to two bytes
    there), or a file.
    """
    tensor_bytes = math.prod(model_input.shape) * max(2, model_input.dtype.itemsize)
    return max(tensor_bytes, model_input.spec.largest_file_bytes) + _MARGIN_BYTES


def request_input(
    arrays: dict[str, np.ndarray | list[bytes]], model_input: BundleInput
) -> np.ndarray | bytes:
    """The one input of a request: an array of the model's shape and type, or an encoded file.
    Raises WireError.
    """
    if set(arrays) != {model_input.name}:
        raise messages.wrong(
            "inputs", f"{[name[:64] for name in list(arrays)[:8]]}", f"['{model_input.name}']"
        )

    # a list is BYTES: an encoded file, which is decoded later, in its turn
    value = arrays[model_input.name]
    field = f"input '{model_input.name}'"
    if isinstance(value, list):
        if len(value) != 1 or not value[0]:
            raise messages.wrong(
                f"{field}, BYTES",
                f"{len(value)} elements of {[len(v) for v in value[:4]]} bytes",
                "one encoded file, BYTES [1]",
            )

        return value[0]

    if value.dtype != model_input.dtype:
        raise messages.wrong(
            f"{field}, datatype",
            tensors.DATATYPES[value.dtype.newbyteorder("=")],
            f"{tensors.DATATYPES[model_input.dtype]}, or BYTES for an encoded file",
        )

    if value.shape != model_input.shape:
        raise messages.wrong(
            f"{field}, shape",
            str(list(value.shape)),
            f"{list(model_input.shape)}; the batch is always 1",
        )

    if value.dtype.kind == "f" and not np.isfinite(value).all():
        bad = int(np.count_nonzero(~np.isfinite(value)))
        raise messages.wrong(field, f"{bad} values that are NaN or Inf", "finite numbers")

    why = model_input.spec.why_not(value)
    if why is not None:
        raise messages.wrong(field, *why)
    return value


def decoded(encoded: bytes, model_input: BundleInput) -> np.ndarray:
    """The encoded file of a request, e.g. a picture or one window of sound -> (1, H, W, C).

    Raises WireError: FAILED_PRECONDITION where the decoder is not installed here, INVALID_ARGUMENT
    on an unusable file.
    """
    field = f"input '{model_input.name}', encoded file"
    try:
        model_input.spec.probe(encoded)
        inputs = model_input.from_file(encoded)
    except InputTooLarge as error:
        raise messages.wrong(field, error.found, error.allowed) from error
    except InputError as error:
        found = f"{len(encoded)} bytes: {error}"
        raise messages.wrong(field, found, f"a {model_input.spec.item}") from error
    except DecoderMissing as error:
        code = grpc.StatusCode.FAILED_PRECONDITION
        raise messages.WireError(f"{field}: {error}", code) from error

    if len(inputs) != 1:
        raise messages.wrong(field, f"{len(inputs)} windows", "one; send each window by itself")
    return inputs


def requested_model(field: str, name: str, version: str, names: Sequence[str]) -> str:
    """The name of one of the models `names`; raises WireError for another, and for another
    version.
    """
    if name not in names:
        raise messages.wrong(field, repr(name[:64]), f"one of {list(names)}")
    if version not in ("", messages.MODEL_VERSION):
        raise messages.wrong(
            f"version of {name}", repr(version[:64]), f"'{messages.MODEL_VERSION}' or none"
        )

    return name


def requested_outputs(request, outputs: Sequence[str]) -> list[str]:
    """The outputs that a request names, or all. Raises WireError for unknown ones."""
    for output in request.outputs:
        if output.name not in outputs:
            raise messages.wrong(
                "outputs", repr(output.name[:64]), f"names of {list(outputs)}, or none for all"
            )

        if output.parameters:
            raise messages.wrong(
                f"output '{output.name}', parameters",
                f"{sorted(output.parameters)[:4]}",
                "none: there is no classification and no shared memory here",
            )

    # each once, in the order in which it was asked for
    names = dict.fromkeys(output.name for output in request.outputs)
    return list(names) or list(outputs)


def seconds_left(request, context, most: float) -> float:
    """What a request has: its call's deadline, and its parameter `timeout` (microseconds, as
    Triton's; 0: none).

    `most` seconds at most, and without either. Raises WireError for a timeout that is no such
    number.
    """
    left = context.time_remaining()
    left = most if left is None else min(left, most)
    if "timeout" not in request.parameters:  # reading a map's entry would make one
        return left

    # a bool is an int to Python, and no number of microseconds
    timeout = tensors.parameters(request).get("timeout")
    if type(timeout) is not int or timeout < 0:
        raise messages.wrong(
            "parameter 'timeout'", repr(timeout)[:64], "microseconds, an integer of 0 or more"
        )

    return min(left, timeout / 1e6) if timeout else left
