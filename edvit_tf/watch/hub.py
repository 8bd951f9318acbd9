"""A fleet as a stream sees it: what it takes, its labels, its answers; by one connection that
outlives restarts and new bundles.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from edvit_tf.aggregate.client import BundleChanged, Client
from edvit_tf.device.model.input_kinds import spec_from_dict
from edvit_tf.device.model.input_spec import InputSpec
from edvit_tf.device.rpc import messages, tls
from edvit_tf.errors import ConfigError, RequestFailed
from edvit_tf.watch.item import Value

_MOST_LABELS_SHOWN = 40
# What a hub says of an array that its new bundle does not take, before it says that it has one.
_PERHAPS_OF_ANOTHER_BUNDLE = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


class _Serving:
    """One connection with what was said on it: threads read both at once."""

    def __init__(self, client: Client, server: str) -> None:
        self.client = client
        self.spec, self.labels = _described(client, server)
        self.asking = 0  # threads
        self.is_former = False


class Hub:
    """An aggregator. Threads may ask at the same time.

    Raises RequestFailed if it is not there, or does not say what it takes.
    """

    def __init__(self, server: str, own: tls.Identity | None, timeout_seconds: float) -> None:
        self.server = server
        self._connect: Callable[[], Client] = lambda: Client(server, own, timeout_seconds)
        self._renewing = threading.Lock()
        self._using = threading.Lock()
        self._needed: tuple[str, ...] = ()
        self._serving = self._connected()
        # of bundles before, while another thread asks by one
        self._former: list[_Serving] = []
        self.spec = self._serving.spec

    @property
    def labels(self) -> list[str]:
        return self._serving.labels

    def need(self, labels: Sequence[str]) -> None:
        """Raises ConfigError, with the labels that there are, for one that is none of them."""
        check_labels(labels, self.labels, self.server)
        self._needed = tuple(labels)

    def ask(self, values: Sequence[Value], say: Callable[[str], None]) -> dict[str, Any]:
        """As `Client.ask`, of one or several values, with "windows" and "labels" beside it.

        A hub that was given another bundle meanwhile is asked what that one takes. Raises
        RequestFailed, ConfigError where the stream does not suit the new bundle.
        """
        with self._used() as serving:
            try:
                return _together([serving.client.ask(value) for value in values], serving.labels)
            except BundleChanged:
                pass
            except RequestFailed as error:
                if error.status not in _PERHAPS_OF_ANOTHER_BUNDLE or not self._has_another(serving):
                    raise
            self._renew(serving, say)
        with self._used() as serving:
            return _together([serving.client.ask(value) for value in values], serving.labels)

    def is_ready(self) -> bool:
        """Whether it would answer what its devices can answer, as it says itself."""
        with self._used() as serving:
            return serving.client.is_ready()

    def close(self) -> None:
        """Ends the connection; whoever waits for an answer gets RequestFailed."""
        with self._using:
            each = [self._serving, *self._former]
        for serving in each:
            serving.client.close()

    @contextlib.contextmanager
    def _used(self) -> Iterator[_Serving]:
        """The connection of now, which is closed once it is a former one that nobody uses."""
        with self._using:
            serving = self._serving
            serving.asking += 1
        try:
            yield serving
        finally:
            with self._using:
                serving.asking -= 1
                is_over = serving.is_former and serving.asking == 0
                if is_over:
                    self._former.remove(serving)
            if is_over:
                serving.client.close()

    def _connected(self) -> _Serving:
        client = self._connect()
        try:
            return _Serving(client, self.server)
        except RequestFailed:
            client.close()
            raise

    def _has_another(self, old: _Serving) -> bool:
        """Whether the hub serves another bundle than on this connection. What else is wrong with it
        is for the request itself to say.
        """
        try:
            client = self._connect()
        except RequestFailed:
            return False
        try:
            return client.bundle_digest != old.client.bundle_digest
        finally:
            client.close()

    def _renew(self, old: _Serving, say: Callable[[str], None]) -> None:
        """Another connection, for another bundle; once, though several threads met it."""
        with self._renewing:
            if self._serving is not old:
                return
            new = self._connected()
            if new.spec != self.spec:
                new.client.close()
                raise RequestFailed(
                    f"{self.server} serves another bundle now, which takes other {self.spec.item}s "
                    "than the one before. Begin again."
                )
            with self._using:
                self._serving = new
                old.is_former = True  # this thread uses it still
                self._former.append(old)
            say(f"{self.server} serves the bundle {new.client.bundle_digest[:12]} now, going on.")
            self.need(self._needed)


def check_labels(named: Sequence[str], labels: Sequence[str], whose: str) -> None:
    """Raises ConfigError, with the labels that there are, for one of --on that is none of them."""
    unknown = [label for label in named if label not in labels]
    if unknown:
        shown = ", ".join(labels[:_MOST_LABELS_SHOWN])
        more = len(labels) - _MOST_LABELS_SHOWN
        raise ConfigError(
            f"--on names {unknown[0]!r}; {whose} tells apart {shown}"
            f"{f' and {more} more' if more > 0 else ''}. Name one of these."
        )


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
