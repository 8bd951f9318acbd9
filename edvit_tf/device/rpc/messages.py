"""The messages and methods of KServe's Open Inference Protocol v2 and of gRPC's health service,
described by ourselves.

Generated stubs would register in protobuf's default pool, where tritonclient's own live, and would
tie the program to one major version of protobuf. These are built in a private pool: protobuf 6 and
7 both do, beside tritonclient too.

Source of the field numbers: KServe's open_inference_grpc.proto and Triton's grpc_service.proto,
which agree, but for `ModelMetadataResponse.properties` (KServe alone; tritonclient skips it). There
a worker says `bundle_digest` and `submodel`, so that an aggregator knows both before the first
inference. Full names of nested messages do not cross the wire, so they stand side by side here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from edvit_tf.device.errors import DeviceError
from edvit_tf.device.rpc.message_counts import CountError, check_counts

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

# Of models: the only version. A bundle's digest says which weights answer.
MODEL_VERSION = "1"
# Parameter of a stream's answer (Triton's): true, nothing more comes for this request.
FINAL = "triton_final_response"
# Parameter of a stream's answer that is an error: the name of the code that a call would have.
STATUS = "grpc_status"
# Property of a model's metadata: "1" where the server has ModelStreamInfer.
STREAMS = "stream_infer"
# Property of a model's metadata: drawn by each process at its start, so that one worker under two
# addresses is not taken for two.
INSTANCE = "instance"
# Property of a sub-model's metadata, and parameter of its answers: how it sees an input, in words
# (`model/view.py`). Answers leave out "as it is"; a worker that does not say it has no view, or is
# older than views.
VIEW = "view"
# Parameter of a relay's answer: the name of the device below it that has answered.
DEVICE = "device"
# Parameter of what an aggregator asks: true where its client gives less time than the fleet usually
# has. A relay cannot tell that by the time that is left.
HASTY = "hasty"
# Properties of a fleet's metadata, as JSON: its input (`InputSpec.to_dict`), and its classes in the
# order of the probabilities. A client of an endless stream has no bundle to read them from.
INPUT_SPEC = "input_spec"
LABELS = "labels"
# HealthCheckResponse.status, an enum: an int32 on the wire.
SERVING = 1
NOT_SERVING = 2
SERVICE_UNKNOWN = 3

_PARAMETERS = "map<InferParameter> parameters = 4"
_FIELDS = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live = 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready = 1",),
    "ModelReadyRequest": ("string name = 1", "string version = 2"),
    "ModelReadyResponse": ("bool ready = 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (
        "string name = 1",
        "string version = 2",
        "repeated string extensions = 3",
    ),
    "ModelMetadataRequest": ("string name = 1", "string version = 2"),
    "TensorMetadata": ("string name = 1", "string datatype = 2", "repeated int64 shape = 3"),
    "ModelMetadataResponse": (
        "string name = 1",
        "repeated string versions = 2",
        "string platform = 3",
        "repeated TensorMetadata inputs = 4",
        "repeated TensorMetadata outputs = 5",
        "map<string> properties = 6",
    ),
    "InferParameter": (
        "oneof bool bool_param = 1",
        "oneof int64 int64_param = 2",
        "oneof string string_param = 3",
        "oneof double double_param = 4",
        "oneof uint64 uint64_param = 5",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents = 1",
        "repeated int32 int_contents = 2",
        "repeated int64 int64_contents = 3",
        "repeated uint32 uint_contents = 4",
        "repeated uint64 uint64_contents = 5",
        "repeated float fp32_contents = 6",
        "repeated double fp64_contents = 7",
        "repeated bytes bytes_contents = 8",
    ),
    "InferTensor": (  # of requests and of responses
        "string name = 1",
        "string datatype = 2",
        "repeated int64 shape = 3",
        _PARAMETERS,
        "InferTensorContents contents = 5",
    ),
    "InferRequestedOutputTensor": ("string name = 1", "map<InferParameter> parameters = 2"),
    "ModelInferRequest": (
        "string model_name = 1",
        "string model_version = 2",
        "string id = 3",
        _PARAMETERS,
        "repeated InferTensor inputs = 5",
        "repeated InferRequestedOutputTensor outputs = 6",
        "repeated bytes raw_input_contents = 7",
    ),
    "ModelInferResponse": (
        "string model_name = 1",
        "string model_version = 2",
        "string id = 3",
        _PARAMETERS,
        "repeated InferTensor outputs = 5",
        "repeated bytes raw_output_contents = 6",
    ),
    "ModelStreamInferResponse": (  # Triton's
        "string error_message = 1",
        "ModelInferResponse infer_response = 2",
    ),
    "RepositoryIndexRequest": ("string repository_name = 1", "bool ready = 2"),
    "ModelIndex": (
        "string name = 1",
        "string version = 2",
        "string state = 3",
        "string reason = 4",
    ),
    "RepositoryIndexResponse": ("repeated ModelIndex models = 1",),
    # Triton's, and of them what says something here; its enums are int32 on the wire
    "ModelConfigRequest": ("string name = 1", "string version = 2"),
    "ConfigInput": ("string name = 1", "int32 data_type = 2", "repeated int64 dims = 4"),
    "ConfigOutput": ("string name = 1", "int32 data_type = 2", "repeated int64 dims = 3"),
    "ConfigParameter": ("string string_value = 1",),
    "ModelConfig": (
        "string name = 1",
        "string platform = 2",
        "int32 max_batch_size = 4",
        "repeated ConfigInput input = 5",
        "repeated ConfigOutput output = 6",
        "map<ConfigParameter> parameters = 14",
        "string backend = 17",
    ),
    "ModelConfigResponse": ("ModelConfig config = 1",),
    "ModelStatisticsRequest": ("string name = 1", "string version = 2"),
    "StatisticDuration": ("uint64 count = 1", "uint64 ns = 2"),
    "InferStatistics": (
        "StatisticDuration success = 1",
        "StatisticDuration fail = 2",
        "StatisticDuration queue = 3",
        "StatisticDuration compute_input = 4",
        "StatisticDuration compute_infer = 5",
        "StatisticDuration compute_output = 6",
    ),
    "InferBatchStatistics": (
        "uint64 batch_size = 1",
        "StatisticDuration compute_input = 2",
        "StatisticDuration compute_infer = 3",
        "StatisticDuration compute_output = 4",
    ),
    "ModelStatistics": (
        "string name = 1",
        "string version = 2",
        "uint64 last_inference = 3",
        "uint64 inference_count = 4",
        "uint64 execution_count = 5",
        "InferStatistics inference_stats = 6",
        "repeated InferBatchStatistics batch_stats = 7",
    ),
    "ModelStatisticsResponse": ("repeated ModelStatistics model_stats = 1",),
    "Nothing": (),  # of calls whose fields are not looked at
    "HealthCheckRequest": ("string service = 1",),
    "HealthCheckResponse": ("int32 status = 1",),
}
METHODS = {
    name: (f"{name}Request", f"{name}Response")
    for name in (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "RepositoryIndex",
        "ModelConfig",
        "ModelStatistics",
    )
}
# Triton's, which have nothing to tell here, or are refused (`triton.py`)
OTHERS = (
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
METHODS |= dict.fromkeys(OTHERS, ("Nothing", "Nothing"))
METHODS["ModelStreamInfer"] = ("ModelInferRequest", "ModelStreamInferResponse")
METHODS |= dict.fromkeys(("Check", "Watch"), ("HealthCheckRequest", "HealthCheckResponse"))


def _build() -> dict[str, type[Message]]:
    """The classes of _FIELDS, whose lines are .proto syntax but for `map<VALUE>` (keys are strings)
    and `oneof`.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="edvit_tf/inference.proto", package="inference", syntax="proto3"
    )
    field_type = descriptor_pb2.FieldDescriptorProto

    def add(message, line: str) -> None:
        *labels, kind, name, _, number = line.split()
        field = message.field.add(name=name, number=int(number), label=field_type.LABEL_OPTIONAL)
        # on the wire a map is a repeated message of key and value
        if kind.startswith("map<"):
            entry = message.nested_type.add(
                name="".join(part.title() for part in name.split("_")) + "Entry"
            )
            entry.options.map_entry = True
            add(entry, "string key = 1")
            add(entry, f"{kind[4:-1]} value = 2")
            labels, kind = ["repeated"], f"{message.name}.{entry.name}"

        if "repeated" in labels:
            field.label = field_type.LABEL_REPEATED
        if "oneof" in labels:
            if not message.oneof_decl:
                message.oneof_decl.add(name="parameter_choice")
            field.oneof_index = 0

        # what is no scalar is one of our own messages
        scalar = f"TYPE_{kind.upper()}"
        if scalar in field_type.Type.keys():
            field.type = field_type.Type.Value(scalar)
        else:
            field.type, field.type_name = field_type.TYPE_MESSAGE, f".inference.{kind}"

    for name, lines in _FIELDS.items():
        message = file.message_type.add(name=name)
        for line in lines:
            add(message, line)

    # of our own: protobuf's default pool may hold tritonclient's messages of these names
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in _FIELDS
    }


