"""Rules, dashboard and scrape configuration: what promtool and Grafana's own classes say of them,
and what a real Prometheus finds by them in a real fleet.
"""

import contextlib
import json
import re
import signal
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml

from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from edvit_tf.operate.monitoring.dashboard import dashboard_text
from edvit_tf.operate.monitoring.rules import Limits, rules_text
from tests.support.aggregator_process import aggregator, all_ready, infer, wait_ready
from tests.support.commands import ROOT, run_command
from tests.support.prometheus_process import Prometheus, needs_prometheus, prometheus, promtool
from tests.support.worker_process import Worker, wait_for, worker

X = np.zeros((1, 16, 16, 1), np.uint8)
HUB = 'instance="hub:9000",job="edvit"'
DAY = 86400
# For each alert a series that makes it one after two minutes, and one that does not.
CASES = {
    "EdvitTargetDown": (
        f"up{{{HUB}}}",
        "0x10",
        "1x10",
    ),
    "EdvitNotServing": (f"edvit_serving{{{HUB}}}", "0x10", "1x10"),
    "EdvitRestarts": (f"process_start_time_seconds{{{HUB}}}", "0+60x10", "7x10"),
    "EdvitCertificateEndsSoon": (
        f"edvit_certificate_expiry_timestamp_seconds{{{HUB}}}",
        f"{20 * DAY}x10",
        f"{40 * DAY}x10",
    ),
    "EdvitCertificateEnds": (
        f"edvit_certificate_expiry_timestamp_seconds{{{HUB}}}",
        f"{2 * DAY}x10",
        f"{40 * DAY}x10",
    ),
    "EdvitDeviceNotReady": (
        f'edvit_device_state{{{HUB},device="a",state="ready"}}',
        "0x10",
        "1x10",
    ),
    "EdvitSubmodelUnavailable": (f'edvit_submodel_available{{{HUB},model="m"}}', "0x10", "1x10"),
    "EdvitBreakerOpen": (
        f'edvit_breaker_state{{{HUB},device="a",state="closed"}}',
        "0x10",
        "1x10",
    ),
    "EdvitDeviceHot": (
        f'edvit_device_temperature_celsius{{{HUB},device="a"}}',
        "80x10",
        "79x10",
    ),
    "EdvitDeviceThrottled": (
        f'edvit_device_throttled{{{HUB},device="a",when="now",reason="throttled"}}',
        "1x10",
        "0x10",
    ),
    "EdvitDegraded": (f"edvit_degraded_answers_total{{{HUB}}}", "0+10x10", "0+1x10"),
    "EdvitRefused": (
        f'edvit_requests_total{{{HUB},method="ModelInfer",model="edvit",code="UNAVAILABLE"}}',
        "0+10x10",
        "0+1x10",
    ),
    "EdvitSlow": (
        f'edvit_request_seconds_bucket{{{HUB},model="edvit",le="0.5"}}',
        "0+90x10",
        "0+100x10",
    ),
}
# What the shares are of: 100 requests a minute, all of them answered within a second.
BESIDE = {
    f'edvit_request_seconds_count{{{HUB},model="edvit"}}': "0+100x10",
    f'edvit_request_seconds_bucket{{{HUB},model="edvit",le="0.5"}}': "0+100x10",
    f'edvit_request_seconds_bucket{{{HUB},model="edvit",le="1.0"}}': "0+100x10",
    f'edvit_request_seconds_bucket{{{HUB},model="edvit",le="+Inf"}}': "0+100x10",
    f'edvit_requests_total{{{HUB},method="ModelInfer",model="edvit",code="OK"}}': "0+100x10",
}


def rules(limits: Limits = Limits()) -> list[dict]:  # noqa: B008 (frozen)
    return yaml.safe_load(rules_text(limits))["groups"][0]["rules"]


