"""Tensors and parameters of the Open Inference Protocol's messages: arrays in and out, errors that
say what is wrong.

Everything that another machine sent is checked here before it becomes an array: names, types,
shapes, byte counts. `messages.py` has the messages themselves.
"""

import math
import struct

import numpy as np

from edvit_tf.device.rpc.message_counts import MAX_STRINGS
from edvit_tf.device.rpc.messages import MODEL_VERSION, checked, new, wrong

_NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
# BYTES are no numpy type
DTYPES = {name: np.dtype(kind).newbyteorder("<") for name, kind in _NUMPY.items()}
DATATYPES = {np.dtype(kind): name for name, kind in _NUMPY.items()}
_TYPED = {  # FP16 has no typed contents
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_MAX_DIMENSIONS = 8
Parameter = bool | int | float | str


def infer_request(
    model: str,
    inputs: dict[str, np.ndarray | bytes],
    *,
    request_id: str = "",
    parameters: dict[str, Parameter] | None = None,
):
    """A ModelInferRequest with raw contents; bytes become a BYTES [1] tensor, an encoded file."""
    request = new("ModelInferRequest", model_name=model, id=request_id)
    for name, value in inputs.items():
        request.raw_input_contents.append(_add_tensor(request.inputs, name, value))
    set_parameters(request, parameters or {})
    return request


def infer_response(
    model: str,
    outputs: dict[str, np.ndarray | list[str]],
    *,
    request_id: str = "",
    parameters: dict[str, Parameter] | None = None,
):
    """A ModelInferResponse with raw contents; a list of strings becomes a BYTES tensor."""
    response = new(
        "ModelInferResponse", model_name=model, model_version=MODEL_VERSION, id=request_id
    )
    for name, value in outputs.items():
        response.raw_output_contents.append(_add_tensor(response.outputs, name, value))
    set_parameters(response, parameters or {})
    return response


def _add_tensor(tensors_of_message, name: str, value: np.ndarray | bytes | list[str]) -> bytes:
    """Appends the description of a tensor; returns its raw contents."""
    if isinstance(value, np.ndarray):
        # a tensor names its type alone; its bytes are little-endian, whatever the machine's are
        datatype = DATATYPES[value.dtype.newbyteorder("=")]
        tensors_of_message.add(name=name, datatype=datatype, shape=value.shape)
        return value.astype(DTYPES[datatype], copy=False).tobytes()

    # an encoded file, or strings: before each element stands its length
    elements = [value] if isinstance(value, bytes) else [text.encode() for text in value]
    tensors_of_message.add(name=name, datatype="BYTES", shape=[len(elements)])
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def arrays(received) -> dict[str, np.ndarray | list[bytes]]:
    """The inputs of a ModelInferRequest or the outputs of a ModelInferResponse by name, from raw or
    typed contents.

    Arrays have the message's shape and may be read-only views of its bytes; BYTES come as a list.
    Values are not looked at: NaN and Inf are the caller's business. Raises WireError on garbage,
    duplicate names, unknown types, bad shapes, other byte or element counts than the shape says, or
    raw contents beside typed ones.
    """
    side = "input" if checked(received).DESCRIPTOR.name == "ModelInferRequest" else "output"
    described = getattr(received, f"{side}s")
    raws = getattr(received, f"raw_{side}_contents")
    if raws and len(raws) != len(described):
        raise wrong(
            f"raw_{side}_contents", f"{len(raws)} entries", f"{len(described)}, one for each {side}"
        )

    found: dict[str, np.ndarray | list[bytes]] = {}
    for place, tensor in enumerate(described):
        field = f"{side} {tensor.name[:64]!r}"
        if tensor.name in found:
            raise wrong(field, "this name twice", "each name once")
        if any(name.startswith("shared_memory") for name in tensor.parameters):
            raise wrong(field, "a shared memory region", "the tensor's contents in the message")

        shape = _shape(field, tensor)
        if not raws:
            found[tensor.name] = _from_typed(field, tensor.datatype, tensor.contents, shape)
        elif tensor.HasField("contents"):
            raise wrong(field, f"both typed contents and raw_{side}_contents", "one of them")
        else:
            found[tensor.name] = _from_raw(field, tensor.datatype, raws[place], shape)

    return found


def _shape(field: str, tensor) -> tuple[int, ...]:
    """The shape of a tensor of a type that there is."""
    if tensor.datatype not in _TYPED and tensor.datatype != "FP16":
        known = ", ".join([*DTYPES, "BYTES"])
        raise wrong(f"{field}, datatype", repr(tensor.datatype[:32]), known)

    shape = tuple(tensor.shape)
    if len(shape) > _MAX_DIMENSIONS or any(size < 1 for size in shape):
        raise wrong(
            f"{field}, shape",
            str(list(shape[: _MAX_DIMENSIONS + 1])),
            f"at most {_MAX_DIMENSIONS} sizes, all positive",
        )

    return shape


def _from_raw(
    field: str, datatype: str, raw: bytes, shape: tuple[int, ...]
) -> np.ndarray | list[bytes]:
    if datatype == "BYTES":
        return _elements(field, raw, shape)

    # exact, however large a peer makes the sizes: Python's integers do not overflow
    size = math.prod(shape) * DTYPES[datatype].itemsize
    if len(raw) != size:
        raise wrong(field, f"{len(raw)} bytes", f"{size}, which is {datatype} {list(shape)}")
    return np.frombuffer(raw, DTYPES[datatype]).reshape(shape)


def _elements(field: str, raw: bytes, shape: tuple[int, ...]) -> list[bytes]:
    """The elements of a BYTES tensor: of each its length, then itself."""
    count = _string_count(field, shape)
    elements: list[bytes] = []
    place = 0
    # no further than to the first that is one too many: there may be millions
    while place < len(raw) and len(elements) <= count:
        start = place + 4
        end = start + int.from_bytes(raw[place:start], "little")
        if end > len(raw):
            raise wrong(
                field,
                f"{len(raw)} bytes that end within an element",
                "for each element 4 bytes of length (little-endian), then its bytes",
            )

        elements.append(raw[start:end])
        place = end

    if len(elements) != count:
        more = "" if place == len(raw) else " and more"
        raise wrong(
            field, f"{len(elements)} elements{more}", f"{count}, which is BYTES {list(shape)}"
        )

    return elements


def _string_count(field: str, shape: tuple[int, ...]) -> int:
    """How many elements a BYTES tensor has. Raises WireError for more than are worth a walk."""
    count = math.prod(shape)
    if count > MAX_STRINGS:
        raise wrong(field, f"BYTES {list(shape)}", f"{MAX_STRINGS} elements at most")
    return count


def _from_typed(
    field: str, datatype: str, contents, shape: tuple[int, ...]
) -> np.ndarray | list[bytes]:
    if datatype not in _TYPED:
        raise wrong(
            field, f"{datatype} without raw contents", f"raw contents: {datatype} has no typed ones"
        )

    typed = _TYPED[datatype]
    values = getattr(contents, typed)
    filled = [part.name for part, _ in contents.ListFields() if part.name != typed]
    if filled:
        raise wrong(
            field, f"{datatype} with {filled[0]}", f"{datatype} in {typed}, or raw contents"
        )

    count = _string_count(field, shape) if datatype == "BYTES" else math.prod(shape)
    if len(values) != count:
        raise wrong(
            field,
            f"{len(values)} elements in {typed}",
            f"{count}, which is {datatype} {list(shape)}",
        )

    if datatype == "BYTES":
        return list(values)

    return _narrowed(field, datatype, values).reshape(shape)


def _narrowed(field: str, datatype: str, values) -> np.ndarray:
    """Typed contents, which are 32 or 64 bits wide, as the type that they stand for."""
    dtype = DTYPES[datatype]
    if dtype.kind in "fb":
        return np.array(values, dtype)

    # wide enough to see what is out of range, before numpy wraps it round
    wide = np.array(values, np.dtype("<u8" if dtype.kind == "u" else "<i8"))
    allowed = np.iinfo(datatype.lower())
    if wide.size and not (allowed.min <= wide.min() and wide.max() <= allowed.max):
        raise wrong(
            field,
            f"values from {wide.min()} to {wide.max()}",
            f"{allowed.min} to {allowed.max}, the range of {datatype}",
        )

    return wide.astype(dtype)


def parameters(received) -> dict[str, Parameter]:
    """The parameters of a request or a response as Python values; one that holds no value is left
    out.
    """
    found = {}
    for name, value in checked(received).parameters.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is not None:
            found[name] = getattr(value, kind)

    return found


def set_parameters(target, values: dict[str, Parameter]) -> None:
    """Sets parameters of a request or a response; a bool stays a bool, an int an int64, a float a
    double.
    """
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    for name, value in values.items():
        setattr(target.parameters[name], kinds[type(value)], value)
