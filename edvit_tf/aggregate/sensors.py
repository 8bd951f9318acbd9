"""Workers that look through sensors of their own: each sub-model is asked for its own input, and
the answers are fused here.

An aggregator sends one input to all devices. Where several cameras see one scene, or microphones
hear it, each worker gets what its own sensor saw at that moment, which is what views imitate.
Whoever has the inputs is a client of the workers. There are no replicas, breakers or queues of an
aggregator here: a worker that has not answered in time is missing in that answer, and is asked
again the next time.
"""

import itertools
import threading
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np

from edvit_tf.aggregate.channel import OPTIONS
from edvit_tf.aggregate.devices import checked_address
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.reply import Reply, WrongView, checked_reply, expected_answers
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.errors import ConfigError, RequestFailed

MOST_SECONDS = 3600  # that an answer may take
_WORDS = 300  # characters of a device's words that are passed on


class SensorFleet:
    """A connection to the worker of each sub-model, by the sub-model's name. Threads may ask at the
    same time.

        fleet = SensorFleet(open_bundle("cifar10"), {"submodel-00": "pi-0.local:8001", ...}, own)
        fleet.ask({"submodel-00": front, "submodel-01": left})["label"]

    `own` is the identity of a client (`tls.identity`), None for plaintext. Two sub-models may have
    one address where a device holds both by the bundle. Raises ConfigError for a name that the
    bundle does not have, an address that is none or another's, a timeout that is no time, and as
    `Fusion`.
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
        addresses = self._addresses(workers)
        self._input = bundle_input(bundle)
        self._timeout = _seconds(timeout_seconds)
        self._count = itertools.count()
        self.fusion = Fusion(bundle)
        self._fusing = threading.Lock()

        credentials = None if own is None else tls.channel_credentials(own)
        self._channels = {}
        for name, address in addresses.items():
            if credentials is None:
                self._channels[name] = grpc.insecure_channel(address, options=OPTIONS)
            else:
                self._channels[name] = grpc.secure_channel(address, credentials, options=OPTIONS)

    def ask(self, inputs: Mapping[str, np.ndarray | bytes]) -> dict:
        """{"label", "probability", "probabilities": array (classes,), "parameters"}, as of
        `client.Client.ask`: of an input (1, H, W, C), or an encoded file, for each sub-model.

        A sub-model without an input, or whose worker does not answer right, is missing:
        "parameters" says so and why. Raises ConfigError for an unknown name and for what is no
        input, before anything is sent, RequestFailed where all are missing.
        """
        self._check_names("inputs", inputs)
        requests = {}
        missing = {}
        for name in self._expected:
            if name not in self._channels or name not in inputs:
                missing[name] = "no worker" if name not in self._channels else "no input"
            else:
                requests[name] = self._request(name, inputs[name])

        replies, unanswered = self._answers(requests)
        return self._fused(replies, missing | unanswered)

    def close(self) -> None:
        """Ends the connections, and the thread of the fusion."""
        self.fusion.executor.close()
        for channel in self._channels.values():
            channel.close()

    def _addresses(self, workers: Mapping[str, str]) -> dict[str, str]:
        """The address of each worker; ConfigError for one that is none, or belongs to another's."""
        found: dict[str, str] = {}
        for name, text in workers.items():
            if not isinstance(text, str):
                raise ConfigError(
                    f"worker of {name}: the address is {text!r}, of the type "
                    f"{type(text).__name__}; write HOST:PORT, e.g. 'pi-0.local:8001'."
                )
            found[name] = checked_address(text.strip(), f"worker of {name}")

        # by the plan: a slip would leave one of the two without an answer for good
        held = {entry.name: set(entry.devices) for entry in self.bundle.sub_models}
        for one, other in itertools.combinations(found, 2):
            if found[one] == found[other] and not held[one] & held[other]:
                raise ConfigError(
                    f"{one} and {other} have the same address {found[one]}, and no device of the "
                    "bundle holds both; each has a worker of its own. Drop one, or mend its port."
                )
        return found

    def _request(self, name: str, value: np.ndarray | bytes):
        """What is sent to a sub-model's worker. Raises ConfigError."""
        if isinstance(value, bytes | bytearray | memoryview):
            value = bytes(value)
        elif not isinstance(value, np.ndarray):
            raise ConfigError(
                f"The input of {name} is of the type {type(value).__name__}; give an array "
                "(1, H, W, C), or an encoded file's bytes (pathlib.Path(...).read_bytes())."
            )
        else:
            self._check_array(name, value)

        request_id = f"sensors-{next(self._count)}"
        return tensors.infer_request(name, {self._input.name: value}, request_id=request_id)

    def _check_array(self, name: str, value: np.ndarray) -> None:
        """Raises ConfigError for an array that is not one input of the bundle."""
        dtype = value.dtype.newbyteorder("=")
        if dtype not in tensors.DATATYPES:
            raise ConfigError(
                f"The input of {name} is an array of {value.dtype}, which cannot be sent; give "
                "numbers of the type that the bundle takes."
            )
        if (value.shape, dtype) != (self._input.shape, self._input.dtype):
            raise ConfigError(
                f"The input of {name} is an array of the shape {value.shape} and the type "
                f"{value.dtype}; the bundle takes one input at a time, {self._input.shape} of "
                f"{self._input.dtype}. Ask once for each moment."
            )

    def _answers(self, requests: Mapping[str, Any]) -> tuple[dict[str, Reply], dict[str, str]]:
        """All are asked at once: the replies in time, and why the others are missing."""
        started = time.monotonic()
        calls: dict[str, Any] = {}
        replies = {}
        missing = {}
        try:
            for name, request in requests.items():
                call = messages.stub(self._channels[name], "ModelInfer")
                calls[name] = call.future(request, timeout=self._timeout)

            for name, call in calls.items():
                # one that is there already is taken, though an earlier one has used up the time
                left = started + self._timeout - time.monotonic()
                try:
                    received = call.result(max(0.0, left))
                    took_ms = 1e3 * (time.monotonic() - started)
                    replies[name] = checked_reply(
                        received, requests[name].id, name, took_ms, self._expected[name]
                    )
                except (grpc.RpcError, grpc.FutureTimeoutError, messages.WireError) as error:
                    missing[name] = _why(error)
        finally:
            # whatever ends this, no worker goes on for nobody; a call that is done stays done
            for call in calls.values():
                call.cancel()

        return replies, missing

    def _fused(self, replies: Mapping[str, Reply], missing: Mapping[str, str]) -> dict:
        if not replies:
            reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
            raise RequestFailed(f"No worker has answered: {reasons}", status="UNAVAILABLE")

        features = {name: reply.features for name, reply in replies.items()}
        # one at a time: an interpreter of TFLite holds a single run's tensors
        with self._fusing:
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
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{what} are of the type {type(given).__name__}; give them by sub-model's name, "
                "as a dict."
            )

        unknown = [name for name in given if name not in self._expected]
        if unknown or not given:
            raise ConfigError(
                f"{what} are of {unknown or 'no sub-model'}; the bundle has "
                f"{', '.join(self._expected)}. Name one of these at least."
            )


def _seconds(value: float) -> float:
    """A timeout that is one; ConfigError for nothing, no number, or more than anybody waits."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MOST_SECONDS:  # NaN is not either
        raise ConfigError(
            f"timeout_seconds is {value!r}; it must be a number of seconds above 0 and at most "
            f"{MOST_SECONDS}. Give what an answer may take, e.g. 1.0."
        )
    return float(value)


def _why(error: Exception) -> str:
    """Why there is no answer, in words."""
    if isinstance(error, grpc.FutureTimeoutError):
        return "deadline"
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"[:_WORDS]
    kind = "wrong-view" if isinstance(error, WrongView) else "wrong answer"
    return f"{kind}: {error}"[:_WORDS]
