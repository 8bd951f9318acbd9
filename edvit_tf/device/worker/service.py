"""What a worker answers: the Open Inference Protocol v2 and gRPC's health service, for the
sub-models that it hosts.
"""

import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.device.rpc.base_service import BaseService, package_version, seconds_left, wanted
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.device.rpc.metrics import Sample
from edvit_tf.device.rpc.request_input import decoded, request_input
from edvit_tf.device.worker.loaded_models import LoadedModel

PLATFORM = "edvit_tf_tflite"


class WorkerService(BaseService):
    """The state behind the handlers: the loaded models, their executors, metrics."""

    title = "edvit_tf worker"
    accepted_roles = ("aggregator", "client")  # a client may ask one worker directly

    def __init__(
        self,
        bundle: Bundle,
        rule: BundleInput,
        models: Sequence[LoadedModel],
        default_seconds: float,
        own: tls.Identity | None,
    ) -> None:
        super().__init__((one.name for one in models), own)
        self.bundle, self.rule = bundle, rule
        self.models = {one.name: one for one in models}
        self.executors = {
            one.name: Executor(one.name, _work(one, rule), one.invoke_seconds) for one in models
        }
        self.default_seconds = (
            default_seconds  # for requests without a deadline, and the most that one gets
        )

    async def model_metadata(self, request, context):
        one = self.models[self.model("name", request.name, request.version)]
        response = messages.new(
            "ModelMetadataResponse",
            name=one.name,
            versions=[messages.MODEL_VERSION],
            platform=PLATFORM,
        )
        response.inputs.add(
            name=self.rule.name, datatype=tensors.DATATYPES[self.rule.dtype], shape=self.rule.shape
        )
        for name, shape in one.outputs.items():
            response.outputs.add(name=name, datatype="FP32", shape=shape)
        response.properties.update(
            bundle_digest=self.bundle.digest,
            submodel=str(one.index),
            runtime=one.model.runtime,
            flavour=one.chosen.flavour,
            threads=str(one.chosen.threads),
            **{messages.STREAMS: "1"},
        )
        return response

    async def model_infer(self, request, context):
        started = time.perf_counter()
        one = self.models[self.model("model_name", request.model_name, request.model_version)]
        names = wanted(request, list(one.outputs))
        given = request_input(tensors.arrays(request), self.rule)
        left = seconds_left(request, context, self.default_seconds)
        done = await self.executors[one.name].submit(given, left)
        for name, value in done.value.items():
            if not np.isfinite(value).all():
                raise messages.WireError(
                    f"output '{name}' of {one.name}: got NaN or Inf; expected finite numbers. "
                    "Check "
                    "the device: python -m edvit_tf.device BUNDLE --check",
                    grpc.StatusCode.INTERNAL,
                )
        self.metrics.observe("queue", one.name, done.queue_ms / 1e3)
        self.metrics.observe("compute", one.name, done.compute_ms / 1e3)
        self.metrics.observe("request", one.name, time.perf_counter() - started)
        return tensors.infer_response(
            one.name,
            {name: done.value[name] for name in names},
            request_id=request.id,
            parameters={
                "bundle_digest": self.bundle.digest,
                "compute_ms": done.compute_ms,
                "queue_ms": done.queue_ms,
                "flavour": one.chosen.flavour,
            },
        )

    def gauges(self) -> list[tuple[str, str, list[Sample]]]:
        one = next(iter(self.models.values()))
        return [
            (
                "edvit_worker_info",
                "What answers here.",
                [
                    (
                        {
                            "version": package_version(),
                            "bundle": self.bundle.path.name,
                            "bundle_digest": self.bundle.digest,
                            "runtime": one.model.runtime,
                        },
                        1,
                    )
                ],
            ),
            (
                "edvit_model_info",
                "The file that answers.",
                [
                    (
                        {
                            "model": name,
                            "flavour": each.chosen.flavour,
                            "threads": str(each.chosen.threads),
                        },
                        1,
                    )
                    for name, each in self.models.items()
                ],
            ),
            *super().gauges(),
            (
                "edvit_queue_depth",
                "Requests that wait for a model.",
                [({"model": name}, each.waiting) for name, each in self.executors.items()],
            ),
            (
                "edvit_service_seconds",
                "Running mean of a model's service time, which the queue reckons with.",
                [({"model": name}, each.service_seconds) for name, each in self.executors.items()],
            ),
        ]


def _work(
    one: LoadedModel, rule: BundleInput
) -> Callable[[np.ndarray | bytes], dict[str, np.ndarray]]:
    """What the executor's thread does for a request: decode if need be, and run."""

    def work(given: np.ndarray | bytes) -> dict[str, np.ndarray]:
        return one.model.run(
            **{rule.name: decoded(given, rule) if isinstance(given, bytes) else given}
        )

    return work
