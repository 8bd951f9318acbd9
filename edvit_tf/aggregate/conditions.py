"""Temperature and throttling of the devices, as the aggregator shows them."""

from collections.abc import Iterable

from edvit_tf.aggregate.link import Link
from edvit_tf.device.rpc.condition import Condition, throttled_samples
from edvit_tf.device.rpc.metrics import Gauge, Sample


def gauges(links: Iterable[Link]) -> list[Gauge]:
    """Of this moment; a device that is away, or does not tell, has no sample."""
    degrees: list[Sample] = []
    throttled: list[Sample] = []
    for link in links:
        condition, labels = link.condition, {"device": link.device.name}
        if condition.temperature_c is not None:
            degrees.append((labels, condition.temperature_c))
        throttled += throttled_samples(labels, condition)

    return [
        Gauge("edvit_device_temperature_celsius", "Of a device's hottest zone.", degrees),
        Gauge(
            "edvit_device_throttled",
            "1 while a device's firmware holds it back for this reason, or did since boot.",
            throttled,
        ),
    ]


def health(condition: Condition) -> dict:
    """What /healthz says of a device's condition: null for what is not known."""
    now, past = condition.now, condition.since_boot
    return {
        "temperature_c": condition.temperature_c,
        "throttled": condition.reasons() if now else None,
        "throttled_since_boot": [reason for reason, held in past.items() if held] if past else None,
    }