MESSAGES = _build()


@dataclass(frozen=True)
class Garbage:
    """What a deserialiser gives for bytes that cannot be used; `checked` makes an error of it."""

    reason: str


class WireError(DeviceError):
    """A message that cannot be used: `code` is the gRPC status, the text says field, got and
    expected.
    """

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        super().__init__(text)
        self.code = code

    def without_frames(self) -> "WireError":
        """Itself, without what led to it: the frames of a request hold its bytes."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


def wrong(field: str, got, expected) -> WireError:
    """The WireError (INVALID_ARGUMENT) of a field whose value breaks a rule."""
    return WireError(f"{field}: got {got}; expected {expected}.")


def new(message: str, /, **fields) -> Any:
    """A message, e.g. new("ModelReadyRequest", name="edvit")."""
    return MESSAGES[message](**fields)


def checked(received: Any) -> Any:
    """The message itself; raises WireError where the bytes were none."""
    if isinstance(received, Garbage):
        raise WireError(received.reason)

    return received


def path(method: str) -> str:
    """The full name of a method, e.g. "/inference.GRPCInferenceService/ModelInfer"."""
    return f"/{HEALTH if method in ('Check', 'Watch') else INFERENCE}/{method}"


def serialise(sent: Message | bytes) -> bytes:
    """Bytes of a message; bytes go as they are, so that one serialised request can go to many
    devices.
    """
    return sent if isinstance(sent, bytes) else sent.SerializeToString()


def parsed(name: str, data: bytes, most_elements: int | None = None) -> Any:
    """Message `name` of bytes that another machine sent; `most_elements`: see `check_counts`.
    Raises WireError.
    """
    try:
        check_counts(name, data, most_elements)
        return MESSAGES[name].FromString(data)
    except CountError as error:
        raise wrong(error.field, error.got, error.expected) from error
    except DecodeError as error:
        raise wrong(
            "message",
            f"{len(data)} bytes that are no protobuf message of this type",
            f"inference.{name}",
        ) from error


def deserialiser(name: str) -> Callable[[bytes], Message | Garbage]:
    """Parses bytes into message `name`, or returns Garbage: an exception here would be INTERNAL
    before our code.
    """

    def parse(data: bytes) -> Message | Garbage:
        try:
            return parsed(name, data)
        except WireError as error:
            return Garbage(str(error))

    return parse


def stub(channel, method: str):
    """A callable of a method on a channel (grpc or grpc.aio), taking a message or its bytes, giving
    message or Garbage.

    Watch gives a stream of answers, ModelStreamInfer takes one of requests too; all others take and
    give one.
    """
    kind = {"Watch": channel.unary_stream, "ModelStreamInfer": channel.stream_stream}.get(
        method, channel.unary_unary
    )
    return kind(
        path(method),
        request_serializer=serialise,
        response_deserializer=deserialiser(METHODS[method][1]),
    )
