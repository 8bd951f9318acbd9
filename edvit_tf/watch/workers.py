"""The workers of a fleet, each asked for what its own sensor heard; the answers are fused here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edvit_tf.aggregate.sensors import SensorFleet
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import tls
from edvit_tf.watch.hub import check_labels


class Workers:
    """What answers a room. Threads may ask at the same time. Raises as `SensorFleet`."""

    def __init__(
        self,
        bundle: Bundle,
        workers: Mapping[str, str],
        own: tls.Identity | None,
        timeout_seconds: float,
    ) -> None:
        self.spec = bundle_input(bundle).spec
        self.labels = list(bundle.labels)
        self._fleet = SensorFleet(bundle, workers, own, timeout_seconds)

    def need(self, labels: Sequence[str]) -> None:
        """Raises ConfigError, with the labels that there are, for one that is none of them."""
        check_labels(labels, self.labels, "the bundle")

    def ask(self, values: Sequence[Any], say: Callable[[str], None]) -> dict[str, Any]:
        """As `SensorFleet.ask`, with "windows" and "labels" beside it."""
        [inputs] = values
        return {"windows": 1, "labels": self.labels, **self._fleet.ask(inputs)}

    def is_ready(self) -> bool:
        """Nobody says so but their answers."""
        return False

    def close(self) -> None:
        """Ends the connections."""
        self._fleet.close()
