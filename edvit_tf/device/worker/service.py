"""What a worker answers: the Open Inference Protocol v2 and gRPC's health service, for the
sub-models that it has loaded.
"""

import os
import time
from collections.abc import Coroutine, Mapping, Sequence

import grpc
import numpy as np

from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.model.memory import resident
from edvit_tf.device.model.view import AS_IT_IS
from edvit_tf.device.rpc import announcement, certificate_expiry, messages, tensors, tls
from edvit_tf.device.rpc.base_service import BaseService, package_version
from edvit_tf.device.rpc.callers import caller_of, client_of
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.device.rpc.metrics import Gauge, Sample
from edvit_tf.device.rpc.request_input import (
    decoded,
    message_limit,
    request_input,
    requested_model,
    requested_outputs,
    seconds_left,
)
from edvit_tf.device.rpc.together import TOGETHER
from edvit_tf.device.worker.announce import Announcement
from edvit_tf.device.worker.loaded_models import LoadedModel
from edvit_tf.device.worker.power_watch import PowerWatch

PLATFORM = "edvit_tf_tflite"


class WorkerService(BaseService):
    """The sub-models, and an executor for each."""

    title = "edvit_tf worker"
    accepted_roles = ("aggregator", "relay", "client")  # a client may ask one worker directly

    def __init__(
        self,
        bundle: Bundle,
        model_input: BundleInput,
        models: Sequence[LoadedModel],
        *,
        deadline_seconds: float,
        stuck_seconds: float,
        own: tls.Identity | None,
        announces: bool = False,
    ) -> None:
        super().__init__(
            bundle,
            model_input,
            [loaded.name for loaded in models],
            [_executor(loaded, model_input) for loaded in models],
            deadline_seconds=deadline_seconds,
            stuck_seconds=stuck_seconds,
            own=own,
        )
        self.models = {loaded.name: loaded for loaded in models}
        self.runtime = models[0].model.runtime  # the same for all
        self.instance = os.urandom(8).hex()
        self.power = PowerWatch()
        self._announces = announces
        self._announcement: Announcement | None = None  # once it listens
        # What each answer says of its view: made here, once, and left out where there is none.
        self._views = {
            loaded.name: {} if loaded.view == AS_IT_IS else {messages.VIEW: str(loaded.view)}
            for loaded in models
        }

    def description(self) -> dict:
        return {
            "runtime": self.runtime,
            "models": [
                {
                    "name": loaded.name,
                    "file": loaded.chosen.file,
                    "flavour": loaded.chosen.flavour,
                    "threads": loaded.chosen.threads,
                    "invoke_ms": round(loaded.invoke_seconds * 1e3, 3),
                    "golden_error": loaded.golden_error,
                    "view": str(loaded.view),
                }
                for loaded in self.models.values()
            ],
            "message_limit_bytes": message_limit(self.model_input),
            "stuck_seconds": self.stuck_seconds,
            "resident_bytes": resident(),
        }

    def background(self) -> list[Coroutine]:
        if not self._announces:
            return [self.power.run()]
        self._announcement = Announcement(self.address, self._announced())
        return [self.power.run(), self._announcement.run()]

    def _announced(self) -> Mapping[str, str]:
        indices = [loaded.index for loaded in self.models.values()]
        return announcement.properties(self.bundle.digest, indices, self.own)

    async def renew(self, own: tls.Identity) -> str | None:
        why = await super().renew(own)
        if self._announcement is not None:
            self._announcement.say(self._announced())
        return why

    async def model_metadata(self, request, context):
        loaded = self.models[requested_model("name", request.name, request.version, self.names)]
        response = messages.new(
            "ModelMetadataResponse",
            name=loaded.name,
            versions=[messages.MODEL_VERSION],
            platform=PLATFORM,
        )

        # the one input, then what comes out
        datatype = tensors.DATATYPES[self.model_input.dtype]
        response.inputs.add(
            name=self.model_input.name, datatype=datatype, shape=self.model_input.shape
        )
        for name, shape in loaded.outputs.items():
            response.outputs.add(name=name, datatype="FP32", shape=shape)

        # by these an aggregator sees whether it has the same bundle here
        response.properties.update(
            {
                "bundle_digest": self.bundle.digest,
                "submodel": str(loaded.index),
                "runtime": loaded.model.runtime,
                "flavour": loaded.chosen.flavour,
                "threads": str(loaded.chosen.threads),
                messages.STREAMS: "1",
                TOGETHER: "1",
                messages.INSTANCE: self.instance,
                messages.VIEW: str(loaded.view),
                **self.power.properties,
                **certificate_expiry.said(self.certificate_ends),
            }
        )

        return response

    async def model_infer(self, request, context):
        started = time.perf_counter()
        # refusals first: what they turn away costs the model nothing
        name = requested_model("model_name", request.model_name, request.model_version, self.names)
        loaded = self.models[name]
        outputs = requested_outputs(request, list(loaded.outputs))
        given = request_input(tensors.arrays(request), self.model_input)
        left = seconds_left(request, context, self.deadline_seconds)

        # The executor's thread decodes and runs, when it is this request's turn.
        client = client_of(request, caller_of(context))
        done = await self.executors[name].submit(given, left, client)

        # numbers that are none are this device's fault, and must not reach the fusion
        for output, value in done.value.items():
            if not np.isfinite(value).all():
                raise messages.WireError(
                    f"output '{output}' of {name}: got NaN or Inf; expected finite numbers. "
                    "Check the device: python -m edvit_tf.device BUNDLE --check",
                    grpc.StatusCode.INTERNAL,
                )

        # only what was answered: a refusal has no times
        self.metrics.observe("queue", name, done.queue_ms / 1e3)
        self.metrics.observe("compute", name, done.compute_ms / 1e3)
        self.metrics.observe("request", name, time.perf_counter() - started)

        return tensors.infer_response(
            name,
            {output: done.value[output] for output in outputs},
            request_id=request.id,
            parameters={
                "bundle_digest": self.bundle.digest,
                "compute_ms": done.compute_ms,
                "queue_ms": done.queue_ms,
                "flavour": loaded.chosen.flavour,
                **self._views[name],
            },
        )

    def gauges(self) -> list[Gauge]:
        info = {
            "version": package_version(),
            "bundle": self.bundle.path.name,
            "bundle_digest": self.bundle.digest,
            "runtime": self.runtime,
        }
        files: list[Sample] = []
        waiting: list[Sample] = []
        service_seconds: list[Sample] = []
        for name, loaded in self.models.items():
            flavour, threads = loaded.chosen.flavour, str(loaded.chosen.threads)
            labels = {"flavour": flavour, "threads": threads, "view": str(loaded.view)}
            files.append(({"model": name, **labels}, 1))

        for name, executor in self.executors.items():
            waiting.append(({"model": name}, executor.waiting))
            service_seconds.append(({"model": name}, executor.service_seconds))

        return [
            Gauge("edvit_worker_info", "What answers here.", [(info, 1)]),
            Gauge("edvit_model_info", "The file that answers, and how it sees an input.", files),
            *super().gauges(),
            Gauge("edvit_queue_depth", "Requests that wait for a model.", waiting),
            Gauge(
                "edvit_service_seconds",
                "Running mean of a model's service time, which the queue reckons with.",
                service_seconds,
            ),
            *self.power.gauges(),
        ]


def _executor(loaded: LoadedModel, model_input: BundleInput) -> Executor:
    """The thread of a sub-model, which decodes a request's file if need be, looks at it, and
    runs.
    """

    def run(given: np.ndarray | bytes) -> dict[str, np.ndarray]:
        array = decoded(given, model_input) if isinstance(given, bytes) else given
        return loaded.run(model_input.name, array)

    return Executor(loaded.name, run, loaded.invoke_seconds)
