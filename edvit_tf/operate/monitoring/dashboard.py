"""A dashboard for Grafana, as the JSON that its import takes. It asks for its Prometheus there."""

import json
from typing import Any, NamedTuple

from edvit_tf.device.rpc.condition import HOT_C
from edvit_tf.operate.monitoring import HUB_JOB
from edvit_tf.operate.monitoring.rules import (
    DAYS_LEFT,
    DEGRADED_SHARE,
    P95_SECONDS,
    REFUSED_SHARE,
)

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24  # of Grafana's grid
_GOOD, _BAD = "green", "red"


class Panel(NamedTuple):
    """A panel: what it shows, and how large it is. `bad_from`: red from there on; `bad_below`: red
    below it.
    """

    title: str
    kind: str  # "stat" or "timeseries"
    queries: tuple[tuple[str, str], ...]  # expression, legend
    unit: str = "short"
    width: int = 8
    height: int = 8
    bad_from: float | None = None
    bad_below: float | None = None


_RATE = f'sum by (instance) (rate(edvit_requests_total{{job="{HUB_JOB}",method="ModelInfer"}}[5m]))'
PANELS = (
    Panel("Serving", "stat", (("edvit_serving", "{{instance}}"),), "bool_yes_no", 6, 4, None, 1),
    Panel(
        "Devices that are ready",
        "stat",
        (('sum(edvit_device_state{state="ready"})', "ready"),),
        width=6,
        height=4,
    ),
    Panel(
        "Sub-models without a device",
        "stat",
        (("sum(1 - edvit_submodel_available)", "missing"),),
        width=6,
        height=4,
        bad_from=1,
    ),
    Panel(
        "Days until the first certificate ends",
        "stat",
        ((f"min({DAYS_LEFT})", "days"),),
        width=6,
        height=4,
        bad_below=30,
    ),
    Panel("Requests a second", "timeseries", ((_RATE, "{{instance}}"),), "reqps"),
    Panel(
        "Seconds of an answer",
        "timeseries",
        (
            (P95_SECONDS.replace("0.95", "0.5"), "{{instance}} p50"),
            (P95_SECONDS, "{{instance}} p95"),
            (P95_SECONDS.replace("0.95", "0.99"), "{{instance}} p99"),
        ),
        "s",
    ),
    Panel(
        "Degraded and refused",
        "timeseries",
        ((DEGRADED_SHARE, "{{instance}} degraded"), (REFUSED_SHARE, "{{instance}} refused")),
        "percentunit",
    ),
    Panel(
        "Device, there and back (p95)",
        "timeseries",
        (
            (
                "histogram_quantile(0.95, sum by (instance, le, device) "
                "(rate(edvit_device_seconds_bucket[5m])))",
                "{{instance}} {{device}}",
            ),
        ),
        "s",
    ),
    Panel(
        "Devices that are not ready",
        "timeseries",
        (('edvit_device_state{state!="ready"} == 1', "{{instance}} {{device}} {{state}}"),),
    ),
    Panel(
        "Open breakers",
        "timeseries",
        (('edvit_breaker_state{state!="closed"} == 1', "{{instance}} {{device}} {{state}}"),),
    ),
    Panel(
        "Temperature",
        "timeseries",
        (("edvit_device_temperature_celsius", "{{instance}} {{device}}"),),
        "celsius",
        bad_from=HOT_C,
    ),
    Panel(
        "Held back by the board",
        "timeseries",
        (('edvit_device_throttled{when="now"}', "{{instance}} {{device}} {{reason}}"),),
    ),
    Panel(
        "Requests that a device did not answer, a second",
        "timeseries",
        (
            (
                "sum by (instance, device, reason) (rate(edvit_device_failures_total[5m]))",
                "{{instance}} {{device}} {{reason}}",
            ),
        ),
        "ops",
    ),
    Panel(
        "Memory of the processes",
        "timeseries",
        (('process_resident_memory_bytes{job=~"edvit.*"}', "{{instance}}"),),
        "bytes",
    ),
    Panel("In flight", "timeseries", (("edvit_in_flight", "{{instance}}"),)),
    Panel(
        "Second copies sent to replicas, a second",
        "timeseries",
        (("rate(edvit_hedges_total[5m])", "{{instance}}"),),
        "ops",
    ),
)


def dashboard_text() -> str:
    """The dashboard's JSON."""
    made = {
        "title": "edvit fleet",
        "uid": "edvit-fleet",
        "tags": ["edvit"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": _placed(),
    }
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _placed() -> list[dict[str, Any]]:
    """The panels in rows, from the left to the right."""
    made = []
    x = y = height = 0
    for number, panel in enumerate(PANELS, 1):
        if x + panel.width > _COLUMNS:
            x, y, height = 0, y + height, 0
        place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
        made.append({"id": number, "gridPos": place, **_panel(panel)})
        x, height = x + panel.width, max(height, panel.height)
    return made


def _panel(panel: Panel) -> dict[str, Any]:
    targets = []
    for place, (expression, legend) in enumerate(panel.queries):
        name = chr(ord("A") + place)
        targets.append(
            {"datasource": _SOURCE, "expr": expression, "legendFormat": legend, "refId": name}
        )
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": _thresholds(panel)},
            "overrides": [],
        },
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": _GOOD, "value": None}]
    if panel.bad_from is not None:
        steps.append({"color": _BAD, "value": panel.bad_from})
    if panel.bad_below is not None:
        steps = [{"color": _BAD, "value": None}, {"color": _GOOD, "value": panel.bad_below}]
    return {"mode": "absolute", "steps": steps}
