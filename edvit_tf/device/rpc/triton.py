"""Triton's calls beside the Open Inference Protocol: a model's configuration and its counters, with
which perf_analyzer and tritonclient work, and in words what there is not.

Source: Triton's model_config.proto and grpc_service.proto.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.metrics import Total, Totals

EXTENSIONS = ("model_configuration", "statistics", "parameters")  # as Triton's ServerMetadata does
BACKEND = "edvit_tf"
# model_config.proto, DataType
_DATA_TYPES = {
    "BOOL": 1,
    "UINT8": 2,
    "UINT16": 3,
    "UINT32": 4,
    "UINT64": 5,
    "INT8": 6,
    "INT16": 7,
    "INT32": 8,
    "INT64": 9,
    "FP16": 10,
    "FP32": 11,
    "FP64": 12,
    "BYTES": 13,
}

_NO_LOADING = (
    "a server serves the bundle that it was started with, and loads nothing else. Install another "
    "(python -m edvit_tf.device.update) and restart it."
)
_NO_SHARED_MEMORY = (
    "there is no shared memory here, client and server being two machines. Send the tensor's "
    "contents in the message."
)
_REFUSED = {
    "RepositoryModelLoad": _NO_LOADING,
    "RepositoryModelUnload": _NO_LOADING,
    "SystemSharedMemoryRegister": _NO_SHARED_MEMORY,
    "CudaSharedMemoryRegister": _NO_SHARED_MEMORY,
    "TraceSetting": (
        "nothing is traced here. Each answer's parameters say where its milliseconds went, and "
        "/metrics sums them up."
    ),
    "LogSettings": "the log has one setting: JSON on standard error.",
}
# No region is registered, so there is none to list, and none is left when all are to go.
_EMPTY = (
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryUnregister",
)


def model_config(metadata):
    """The ModelConfigResponse of a model with this ModelMetadataResponse.

    max_batch_size is 0, Triton's word for shapes that stand whole, the batch of 1 among them.
    """
    config = messages.new(
        "ModelConfig", name=metadata.name, platform=metadata.platform, backend=BACKEND
    )
    for described, tensors in ((config.input, metadata.inputs), (config.output, metadata.outputs)):
        for tensor in tensors:
            data_type = _DATA_TYPES[tensor.datatype]
            described.add(name=tensor.name, data_type=data_type, dims=tensor.shape)

    for key, value in metadata.properties.items():
        config.parameters[key].string_value = value

    return messages.new("ModelConfigResponse", config=config)


def statistics(name: str, totals: Totals):
    """A model's ModelStatistics, since the start of the server.

    What is decoded and run is `compute_infer`; an aggregator has no queue of its own, and what its
    devices and its fusion take is all `compute_infer`.
    """
    answered = totals.answered
    compute = totals.compute if totals.compute.requests else answered
    nothing = Total(answered.requests)
    computed = {
        "compute_input": _duration(nothing),
        "compute_infer": _duration(compute),
        "compute_output": _duration(nothing),
    }
    found = messages.new(
        "ModelStatistics",
        name=name,
        version=messages.MODEL_VERSION,
        last_inference=int(1e3 * totals.last_answer),
        inference_count=answered.requests,
        execution_count=answered.requests,
        inference_stats=messages.new(
            "InferStatistics",
            success=_duration(answered),
            fail=_duration(totals.failed),
            queue=_duration(totals.queue if totals.queue.requests else nothing),
            **computed,
        ),
    )
    if answered.requests:
        found.batch_stats.add(batch_size=1, **computed)

    return found


def _duration(total: Total):
    return messages.new("StatisticDuration", count=total.requests, ns=int(1e9 * total.seconds))


def other_calls() -> dict[str, Callable[[Any, Any], Awaitable[Any]]]:
    """The calls that are refused in words, and those to which nothing is the answer."""
    calls: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {}
    for method, words in _REFUSED.items():
        calls[method] = _refusal(f"{method}: {words}")

    return calls | dict.fromkeys(_EMPTY, _nothing)


def _refusal(words: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def refuse(request, context):
        raise messages.WireError(words, grpc.StatusCode.UNIMPLEMENTED)

    return refuse


async def _nothing(request, context):
    return messages.new("Nothing")