def expressions() -> list[str]:
    """Of all rules and all panels."""
    panels = json.loads(dashboard_text())["panels"]
    found = [rule["expr"] for rule in rules()]
    return found + [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:edvit|process)_[a-z0-9_]+|\bup\b", expression))


def test_rules_and_panels_name_metrics_that_the_reference_lists():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    listed = {"up", *re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE)}
    for expression in expressions():
        named = metrics_of(expression)
        bare = {re.sub(r"(seconds)_(bucket|count|sum)$", r"\1", name) for name in named}
        assert named and bare <= listed, expression


def test_the_options_stand_in_the_rules():
    words = ["--for", "7s", "--p95-ms", "250", "--degraded", "0.2", "--hot-c", "70"]
    code, out, err = run_command(["monitoring", "rules", *words])
    assert code == 0, err
    found = {rule["alert"]: rule for rule in yaml.safe_load(out)["groups"][0]["rules"]}
    assert found["EdvitDeviceNotReady"]["for"] == "7s"
    ends = {"EdvitSlow": "> 0.25", "EdvitDegraded": "> 0.2", "EdvitDeviceHot": ">= 70"}
    assert all(found[name]["expr"].endswith(end) for name, end in ends.items())


@pytest.mark.parametrize("text", ["1", "m", "1.5m", "-1m", "1m; drop", "", "5 m"])
def test_what_is_no_duration_is_refused(text):
    code, _, err = run_command(["monitoring", "rules", f"--for={text}"])
    assert code == 2 and "is no duration of Prometheus, e.g. 30s or 5m" in err


def test_the_dashboard_is_one_of_grafana():
    """Its own classes read it, and know every key: what they do not know they would drop."""
    dashboard = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    text = dashboard_text()
    read = dashboard.Dashboard.from_json(json.loads(text))
    again = json.loads(encoder.JSONEncoder().encode(read))
    assert within(json.loads(text), again) == []


