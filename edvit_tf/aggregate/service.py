"""What a client is answered: fused probabilities with what is missing said beside them, or an error
that names it.
"""

import time

import grpc
import numpy as np

from edvit_tf.aggregate import breaker
from edvit_tf.aggregate.fanout import Fanout, overloaded
from edvit_tf.aggregate.fusion import Fusion, measured_losses
from edvit_tf.aggregate.link import STATES
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.device.rpc.base_service import BaseService, package_version, seconds_left, wanted
from edvit_tf.device.rpc.jsonlog import log_seldom
from edvit_tf.device.rpc.metrics import Sample
from edvit_tf.device.rpc.request_input import request_input

MODEL = "edvit"
OUTPUTS = ("probabilities", "label")
MAX_IN_FLIGHT = 64
# Of the deadline, for fusion and the way back: a client whose own deadline is the shorter one must
# get the flagged answer before it gives up. With 5 ms it did not, on loopback.
_RESERVE_SHARE, _RESERVE_SECONDS = 0.05, 0.02


class AggregatorService(BaseService):
    """The model `edvit` over the devices of a fleet."""

    title = "edvit_tf aggregator"
    accepted_roles = ("client",)

    def __init__(
        self,
        bundle: Bundle,
        rule: BundleInput,
        fanout: Fanout,
        fusion: Fusion,
        *,
        min_submodels: int,
        deadline_seconds: float,
        own: tls.Identity | None,
    ) -> None:
        super().__init__((MODEL,), own, serving=False)
        self.bundle, self.rule, self.fanout, self.fusion = bundle, rule, fanout, fusion
        self.min_submodels, self.deadline_seconds = min_submodels, deadline_seconds
        self.losses, self.degraded = measured_losses(bundle), 0

    def devices_changed(self) -> None:
        """Serving while enough sub-models can be asked."""
        self.availability.put(len(self.fanout.available()) >= self.min_submodels)

    async def model_metadata(self, request, context):
        self.model("name", request.name, request.version)
        response = messages.new(
            "ModelMetadataResponse",
            name=MODEL,
            versions=[messages.MODEL_VERSION],
            platform="edvit_tf_fleet",
        )
        response.inputs.add(
            name=self.rule.name, datatype=tensors.DATATYPES[self.rule.dtype], shape=self.rule.shape
        )
        response.outputs.add(
            name="probabilities", datatype="FP32", shape=(1, len(self.bundle.labels))
        )
        response.outputs.add(name="label", datatype="BYTES", shape=(1,))
        response.properties.update(
            bundle_digest=self.bundle.digest, submodels=str(len(self.bundle.sub_models))
        )
        return response

    async def model_infer(self, request, context):
        started, now = time.perf_counter(), time.monotonic()
        self.model("model_name", request.model_name, request.model_version)
        names = wanted(request, OUTPUTS)
        value = request_input(tensors.arrays(request), self.rule)
        if self.in_flight > MAX_IN_FLIGHT:
            raise messages.WireError(
                f"requests in flight: got {self.in_flight}; expected at most {MAX_IN_FLIGHT}. Send "
                "less at a time.",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
        left = seconds_left(request, context, self.deadline_seconds)
        reserve = min(
            left / 4, max(_RESERVE_SHARE * left, _RESERVE_SECONDS) + 4 * self.fusion.seconds
        )
        answers, missing = await self.fanout.ask(
            self.rule.name, value, now + left - reserve, self.min_submodels
        )
        if len(answers) < self.min_submodels:
            reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise messages.WireError(
                f"sub-models: got {len(answers)} of {len(self.bundle.sub_models)}; expected at "
                "least "
                f"{self.min_submodels}. Missing: {reasons}.",
                grpc.StatusCode.RESOURCE_EXHAUSTED
                if overloaded(missing)
                else grpc.StatusCode.UNAVAILABLE,
            )
        probabilities = await self.fusion.probabilities(
            {name: one.features for name, one in answers.items()}, now + left - time.monotonic()
        )
        if not np.isfinite(probabilities).all():
            raise messages.WireError(
                "output 'probabilities': got NaN or Inf; expected finite numbers. Look at the "
                "devices' --check.",
                grpc.StatusCode.INTERNAL,
            )
        said: dict = {
            "degraded": bool(missing),
            "missing": ",".join(missing),
            "bundle_digest": self.bundle.digest,
        }
        for name, why in missing.items():
            said[f"{name}.missing"] = why
        if frozenset(missing) in self.losses:
            said["expected_accuracy"] = self.losses[frozenset(missing)]
        for name, one in answers.items():
            said |= {
                f"{name}.device": one.device,
                f"{name}.compute_ms": one.compute_ms,
                f"{name}.queue_ms": one.queue_ms,
                f"{name}.wire_ms": one.wire_ms,
            }
            self.metrics.observe("compute", name, one.compute_ms / 1e3)
            self.metrics.observe("wire", name, one.wire_ms / 1e3)
            self.metrics.observe(
                "device", one.device, (one.compute_ms + one.queue_ms + one.wire_ms) / 1e3
            )
        if missing:
            self.degraded += 1
            log_seldom("degraded", f"degraded {said['missing']}", missing=missing)
        outputs = {
            "probabilities": probabilities,
            "label": [self.bundle.labels[int(probabilities[0].argmax())]],
        }
        seconds = time.perf_counter() - started
        self.metrics.observe("request", MODEL, seconds)
        return tensors.infer_response(
            MODEL,
            {name: outputs[name] for name in names},
            request_id=request.id,
            parameters={**said, "total_ms": 1e3 * seconds},
        )

    def health(self) -> dict:
        links = self.fanout.links
        return {
            **super().health(),
            "bundle_digest": self.bundle.digest,
            "min_submodels": self.min_submodels,
            "submodels": {name: self._available(name) for name in self.fanout.widths},
            "devices": [
                {
                    "device": link.device.name,
                    "address": link.device.address,
                    "state": link.state,
                    "reason": link.reason,
                    "breaker": link.breaker.state,
                    "breaker_reason": link.breaker.reason if link.breaker.state != "closed" else "",
                    "hosts": sorted(link.models),
                }
                for link in links
            ],
        }

    def gauges(self) -> list[tuple[str, str, list[Sample]]]:
        links = self.fanout.links
        return [
            (
                "edvit_aggregator_info",
                "What answers here.",
                [
                    (
                        {
                            "version": package_version(),
                            "bundle": self.bundle.path.name,
                            "bundle_digest": self.bundle.digest,
                        },
                        1,
                    )
                ],
            ),
            *super().gauges(),
            (
                "edvit_degraded_answers",
                "Answers without some sub-models, since the start.",
                [({}, self.degraded)],
            ),
            (
                "edvit_submodel_available",
                "1 while a device can be asked for it.",
                [({"model": name}, self._available(name)) for name in self.fanout.widths],
            ),
            (
                "edvit_device_state",
                "1 for the state that a device is in.",
                [
                    (
                        {
                            "device": link.device.name,
                            "address": link.device.address,
                            "state": state,
                        },
                        link.state == state,
                    )
                    for link in links
                    for state in STATES
                ],
            ),
            (
                "edvit_breaker_state",
                "1 for the state that a device's breaker is in.",
                [
                    ({"device": link.device.name, "state": state}, link.breaker.state == state)
                    for link in links
                    for state in breaker.STATES
                ],
            ),
            (
                "edvit_device_failures_total",
                "Requests that a device did not answer, by reason.",
                [
                    ({"device": link.device.name, "reason": reason}, n)
                    for link in links
                    for reason, n in link.failures.copy().items()
                ],
            ),
            (
                "edvit_device_returns_total",
                "Times that a device was ready again.",
                [({"device": link.device.name}, link.returns) for link in links],
            ),
            (
                "edvit_hedges_total",
                "Second copies sent to replicas of slow devices.",
                [({}, self.fanout.budget.sent)],
            ),
        ]

    def _available(self, name: str) -> bool:
        """Whether a device can be asked for a sub-model, and answered lately."""
        return any(
            link.hosts(name) and link.breaker.state == "closed" for link in self.fanout.links
        )
