"""Workers that look through sensors of their own: each sub-model is asked for its own input, and
the answers are fused here.

An aggregator sends one input to all devices. Where several cameras see one scene, or microphones
hear it, each worker gets what its own sensor saw at that moment, which is what views imitate.
Whoever has the inputs is a client of the workers. There are no replicas, breakers or queues of an
aggregator here: a worker that has not answered in time is missing in that answer, and is asked
again the next time.
"""

import itertools
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np

from edvit_tf.aggregate.channel import OPTIONS
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.reply import Expected, Reply, checked_reply, expected_answers
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.errors import ConfigError, RequestFailed

_WORDS = 300  # characters of a device's words that are passed on


class SensorFleet:
    """A connection to the worker of each sub-model, by the sub-model's name.

        fleet = SensorFleet(open_bundle("cifar10"), {"submodel-00": "pi-0.local:8001", ...}, own)
        fleet.ask({"submodel-00": front, "submodel-01": left})["label"]

    `own` is the identity of a client (`tls.identity`), None for plaintext. Raises ConfigError for a
    name that the bundle does not have, and as `Fusion`.
    """

    def __init__(
        self,
        bundle: Bundle,
        workers: Mapping[str, str],
        own: tls.Identity | None,
        timeout_seconds: float = 1.0,
    ) -> None:
        self.bundle = bundle
        self._expected = {each.name: each for each in expected_answers(bundle)}
        self._check_names("workers", workers)
        self._input_name = bundle_input(bundle).name
        self._timeout = timeout_seconds
        self._count = itertools.count()
        self._checked: set[str] = set()  # workers that have this bundle and the wanted view
        self.fusion = Fusion(bundle)

        credentials = None if own is None else tls.channel_credentials(own)
        self._channels = {}
        for name, address in workers.items():
            if credentials is None:
                self._channels[name] = grpc.insecure_channel(address, options=OPTIONS)
            else:
                self._channels[name] = grpc.secure_channel(address, credentials, options=OPTIONS)

    def ask(self, inputs: Mapping[str, np.ndarray | bytes]) -> dict:
        """{"label", "probability", "probabilities": array (classes,), "parameters"}, as of
        `client.Client.ask`: of an input (1, H, W, C), or an encoded file, for each sub-model.

        A sub-model without an input, or whose worker does not answer right, is missing:
        "parameters" says so and why. Raises ConfigError for an unknown name, RequestFailed where
        all are missing.
        """
        self._check_names("inputs", inputs)
        until = time.monotonic() + self._timeout
        calls = {}
        missing = {}
        for name in self._expected:
            if name not in self._channels or name not in inputs:
                missing[name] = "no worker" if name not in self._channels else "no input"
            else:
                calls[name] = self._start(name, inputs[name])

        replies = {}
        for name, (started, request_id, call) in calls.items():
            try:
                received = call.result(max(0.0, until - time.monotonic()))
                took_ms = 1e3 * (time.perf_counter() - started)
                expected = self._expected[name]
                replies[name] = checked_reply(received, request_id, name, took_ms, expected)
                self._check_worker(name, expected, until)
            except (grpc.RpcError, grpc.FutureTimeoutError, messages.WireError) as error:
                call.cancel()
                replies.pop(name, None)
                self._checked.discard(name)
                missing[name] = _why(error)

        return self._fused(replies, missing)

    def close(self) -> None:
        """Ends the connections, and the thread of the fusion."""
        self.fusion.executor.close()
        for channel in self._channels.values():
            channel.close()

    def _start(self, name: str, value: np.ndarray | bytes):
        """(when it was sent, its id, the call)."""
        request_id = f"sensors-{next(self._count)}"
        request = tensors.infer_request(name, {self._input_name: value}, request_id=request_id)
        call = messages.stub(self._channels[name], "ModelInfer")
        return time.perf_counter(), request_id, call.future(request, timeout=self._timeout)

    def _check_worker(self, name: str, expected: Expected, until: float) -> None:
        """Raises WireError where a worker that has answered is older than views, and has left the
        bundle's out.
        """
        if name in self._checked:
            return
        call = messages.stub(self._channels[name], "ModelMetadata")
        request = messages.new("ModelMetadataRequest", name=name)
        metadata = messages.checked(call(request, timeout=max(0.0, until - time.monotonic())))
        expected.check_view(metadata.properties)
        self._checked.add(name)

    def _fused(self, replies: Mapping[str, Reply], missing: Mapping[str, str]) -> dict:
        if not replies:
            reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise RequestFailed(f"No worker has answered: {reasons}", status="UNAVAILABLE")

        features = {name: reply.features for name, reply in replies.items()}
        probabilities = self.fusion.answer(features)[0]  # (classes,)
        said: dict[str, Any] = {"degraded": bool(missing), "missing": ",".join(missing)}
        said |= {f"{name}.missing": why for name, why in missing.items()}
        said |= {f"{name}.compute_ms": reply.compute_ms for name, reply in replies.items()}
        return {
            "label": self.bundle.labels[int(probabilities.argmax())],
            "probability": float(probabilities.max()),
            "probabilities": probabilities,
            "parameters": said,
        }

    def _check_names(self, what: str, given: Mapping[str, Any]) -> None:
        unknown = sorted(given.keys() - self._expected.keys())
        if unknown or not given:
            raise ConfigError(
                f"{what} are of {unknown or 'no sub-model'}; the bundle has "
                f"{', '.join(self._expected)}. Name one of these at least."
            )


def _why(error: Exception) -> str:
    """Why there is no answer, in words."""
    if isinstance(error, grpc.FutureTimeoutError):
        return "deadline"
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"[:_WORDS]
    return f"wrong answer: {error}"[:_WORDS]
