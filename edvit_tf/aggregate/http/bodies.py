"""Bodies of the Open Inference Protocol over HTTP <-> the messages that gRPC carries.

A body is JSON, and behind it may stand the contents of tensors as bytes; a header says where the
JSON ends (`Inference-Header-Content-Length`). With 0 there is no JSON: the whole body is the one
input, an encoded file. So `curl --data-binary @cat.jpg` is a request.

What is built here is checked where the messages of gRPC are: names, types, shapes, sizes.

Source: KServe's "Open Inference Protocol (V2)" and Triton's "Binary Tensor Data Extension".
"""

import base64
import binascii
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.message_counts import (
    MAX_PARAMETERS,
    MAX_REQUESTED_OUTPUTS,
    MAX_STRINGS,
    MAX_TENSORS,
)

JSON_ENDS = "inference-header-content-length"  # of a request's headers, and of an answer's
_BASE64 = "base64"  # an input's parameter content_type, where its JSON strings are no text
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # of numbers in JSON that a type may have


class Wanted(NamedTuple):
    """How the outputs are to be sent."""

    binary: bool = False  # those that are not named below
    named: dict[str, bool] = {}  # noqa: RUF012 (nobody changes it)

    def is_binary(self, output: str) -> bool:
        return self.named.get(output, self.binary)


def infer_message(
    body: bytes, json_ends: int | None, model: str, version: str, only_input: str
) -> tuple[bytes, Wanted]:
    """(ModelInferRequest as bytes, how the outputs are wanted) of a body. `json_ends` is the
    header's number, or None: all of it is JSON. Raises WireError.
    """
    if json_ends == 0:
        request = tensors.infer_request(model, {only_input: body})
        request.model_version = version
        return request.SerializeToString(), Wanted()
    if json_ends is not None and json_ends > len(body):
        raise messages.wrong(JSON_ENDS, json_ends, f"at most the body's {len(body)} bytes")

    said = _object(body[:json_ends])
    binary = b"" if json_ends is None else body[json_ends:]
    request = messages.new(
        "ModelInferRequest",
        model_name=model,
        model_version=version,
        id=_text("id", said.get("id", "")),
    )
    parameters = _parameters("parameters", said.get("parameters", {}))
    wanted = Wanted(_flag("binary_data_output", parameters.pop("binary_data_output", False)), {})
    tensors.set_parameters(request, parameters)

    place = 0
    for tensor in _list("inputs", said.get("inputs"), MAX_TENSORS):
        place = _add_input(request, tensor, binary, place)
    if place != len(binary):
        raise messages.wrong(
            "binary data", f"{len(binary)} bytes", f"{place}, the sum of binary_data_size"
        )

    for output in _list("outputs", said.get("outputs", []), MAX_REQUESTED_OUTPUTS):
        name = _text("an output's name", output.get("name"))
        of_output = _parameters(f"output {name[:64]!r}, parameters", output.get("parameters", {}))
        binary_data = of_output.pop("binary_data", wanted.binary)
        wanted.named[name] = _flag("binary_data", binary_data)
        tensors.set_parameters(request.outputs.add(name=name), of_output)

    return request.SerializeToString(), wanted


def _object(data: bytes) -> dict:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise messages.wrong(
            "body", f"{len(data)} bytes that are no JSON ({str(error)[:100]})", "a JSON object"
        ) from None
    if not isinstance(said, dict):
        raise messages.wrong("body", f"a JSON {type(said).__name__}", "a JSON object")
    return said


def _add_input(request, tensor: dict, binary: bytes, place: int) -> int:
    """Adds one input; returns where the next one's binary contents begin."""
    name = _text("an input's name", tensor.get("name"))
    field = f"input {name[:64]!r}"
    datatype = _text(f"{field}, datatype", tensor.get("datatype"))
    if datatype != "BYTES" and datatype not in tensors.DTYPES:
        known = ", ".join([*tensors.DTYPES, "BYTES"])
        raise messages.wrong(f"{field}, datatype", repr(datatype[:32]), known)

    shape = tensor.get("shape")
    sizes: list[Any] = shape if isinstance(shape, list) else [None]
    if not all(type(size) is int and 0 < size < 1 << 31 for size in sizes) or len(sizes) > 8:
        raise messages.wrong(f"{field}, shape", repr(shape)[:64], "at most 8 sizes, all positive")

    parameters = _parameters(f"{field}, parameters", tensor.get("parameters", {}))
    size = parameters.pop("binary_data_size", None)
    content_type = parameters.pop("content_type", "")
    tensors.set_parameters(
        request.inputs.add(name=name, datatype=datatype, shape=sizes), parameters
    )
    if size is None:
        raw = _from_json(field, datatype, tensor.get("data"), math.prod(sizes), content_type)
        request.raw_input_contents.append(raw)
        return place

    if type(size) is not int or not 0 <= size <= len(binary) - place:
        got = f"{size!r} of {len(binary) - place} bytes that are left"[:64]
        raise messages.wrong(f"{field}, binary_data_size", got, "a number of bytes that are there")
    request.raw_input_contents.append(binary[place : place + size])
    return place + size


