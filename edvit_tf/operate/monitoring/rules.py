"""Alert rules for Prometheus: what somebody should look at, with the sentence that says why."""

from dataclasses import dataclass
from typing import Any

from edvit_tf.device.rpc.certificate_expiry import WARN_DAYS
from edvit_tf.device.rpc.condition import HOT_C
from edvit_tf.operate.block_yaml import yaml_text
from edvit_tf.operate.monitoring import HUB_JOB, JOBS

_GUIDE = "docs/howto/faults.md"
_LAST_DAYS = 3
_BY_HUB = "by (job, instance)"
DEGRADED_SHARE = (
    f"sum {_BY_HUB} (rate(edvit_degraded_answers_total[5m])) / "
    f'sum {_BY_HUB} (rate(edvit_request_seconds_count{{model="edvit"}}[5m]))'
)
# What the fleet owes an answer to and has none: a request that is no good, or of somebody who may
# not ask, is its client's fault.
_FLEET_S = "UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNKNOWN|DATA_LOSS|ABORTED"
REFUSED_SHARE = (
    f'sum {_BY_HUB} (rate(edvit_requests_total{{job="{HUB_JOB}",method="ModelInfer",'
    f'code=~"{_FLEET_S}"}}[5m])) / '
    f'sum {_BY_HUB} (rate(edvit_requests_total{{job="{HUB_JOB}",method="ModelInfer"}}[5m]))'
)
P95_SECONDS = (
    "histogram_quantile(0.95, sum by (job, instance, le) "
    '(rate(edvit_request_seconds_bucket{model="edvit"}[5m])))'
)
DAYS_LEFT = "(edvit_certificate_expiry_timestamp_seconds - time()) / 86400"


@dataclass(frozen=True)
class Limits:
    """From where on an alert is one."""

    lasts: str = "1m"  # how long something must hold, as Prometheus writes it
    p95_ms: float = 500.0  # of answers
    degraded: float = 0.05  # share of answers that lack a sub-model
    hot_c: float = HOT_C


def rules_text(limits: Limits) -> str:
    """rules.yml for Prometheus."""
    return yaml_text({"groups": [{"name": "edvit", "rules": _rules(limits)}]})


def _rules(limits: Limits) -> list[dict[str, Any]]:
    return [*_of_servers(limits), *_of_devices(limits), *_of_answers(limits)]


def _of_servers(limits: Limits) -> list[dict[str, Any]]:
    ends = f"{DAYS_LEFT} < "
    return [
        _rule(
            "EdvitTargetDown",
            f"up{{{JOBS}}} == 0",
            limits.lasts,
            "critical",
            "{{ $labels.instance }} is not reached: the process, the machine or the line is down",
        ),
        _rule(
            "EdvitNotServing",
            "edvit_serving == 0",
            limits.lasts,
            "critical",
            "{{ $labels.instance }} does not serve; an aggregator has too few sub-models",
        ),
        _rule(
            "EdvitRestarts",
            f"changes(process_start_time_seconds{{{JOBS}}}[1h]) > 2",
            "0s",
            "warning",
            "{{ $labels.instance }} started {{ $value }} times within an hour; its log says why",
        ),
        _rule(
            "EdvitCertificateEndsSoon",
            f"{ends}{WARN_DAYS} and {DAYS_LEFT} >= {_LAST_DAYS}",
            limits.lasts,
            "warning",
            "the certificate of {{ $labels.instance }} ends in "
            '{{ $value | printf "%.0f" }} days: edvit certs issue',
        ),
        _rule(
            "EdvitCertificateEnds",
            f"{ends}{_LAST_DAYS}",
            limits.lasts,
            "critical",
            "the certificate of {{ $labels.instance }} ends in "
            '{{ $value | printf "%.1f" }} days: edvit certs issue',
        ),
    ]


def _of_devices(limits: Limits) -> list[dict[str, Any]]:
    return [
        _rule(
            "EdvitDeviceNotReady",
            # by what it is not: from "down" to "auth" it is the same alert, which goes on
            'edvit_device_state{state="ready"} == 0',
            limits.lasts,
            "warning",
            "{{ $labels.device }} ({{ $labels.address }}) is not ready; edvit status says why",
        ),
        _rule(
            "EdvitSubmodelUnavailable",
            "edvit_submodel_available == 0",
            limits.lasts,
            "critical",
            "no device answers for {{ $labels.model }}: no replica of it is live",
        ),
        _rule(
            "EdvitBreakerOpen",
            # a trial makes it half-open for a while, and must not end the alert
            'edvit_breaker_state{state="closed"} == 0',
            limits.lasts,
            "warning",
            "{{ $labels.device }} is left alone: it answers probes, but not requests",
        ),
        _rule(
            "EdvitDeviceHot",
            f"edvit_device_temperature_celsius >= {limits.hot_c:g}",
            limits.lasts,
            "warning",
            '{{ $labels.device }} has {{ $value | printf "%.0f" }} °C and lowers its clock: a '
            "heat sink or a fan",
        ),
        _rule(
            "EdvitDeviceThrottled",
            'edvit_device_throttled{when="now"} == 1',
            limits.lasts,
            "warning",
            "{{ $labels.device }} is held back by its board: {{ $labels.reason }}",
        ),
    ]


def _of_answers(limits: Limits) -> list[dict[str, Any]]:
    return [
        _rule(
            "EdvitDegraded",
            f"{DEGRADED_SHARE} > {limits.degraded:g}",
            limits.lasts,
            "warning",
            "{{ $value | humanizePercentage }} of the answers of {{ $labels.instance }} lack a "
            "sub-model",
        ),
        _rule(
            "EdvitRefused",
            f"{REFUSED_SHARE} > {limits.degraded:g}",
            limits.lasts,
            "warning",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.instance }} have no "
            "answer",
        ),
        _rule(
            "EdvitSlow",
            f"{P95_SECONDS} > {limits.p95_ms / 1e3:g}",
            limits.lasts,
            "warning",
            "one in twenty answers of {{ $labels.instance }} takes {{ $value | humanizeDuration }} "
            "or more",
        ),
    ]


def _rule(name: str, expression: str, lasts: str, severity: str, summary: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasts,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": f"What to do: {_GUIDE}"},
    }
