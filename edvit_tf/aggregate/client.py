"""Asks an aggregator, for arrays and for files. Needs a bundle only to cut recordings into
windows.
"""

from pathlib import Path
from typing import Any

import grpc
import numpy as np

from edvit_tf.aggregate.channel import IN_TURN
from edvit_tf.aggregate.service import MODEL
from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.input_spec import MOST_DECODED_BYTES, file_bytes
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.device.rpc.ports import split_address
from edvit_tf.device.terminal import printable
from edvit_tf.errors import ConfigError, RequestFailed

_WORDS = 4000  # characters of a server's words that are told


class BundleChanged(RequestFailed):
    """An aggregator serves another bundle than at the start of a connection."""


class Client:
    """A connection to an aggregator, or to several behind one name, which are asked in turn."""

    def __init__(self, server: str, own: tls.Identity | None, timeout_seconds: float) -> None:
        """Raises RequestFailed if no aggregator answers there in time."""
        if own is None:
            self._channel = grpc.insecure_channel(server, options=IN_TURN)
        else:
            credentials = tls.channel_credentials(own)
            self._channel = grpc.secure_channel(server, credentials, options=IN_TURN)

        self._server = server
        self._timeout = timeout_seconds

        # what an input must be, and whose weights answer
        try:
            metadata = self._call("ModelMetadata", messages.new("ModelMetadataRequest", name=MODEL))
            if not metadata.inputs:
                raise self._no_aggregator("its model has no input")
        except RequestFailed as error:
            self.close()
            raise _explained(error, server, own, timeout_seconds) from error

        self.input = metadata.inputs[0]  # name, datatype, shape (1, H, W, C)
        self.properties = dict(metadata.properties)
        self.bundle_digest = self.properties.get("bundle_digest", "")

    def ask(self, value: np.ndarray | bytes) -> dict:
        """{"label", "probability", "probabilities": array (classes,), "parameters"} for one input
        or encoded file.

        Raises RequestFailed with the aggregator's words, BundleChanged when it has another bundle
        than at the start.
        """
        response = self._call("ModelInfer", tensors.infer_request(MODEL, {self.input.name: value}))
        try:
            answer, digest = _answer(response)
        except (messages.WireError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise self._no_aggregator(f"its answer: {type(error).__name__}: {error}") from error
        if digest != self.bundle_digest:
            raise BundleChanged(
                f"{self._server} serves the bundle {digest[:12]} now, and "
                f"{self.bundle_digest[:12]} when this began. Begin again."
            )

        return answer

    def is_ready(self) -> bool:
        """Whether the aggregator is there, and says that its devices can be asked."""
        try:
            return self._call("ServerReady", messages.new("ServerReadyRequest")).ready
        except RequestFailed:
            return False

    def check_bundle(self, bundle: Bundle) -> None:
        """Raises ConfigError unless the aggregator serves this bundle: another one has other
        windows or labels.
        """
        if self.bundle_digest != bundle.digest:
            raise ConfigError(
                f"--bundle {bundle.path} is {bundle.digest[:12]}; {self._server} serves "
                f"{self.bundle_digest[:12]}. Give the bundle that is served, or none for files as "
                "they are."
            )

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: str, request):
        try:
            call = messages.stub(self._channel, method)
            return messages.checked(call(request, timeout=self._timeout))
        except grpc.RpcError as error:
            # whoever answers there chooses these words
            words = printable(error.details() or "", _WORDS)
            raise RequestFailed(
                f"{self._server} answered {error.code().name}: {words}", status=error.code().name
            ) from error
        except messages.WireError as error:
            raise self._no_aggregator(str(error)) from error

    def _no_aggregator(self, why: str) -> RequestFailed:
        return RequestFailed(
            f"{self._server} answers what no aggregator does ({printable(why, _WORDS)}). Look what "
            "runs there, and install one version of edvit_tf here and there.",
            status=grpc.StatusCode.UNKNOWN.name,
        )


def _answer(response) -> tuple[dict[str, Any], str]:
    """An aggregator's response as `Client.ask` gives it, and the digest in it. Raises what comes of
    reading one that is none.
    """
    found: dict[str, Any] = tensors.arrays(response)
    said = tensors.parameters(response)
    for name, value in said.items():
        is_number = isinstance(value, int | float)
        if (name.endswith("_ms") or name == "expected_accuracy") and not is_number:
            raise ValueError(f"{name[:64]} is no number")
    probabilities = found["probabilities"][0]  # (classes,)
    answer = {
        "label": found["label"][0].decode(),
        "probability": float(probabilities.max()),
        "probabilities": probabilities,
        "parameters": {"degraded": False, "missing": "", "total_ms": 0.0, **said},
    }
    return answer, str(said["bundle_digest"])


def _explained(
    error: RequestFailed, server: str, own: tls.Identity | None, timeout_seconds: float
) -> RequestFailed:
    """The error of a first call, with the reason where the two do not understand each other's TLS:
    gRPC tells it as a machine that is down.
    """
    if error.status != grpc.StatusCode.UNAVAILABLE.name:
        return error
    host, port = split_address(server)
    why = tls.why_refused(own, host, port, timeout_seconds)

    return error if why is None else RequestFailed(why, error.status)


def predict_encoded(client: Client, encoded: bytes) -> dict:
    """The answer for an encoded file, sent as it is, with "windows": 1."""
    return {"windows": 1, **client.ask(encoded)}


def predict_windows(client: Client, path: Path, bundle: Bundle) -> dict:
    """The answer for a file as the tensors that it is cut into here (the mean counts)."""
    given = bundle_input(bundle)
    try:
        inputs = given.from_file(file_bytes(path, MOST_DECODED_BYTES))
    except (InputError, DecoderMissing) as error:
        # what the aggregator would say of it
        raise RequestFailed(str(error), status="INVALID_ARGUMENT") from error

    # one answer a window: the mean counts, and of the rest the one that most was missing of
    answers = [client.ask(x[np.newaxis]) for x in inputs]
    mean = np.mean([answer["probabilities"] for answer in answers], axis=0)
    worst = max(answers, key=lambda answer: len(answer["parameters"]["missing"]))
    return {
        "windows": len(answers),
        "label": bundle.labels[int(mean.argmax())],
        "probability": float(mean.max()),
        "probabilities": mean,
        "parameters": worst["parameters"],
    }
