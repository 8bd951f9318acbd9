"""A device that answers wrongly on purpose: a real gRPC server that speaks the wire, one fault at a
time.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grpc
import numpy as np

from edvit_tf.device.rpc import messages, tensors


class Refusal(NamedTuple):
    """What `infer` of a fake device gives in the place of an answer."""

    code: grpc.StatusCode
    words: str


def good(name: str, digest: str, width: int, request, view: str | None = None) -> object:
    """An answer that is accepted, of made-up features; `view` as a worker says it."""
    said = {"bundle_digest": digest, "compute_ms": 1.0, "queue_ms": 0.0}
    return tensors.infer_response(
        name,
        {"features": np.ones((1, width), np.float32)},
        request_id=request.id,
        parameters=said if view is None else {**said, messages.VIEW: view},
    )


@contextlib.contextmanager
def fake_device(
    name: str, digest: str, infer: Callable, streams: bool = False, view: str = "as it is"
) -> Iterator[str]:
    """The address of a device that says it hosts `name` of bundle `digest`, seen by `view`, and
    answers ModelInfer by `infer`.

    With `streams` it takes requests over ModelStreamInfer alone; None of `infer` ends the stream.
    """

    def index(request, context):
        response = messages.new("RepositoryIndexResponse")
        response.models.add(name=name, version="1", state="READY")
        return response

    def metadata(request, context):
        response = messages.new("ModelMetadataResponse", name=name)
        response.properties.update(
            {"bundle_digest": digest, messages.VIEW: view}
            | ({messages.STREAMS: "1"} if streams else {})
        )
        return response

    def call(request, context):
        response = infer(request)
        if isinstance(response, Refusal):
            context.abort(*response)
        return response

    def stream(requests, context):
        for request in requests:
            if "cancel" in request.parameters:
                continue
            response = infer(request)
            if response is None:
                return
            if isinstance(response, Refusal):
                yield _refused(request, response)
                continue
            yield (
                response
                if isinstance(response, bytes)
                else messages.new("ModelStreamInferResponse", infer_response=response)
            )

    calls = {
        "RepositoryIndex": index,
        "ModelMetadata": metadata,
        "ModelInfer": call,
    }
    made = {
        method: grpc.unary_unary_rpc_method_handler(
            call, messages.deserialiser(messages.METHODS[method][0]), messages.serialise
        )
        for method, call in calls.items()
    }
    if streams:
        del made["ModelInfer"]
        made["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            stream, messages.deserialiser("ModelInferRequest"), messages.serialise
        )
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(messages.INFERENCE, made)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def _refused(request, refusal: Refusal):
    """A refusal as a stream has it."""
    response = messages.new("ModelStreamInferResponse", error_message=refusal.words)
    response.infer_response.model_name = request.model_name
    response.infer_response.id = request.id
    tensors.set_parameters(response.infer_response, {messages.STATUS: refusal.code.name})
    return response
