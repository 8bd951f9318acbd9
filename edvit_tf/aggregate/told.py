"""What an aggregator tells of its fleet by HTTP, for /healthz, the page and the metrics; read in
another thread than the one that answers.
"""

from edvit_tf.aggregate import breaker, conditions
from edvit_tf.aggregate.fleet import Fleet
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.probe import STATES
from edvit_tf.device.rpc import certificate_expiry
from edvit_tf.device.rpc.base_service import package_version
from edvit_tf.device.rpc.metrics import Gauge, Sample


def health(fleet: Fleet) -> dict:
    """The fields of /healthz that other servers do not have."""
    return {
        "bundle_digest": fleet.parts.bundle.digest,
        "min_submodels": fleet.parts.least,
        "submodels": {name: _available(fleet, name) for name in fleet.fanout.expected},
        "views": {name: each.view for name, each in fleet.fanout.expected.items()},
        "devices": [_link_health(link) for link in fleet.links],
    }


def gauges(fleet: Fleet, degraded: int) -> list[Gauge]:
    """What answers here, and then the fleet; `degraded` are the answers that lacked a sub-model."""
    return [
        Gauge("edvit_aggregator_info", "What answers here.", [info(fleet)]),
        Gauge(
            "edvit_degraded_answers_total",
            "Answers without some sub-models, since the start.",
            [({}, degraded)],
        ),
        *of_devices(fleet),
    ]


def info(fleet: Fleet) -> Sample:
    """What answers here."""
    labels = {
        "version": package_version(),
        "bundle": fleet.parts.bundle.path.name,
        "bundle_digest": fleet.parts.bundle.digest,
    }
    return labels, 1


def of_devices(fleet: Fleet) -> list[Gauge]:
    """The fleet: its sub-models, and its devices."""
    available: list[Sample] = []
    for name in fleet.fanout.expected:
        available.append(({"model": name}, _available(fleet, name)))

    views: list[Sample] = []
    for name, each in fleet.fanout.expected.items():
        views.append(({"model": name, "view": each.view}, 1))

    states: list[Sample] = []
    breakers: list[Sample] = []
    failures: list[Sample] = []
    returns: list[Sample] = []

    for link in fleet.links:
        device, address = link.device.name, link.device.address
        for state in STATES:
            labels = {"device": device, "address": address, "state": state}
            states.append((labels, link.state == state))

        for state in breaker.STATES:
            breakers.append(({"device": device, "state": state}, link.breaker.state == state))

        # a copy: this is another thread
        for reason, n in link.failures.copy().items():
            failures.append(({"device": device, "reason": reason}, n))

        returns.append(({"device": device}, link.returns))

    return [
        Gauge("edvit_submodel_available", "1 while a device can be asked for it.", available),
        Gauge("edvit_submodel_view", "How it is to see an input.", views),
        Gauge("edvit_device_state", "1 for the state that a device is in.", states),
        Gauge("edvit_breaker_state", "1 for the state that a device's breaker is in.", breakers),
        Gauge(
            "edvit_device_failures_total",
            "Requests that a device did not answer, by reason.",
            failures,
        ),
        Gauge("edvit_device_returns_total", "Times that a device was ready again.", returns),
        Gauge(
            "edvit_hedges_total",
            "Second copies sent to replicas of slow devices.",
            [({}, fleet.fanout.budget.sent)],
        ),
        *conditions.gauges(fleet.links),
    ]


def _available(fleet: Fleet, name: str) -> bool:
    """Whether a device can be asked for a sub-model, and answered lately."""
    return any(link.hosts(name) and link.breaker.state == "closed" for link in fleet.links)


def _link_health(link: Link) -> dict:
    closed = link.breaker.state == "closed"
    below = {} if link.probe.below is None else {"below": sorted(link.probe.below)}
    return {
        **below,
        "device": link.device.name,
        "address": link.device.address,
        "state": link.state,
        "reason": link.seen.reason,
        "breaker": link.breaker.state,
        "breaker_reason": "" if closed else link.breaker.reason,
        "hosts": sorted(link.seen.models),
        "silent_seconds": round(link.silent_seconds(), 3),
        "in_flight_bytes": link.in_flight_bytes,
        **conditions.health(link.condition),
        "certificate": certificate_expiry.state(link.certificate_ends),
    }
