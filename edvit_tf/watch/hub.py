"""A fleet as a stream sees it: what it takes, its labels, its answers; by one connection that
outlives restarts and new bundles.
"""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edvit_tf.aggregate.client import BundleChanged, Client
from edvit_tf.device.model.input_kinds import spec_from_dict
from edvit_tf.device.model.input_spec import InputSpec
from edvit_tf.device.rpc import messages, tls
from edvit_tf.errors import ConfigError, RequestFailed
from edvit_tf.watch.item import Value

_MOST_LABELS_SHOWN = 40


class Hub:
    """An aggregator. Threads may ask at the same time.

    Raises RequestFailed if it is not there, or does not say what it takes.
    """

    def __init__(self, server: str, own: tls.Identity | None, timeout_seconds: float) -> None:
        self.server = server
        self._connect: Callable[[], Client] = lambda: Client(server, own, timeout_seconds)
        self._client = self._connect()
        self._renewing = threading.Lock()
        self._needed: tuple[str, ...] = ()
        # of bundles before: another thread may still be about to ask by one
        self._former: list[Client] = []
        try:
            self.spec, self.labels = _described(self._client, server)
        except RequestFailed:
            self.close()
            raise

    def need(self, labels: Sequence[str]) -> None:
        """Raises ConfigError, with the labels that there are, for one that is none of them."""
        unknown = [label for label in labels if label not in self.labels]
        if unknown:
            shown = ", ".join(self.labels[:_MOST_LABELS_SHOWN])
            more = len(self.labels) - _MOST_LABELS_SHOWN
            raise ConfigError(
                f"--on names {unknown[0]!r}; {self.server} tells apart {shown}"
                f"{f' and {more} more' if more > 0 else ''}. Name one of these."
            )
        self._needed = tuple(labels)

    def ask(self, values: Sequence[Value], say: Callable[[str], None]) -> dict[str, Any]:
        """As `Client.ask`, of one or several values, with "windows" and "labels" beside it.

        A hub that was given another bundle meanwhile is asked what that one takes. Raises
        RequestFailed, ConfigError where the stream does not suit the new bundle.
        """
        client = self._client
        labels = self.labels
        try:
            answers = [client.ask(value) for value in values]
        except BundleChanged:
            self._renew(client, say)
            client, labels = self._client, self.labels
            answers = [client.ask(value) for value in values]
        return _together(answers, labels)

    def close(self) -> None:
        """Ends the connection; whoever waits for an answer gets RequestFailed."""
        for client in (self._client, *self._former):
            client.close()

    def _renew(self, old: Client, say: Callable[[str], None]) -> None:
        """Another connection, for another bundle; once, though several threads met it."""
        with self._renewing:
            if self._client is not old:
                return
            client = self._connect()
            try:
                spec, labels = _described(client, self.server)
                if spec != self.spec:
                    raise RequestFailed(
                        f"{self.server} serves another bundle now, which takes other {spec.item}s "
                        "than the one before. Begin again."
                    )
            except RequestFailed:
                client.close()
                raise
            self._client, self.labels = client, labels
            self._former.append(old)
            say(f"{self.server} serves the bundle {client.bundle_digest[:12]} now, going on.")
            self.need(self._needed)


def _described(client: Client, server: str) -> tuple[InputSpec, list[str]]:
    """(what an input is, the labels) as the hub says them. Raises RequestFailed."""
    said = client.properties
    if messages.INPUT_SPEC not in said or messages.LABELS not in said:
        raise RequestFailed(
            f"{server} does not say what its models take: it is no aggregator, or older than "
            "`edvit watch`. Renew edvit_tf there."
        )
    try:
        spec = spec_from_dict(json.loads(said[messages.INPUT_SPEC]))
        labels = json.loads(said[messages.LABELS])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("labels are no list of names")
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise RequestFailed(
            f"{server} says of its models what cannot be used ({error}). Install one version of "
            "edvit_tf here and there."
        ) from error
    return spec, labels


def _together(answers: list[dict[str, Any]], labels: list[str]) -> dict[str, Any]:
    """The answer to several windows: the mean, and of the rest the one that most was missing of."""
    mean = np.mean([answer["probabilities"] for answer in answers], axis=0)  # (classes,)
    worst = max(answers, key=lambda answer: len(answer["parameters"]["missing"]))
    return {
        "windows": len(answers),
        "label": labels[int(mean.argmax())],
        "probability": float(mean.max()),
        "probabilities": mean,
        "labels": labels,
        "parameters": worst["parameters"],
    }
