"""A fleet as containers: what the YAML says is what the servers offer."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edvit_tf.cli.main import _parser as edvit_parser
from edvit_tf.device.__main__ import _parser as device_parser
from edvit_tf.device.rpc.http_server import PLAIN, Page, serve_http
from edvit_tf.operate import containers
from tests.support.commands import ROOT, run_command
from tests.support.deploy_fleet import devices_toml

yaml = pytest.importorskip("yaml")
DOCKERFILE = Path(containers.__file__).with_name("Dockerfile")


@pytest.fixture
def printed(tiny_bundle, tmp_path):
    rows = {"Pi 0": {"host": "a", "submodels": [0]}, "pi-1": {"host": "b", "submodels": [0, 1]}}
    devices = devices_toml(tmp_path, rows)

    def get(kind, *more):
        command = ["deploy", tiny_bundle, devices, f"--print-{kind}", "--min-submodels", "1", *more]
        code, out, err = run_command(command)
        assert code == 0, err
        assert not (tmp_path / "fleet").exists()
        return list(yaml.safe_load_all(out))

    return get


def parsed(words):
    """What the server's own parser makes of them."""
    module, *given = words
    parser = {"edvit_tf.device": device_parser, "edvit_tf.cli": edvit_parser}[module]()
    return parser.parse_args(given)


def test_compose_starts_workers_and_an_aggregator_that_asks_them(printed):
    (told,) = printed("compose")
    services = told["services"]
    assert sorted(services) == ["hub", "worker-pi-0", "worker-pi-1"]
    assert parsed(services["worker-pi-1"]["command"]).submodel == [0, 1]
    hub = parsed(services["hub"]["command"])
    assert hub.devices == "worker-pi-0:8001,worker-pi-1:8001" and hub.min_submodels == 1
    for service in services.values():
        asked = parsed(service["command"])
        # the probe asks the pages that the server has
        assert f"127.0.0.1:{asked.metrics.rpartition(':')[2]}/healthz" in str(
            service["healthcheck"]
        )
        mounted = [volume.split(":")[1] for volume in service["volumes"]]
        assert mounted == ["/bundle", "/identity"] and service["read_only"] is True
        # also after a reboot, which is no failure
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("status, code", [(200, 0), (503, 1)])
def test_a_probe_of_compose_asks_no_proxy(printed, status, code):
    """Where ~/.docker/config.json names proxies, each container has them in its environment."""
    (told,) = printed("compose")
    _, _, *probe = told["services"]["hub"]["healthcheck"]["test"]
    server = serve_http("127.0.0.1", 0, {"/healthz": lambda: Page(status, PLAIN, "")})
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
    try:
        ask = probe[-1].replace(":9000/", f":{server.server_address[1]}/")
        assert ask != probe[-1]
        done = subprocess.run(
            [sys.executable, "-c", ask], env={**os.environ, **proxies}, timeout=60
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == code


def test_k3s_has_a_deployment_and_a_service_for_each_server(printed):
    documents = printed("k3s")
    assert [one["kind"] for one in documents] == ["Deployment", "Service"] * 3
    for deployment, service in zip(documents[::2], documents[1::2], strict=True):
        name = deployment["metadata"]["name"]
        # the names of objects, and what the aggregator asks
        assert (
            re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
            and name == service["metadata"]["name"]
        )
        template = deployment["spec"]["template"]
        assert template["metadata"]["labels"] == service["spec"]["selector"]
        check_pod(template["spec"], service["spec"]["ports"][0]["port"])
    assert documents[0]["spec"]["template"]["spec"]["nodeSelector"] == {
        "kubernetes.io/hostname": "Pi 0"
    }


def test_kserve_serves_the_aggregator_by_grpc(printed):
    (told,) = printed("kserve")
    assert (told["apiVersion"], told["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = told["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"
    assert container["ports"] == [{"name": "h2c", "containerPort": 8000}]
    check_pod(predictor, 8000)


@pytest.mark.parametrize("aggregator, node", [("pi-1", "pi-1"), ("me@desk", "desk"), (None, None)])
def test_the_hub_runs_where_its_bundle_is(printed, aggregator, node):
    more = [] if aggregator is None else ["--aggregator", aggregator]
    selector = None if node is None else {"kubernetes.io/hostname": node}
    assert printed("k3s", *more)[-2]["spec"]["template"]["spec"].get("nodeSelector") == selector
    assert printed("kserve", *more)[0]["spec"]["predictor"].get("nodeSelector") == selector


def check_pod(pod, port):
    (container,) = pod["containers"]
    # `latest` would be asked of a registry, which does not have it
    assert container["imagePullPolicy"] == "IfNotPresent"
    asked = parsed(container["args"])
    assert asked.listen == f"0.0.0.0:{port}" and container["ports"][0]["containerPort"] == port
    pages = int(asked.metrics.rpartition(":")[2])
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": pages}
    assert container["livenessProbe"]["tcpSocket"]["port"] == pages
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    # a key that others could read is refused by the servers themselves
    secret = next(volume["secret"] for volume in pod["volumes"] if "secret" in volume)
    assert secret["defaultMode"] == 0o440 and pod["securityContext"]["fsGroup"]


def test_the_image_takes_what_the_clone_has():
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    for line in lines:
        word, *given = line.split() or [""]
        if word == "COPY" and not given[0].startswith("--from"):
            assert all((ROOT / name).exists() for name in given[:-1]), line
    assert "[aggregator]" in " ".join(lines) and '"aggregator"' in (ROOT / "setup.py").read_text()
    assert 'ENTRYPOINT ["python", "-m"]' in lines


@pytest.mark.network
def test_the_image_is_built_where_a_docker_daemon_answers():
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no docker daemon answers")
    command = shlex.split(f"docker build -q -t edvit-test -f {DOCKERFILE} {ROOT}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