def within(one, other, path: str = "") -> list[str]:
    """What of `one` is not in `other`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [said for key in one for said in within(one[key], other.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [said for i, (a, b) in pairs for said in within(a, b, f"{path}[{i}]")]
    return [] if one == other else [f"{path}: {one!r}, {other!r}"]


def test_the_panels_have_their_places():
    panels = json.loads(dashboard_text())["panels"]
    cells = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells
                cells.add((x, y))
    assert len({panel["id"] for panel in panels}) == len(panels)


@needs_prometheus
def test_each_alert_fires_for_its_fault_and_for_none_else(tmp_path):
    """By promtool: time runs there as it is told."""
    (tmp_path / "rules.yml").write_text(rules_text(Limits()))
    promtool("check", "rules", tmp_path / "rules.yml")
    assert set(CASES) == {rule["alert"] for rule in rules()}

    tests = []
    for name, (series, bad, good) in CASES.items():
        for values, fires in ((bad, True), (good, False)):
            inputs = {**BESIDE, series: values}
            count = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
            others = f'count(ALERTS{{alertname!="{name}",alertstate="firing"}})'
            asked = [{"expr": count, "eval_time": "6m", "exp_samples": []}]
            asked.append({"expr": others, "eval_time": "6m", "exp_samples": []})
            if fires:
                asked[0]["exp_samples"] = [{"labels": "{}", "value": 1}]
            rows = [{"series": key, "values": text} for key, text in inputs.items()]
            tests.append(
                {"interval": "1m", "input_series": rows, "promql_expr_test": asked, "name": name}
            )
    told = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(told))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yml")


# What comes and goes by turns, a state at a time; the alert of it goes on, or there is none.
TURNS = {
    "EdvitBreakerOpen": (
        {
            f'edvit_breaker_state{{{HUB},device="a",state="closed"}}': "0x20",
            f'edvit_breaker_state{{{HUB},device="a",state="open"}}': "1 0 1 0 1 0 1 0 1 0 1 0 1",
            f'edvit_breaker_state{{{HUB},device="a",state="half-open"}}': "0 1 0 1 0 1 0 1 0 1 0 1",
        },
        True,
    ),
    "EdvitDeviceNotReady": (
        {
            f'edvit_device_state{{{HUB},device="a",state="ready"}}': "0x20",
            f'edvit_device_state{{{HUB},device="a",state="down"}}': "1 0 1 0 1 0 1 0 1 0 1 0 1",
            f'edvit_device_state{{{HUB},device="a",state="auth"}}': "0 1 0 1 0 1 0 1 0 1 0 1 0",
        },
        True,
    ),
    "EdvitRefused": (
        {
            f'edvit_requests_total{{{HUB},method="ModelInfer",code="{code}"}}': "0+50x20"
            for code in ("INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND")
        },
        False,
    ),
}


@needs_prometheus
def test_an_alert_does_not_flap_with_its_states_nor_fire_for_a_client_s_faults(tmp_path):
    (tmp_path / "rules.yml").write_text(rules_text(Limits()))
    tests = []
    for name, (series, fires) in TURNS.items():
        rows = [{"series": key, "values": text} for key, text in {**BESIDE, **series}.items()]
        asked = [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
            for minute in (5, 6, 7, 8, 9)
        ]
        tests.append(
            {"interval": "1m", "input_series": rows, "promql_expr_test": asked, "name": name}
        )
    told = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(told))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yml")


def test_two_hubs_have_lines_of_their_own():
    """A time series of each panel says whose it is."""
    for panel in json.loads(dashboard_text())["panels"]:
        for target in panel["targets"]:
            if panel["type"] == "timeseries":
                assert "{{instance}}" in target["legendFormat"], panel["title"]
                sums = re.findall(r"sum by \(([^)]*)\)", target["expr"])
                assert all("instance" in labels for labels in sums), panel["title"]


def test_a_page_beyond_the_last_port_is_told():
    words = ["monitoring", "scrape", "hub:9000", "--devices"]
    code, _, err = run_command([*words, "pi:65000"])
    assert code == 3 and "pi:65000" in err and "port 66000" in err and "64535 or below" in err
    code, out, err = run_command([*words, "pi:64535"])
    assert code == 0 and "pi:65535" in out, err


@needs_prometheus
@pytest.mark.parametrize("secure", [False, True])
def test_the_scrape_configuration_is_one(tmp_path, secure):
    (tmp_path / "edvit-rules.yml").write_text(rules_text(Limits()))
    (tmp_path / "devices.toml").write_text(
        '[[device]]\nname = "pi-0"\nhost = "::1"\nport = 8001\nmemory = "1GiB"\n'
    )
    words = ["monitoring", "scrape", "hub:9000", "--devices", tmp_path / "devices.toml"]
    if secure:
        (tmp_path / "ca.pem").touch()
        words += ["--identity", tmp_path]
    code, out, err = run_command(words)
    assert code == 0, err
    (tmp_path / "prometheus.yml").write_text(out)
    promtool("check", "config", *(["--syntax-only"] if secure else []), tmp_path / "prometheus.yml")
    hub, workers = yaml.safe_load(out)["scrape_configs"]
    assert workers["static_configs"] == [{"targets": ["[::1]:9001"]}]
    assert hub["static_configs"] == [{"targets": ["hub:9000"]}]
    assert hub.get("scheme", "http") == ("https" if secure else "http")


SYSTEM = """
import pathlib
from edvit_tf.device.worker import power, power_watch
power.SYSTEM = pathlib.Path({system!r})
power_watch.READ_SECONDS = 0.1
"""  # a prelude: a Pi that is warm


@pytest.fixture(scope="module")
def watched(tiny_bundle, tmp_path_factory):
    """(Prometheus, aggregator, a channel to it, workers): over TLS, scraped twice a second."""
    folder = tmp_path_factory.mktemp("watched")
    for name, text in {
        "class/thermal/thermal_zone0/temp": "52000",
        "class/thermal/thermal_zone0/type": "cpu-thermal",
        "devices/platform/soc/soc:firmware/get_throttled": "50000",
    }.items():
        (folder / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "sys" / name).write_text(text)
    authority = certs.init(folder / "fleet")
    ids = {
        role: certs.issue(authority, role, "one", [] if role == "client" else ["127.0.0.1"])
        for role in ("worker", "aggregator", "client")
    }
    pages = ("--metrics", "127.0.0.1:0")
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                worker(
                    tiny_bundle,
                    folder,
                    *("--identity", str(ids["worker"]), "--submodel", str(index), *pages),
                    prelude=SYSTEM.format(system=str(folder / "sys")),
                )
            )
            for index in (0, 1)
        ]
        words = ("--identity", str(ids["aggregator"]), "--min-submodels", "1", *pages)
        addresses = [one.address for one in workers]
        one = stack.enter_context(aggregator(tiny_bundle, folder, addresses, *words))
        channel = stack.enter_context(one.channel(tls.identity(ids["client"])))
        wait_ready(channel)
        wait_for(lambda: all_ready(one, 2))
        config = scraping(folder, one, workers)
        yield stack.enter_context(prometheus(config, folder)), one, channel, workers


def scraping(folder: Path, hub, workers) -> Path:
    """The printed configuration and rules, in a hurry."""
    (folder / "edvit-rules.yml").write_text(rules_text(Limits(lasts="1s")))
    devices = ",".join(each.serving["metrics"] for each in workers)
    words = ["monitoring", "scrape", hub.serving["metrics"], "--devices", devices]
    code, out, err = run_command(words)
    assert code == 0, err
    told = yaml.safe_load(out)
    told["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    # these have ports of the kernel's choice
    told["scrape_configs"][1]["static_configs"] = [{"targets": devices.split(",")}]
    (folder / "prometheus.yml").write_text(json.dumps(told))
    return folder / "prometheus.yml"


@needs_prometheus
def test_no_rule_and_no_panel_asks_for_what_no_fleet_has(watched):
    """After a killed worker, each metric that they name has samples."""
    server, _, channel, workers = watched
    wait_for(lambda: len(server.query("up == 1")) == 3, 60)
    assert {name for name, _ in server.firing()} & {"EdvitDeviceNotReady"} == set()
    wait_for(lambda: _answered(channel), 60)
    wait_for(lambda: server.query('edvit_requests_total{method="ModelInfer",code="OK"}'), 60)
    _check_samples(server, without={"edvit_device_failures_total"})

    gone = workers[1]
    wait_for(lambda: _unanswered(channel, gone) and server.query("edvit_device_failures_total"), 90)
    gone.process.kill()
    wanted = {
        ("EdvitDeviceNotReady", gone.address),
        ("EdvitSubmodelUnavailable", "submodel-01"),
        ("EdvitTargetDown", ""),
    }
    wait_for(lambda: wanted <= server.firing(), 120)
    for expression in expressions():
        server.query(expression)  # HTTPError for what does not parse


def _answered(channel: grpc.Channel) -> bool:
    """Whether a request is; on a busy machine it may be late."""
    with contextlib.suppress(grpc.RpcError):
        infer(channel, X, timeout=60)
        return True
    return False


def _unanswered(channel: grpc.Channel, device: Worker) -> bool:
    """A request is sent while a device stands still: it may be found silent before, and is then not
    asked.
    """
    device.process.send_signal(signal.SIGSTOP)
    try:
        _answered(channel)
    finally:
        device.process.send_signal(signal.SIGCONT)
    return True


def _check_samples(server: Prometheus, without: set[str]) -> None:
    named = set().union(*map(metrics_of, expressions())) - without
    for name in sorted(named):
        assert wait_for(lambda name=name: server.query(name), 60), name