def _from_json(field: str, datatype: str, data: Any, count: int, content_type: object) -> bytes:
    """The raw contents of a tensor whose elements stand in JSON, nested or not."""
    if not isinstance(data, list):
        raise messages.wrong(f"{field}, data", type(data).__name__, "a list of its elements")
    if datatype == "BYTES":
        return _strings(field, data, count, content_type)

    dtype = tensors.DTYPES[datatype]
    # Of a text, NumPy would make an array with room for the longest one in each place; true among
    # numbers it would take for 1.
    allowed_types = {bool} if dtype.kind == "b" else {int, float}
    try:
        array = np.array(data) if _types(data) <= allowed_types else np.array(None)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise messages.wrong(f"{field}, data", "what is no such list", f"numbers of {datatype}")
    if array.size != count:
        raise messages.wrong(f"{field}, data", f"{array.size} elements", f"{count}, by its shape")
    if dtype.kind in "iu":
        allowed = np.iinfo(datatype.lower())
        if not (allowed.min <= array.min() and array.max() <= allowed.max):
            raise messages.wrong(
                f"{field}, data",
                f"values from {array.min()} to {array.max()}",
                f"{allowed.min} to {allowed.max}, the range of {datatype}",
            )
    # too large for a float is Inf, which is refused as any other
    with np.errstate(over="ignore"):
        return array.astype(dtype).tobytes()


def _strings(field: str, data: list, count: int, content_type: object) -> bytes:
    found: list[bytes] = []
    for text in _flat(data):
        if not isinstance(text, str) or len(found) == MAX_STRINGS:
            raise messages.wrong(f"{field}, data", "what is no such list", "strings, for BYTES")
        try:
            encoded = text.encode()
            if content_type == _BASE64:
                encoded = base64.b64decode(encoded, validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            expected = "base64, as its content_type says" if content_type == _BASE64 else "text"
            raise messages.wrong(f"{field}, data", f"{error}"[:100], expected) from None
        found.append(encoded)

    if len(found) != count:
        raise messages.wrong(f"{field}, data", f"{len(found)} elements", f"{count}, by its shape")
    return b"".join(len(each).to_bytes(4, "little") + each for each in found)


def _flat(data: list) -> Iterator[Any]:
    """The elements of nested lists, in order."""
    waiting = list(reversed(data))
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(reversed(each))
        else:
            yield each


def _types(data: list) -> set[type]:
    """The types of the elements of nested lists."""
    found: set[type] = set()
    waiting = [data]
    while waiting:
        part = waiting.pop()
        types = set(map(type, part))  # a loop over each element would take ten times as long
        if list in types:
            waiting += [each for each in part if type(each) is list]
        found |= types - {list}
    return found


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or (not value.isascii() and not _is_unicode(value)):
        raise messages.wrong(field, repr(value)[:64], "a string")
    return value


def _is_unicode(text: str) -> bool:
    """Whether a text of JSON can be sent: half of a surrogate pair cannot."""
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise messages.wrong(field, repr(value)[:64], "true or false")
    return value


def _list(field: str, value: Any, most: int) -> list[dict]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise messages.wrong(field, repr(value)[:64], "a list of objects")
    if len(value) > most:
        raise messages.wrong(field, f"{len(value)}", f"{most} at most")
    return value


def _parameters(field: str, value: Any) -> dict[str, tensors.Parameter]:
    if not isinstance(value, dict) or len(value) > MAX_PARAMETERS:
        raise messages.wrong(field, repr(value)[:64], f"an object of {MAX_PARAMETERS} at most")
    for name, each in value.items():
        _text(field, name)
        fits = isinstance(each, bool | float) or (
            type(each) is int and -(1 << 63) <= each < 1 << 63
        )
        if not fits:
            _text(f"{field}, {name[:64]!r}", each)
    return dict(value)


def infer_body(response, wanted: Wanted) -> tuple[bytes, int | None]:
    """(body, where its JSON ends; None: it is all JSON) of a ModelInferResponse."""
    outputs: list[dict] = []
    binary: list[bytes] = []
    found = tensors.arrays(response)
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        said = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if wanted.is_binary(tensor.name):
            said["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            said["data"] = _json_data(found[tensor.name])
        outputs.append(said)

    answer = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "parameters": tensors.parameters(response),
        "outputs": outputs,
    }
    head = json.dumps(answer).encode()
    return b"".join([head, *binary]), len(head) if binary else None


def _json_data(value: np.ndarray | list[bytes]) -> list:
    if isinstance(value, list):
        return [each.decode(errors="replace") for each in value]
    return value.ravel().tolist()


def message_json(message) -> dict[str, Any]:
    """A message as JSON has it: the protocol's names, numbers as numbers, all fields but empty
    maps.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            found[field.name] = list(value) if hasattr(value, "append") else value
        elif field.message_type.GetOptions().map_entry:
            if value:
                found[field.name] = {key: _plain(value[key]) for key in value}
        elif hasattr(value, "add"):
            found[field.name] = [message_json(each) for each in value]
        else:
            found[field.name] = message_json(value)
    return found


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else message_json(value)
