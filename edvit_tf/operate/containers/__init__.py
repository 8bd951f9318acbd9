"""A fleet as containers, for `edvit deploy --print-compose`, `--print-k3s` and `--print-kserve`:
YAML of the same workers and aggregator, with their health pages as probes. `Dockerfile` makes the
image.
"""

from collections.abc import Iterable
from typing import Any

from edvit_tf.operate.block_yaml import yaml_text
from edvit_tf.operate.deploy.machines import Machine

IMAGE = "edvit"
PORT = 8001  # of a worker: each has an address of its own
HUB_PORT = 8000
ABOVE = 1000  # the pages of a server are at its port and this
_USER = 10001  # as of the Dockerfile


def compose(fleet: Iterable[Machine], bundle: str, certificates: str, least: int | None) -> str:
    """compose.yaml: a service for each worker, and the aggregator, on one machine or swarm."""
    services: dict[str, Any] = {}
    for name, machine in _workers(fleet).items():
        services[name] = _service(
            worker_words(machine), PORT, f"{certificates}/worker-{machine.certificate_name}", bundle
        )
    hub = _service(hub_words(_addresses(services), least), HUB_PORT, _hub(certificates), bundle)
    hub["ports"] = [f"{HUB_PORT}:{HUB_PORT}"]
    hub["depends_on"] = list(services)
    return yaml_text({"services": {**services, "hub": hub}})


def k3s(fleet: Iterable[Machine], least: int | None) -> str:
    """Manifests: a Deployment and a Service for each server. A worker runs on the node that its
    device is, by the label kubernetes.io/hostname, and so does its bundle: /opt/edvit-bundle. The
    hub runs on that of the aggregator's machine, where the fleet has one. An identity is a secret:
    kubectl create secret generic edvit-worker-NAME --from-file=FOLDER.
    """
    documents: list[dict] = []
    fleet = tuple(fleet)
    workers = _workers(fleet)
    for name, machine in workers.items():
        secret = f"edvit-{name}"
        documents += _server(name, worker_words(machine), PORT, secret, _node(machine.name))
    words = hub_words(_addresses(workers), least)
    documents += _server("hub", words, HUB_PORT, "edvit-aggregator-hub", _hub_node(fleet))
    return "---\n".join(map(yaml_text, documents))


def kserve(fleet: Iterable[Machine], least: int | None) -> str:
    """An InferenceService of the aggregator; its workers are those of `k3s`."""
    fleet = tuple(fleet)
    words = hub_words(_addresses(_workers(fleet)), least)
    pod = _pod("kserve-container", words, HUB_PORT, "edvit-aggregator-hub")
    # KServe takes the one port that it is to send requests to, by its protocol's name
    pod["containers"][0]["ports"] = [{"name": "h2c", "containerPort": HUB_PORT}]
    return yaml_text(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": "edvit",
                "annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"},
            },
            "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 1, **pod, **_hub_node(fleet)}},
        }
    )


def worker_words(machine: Machine) -> list[str]:
    """What the image runs as a worker."""
    chosen = [word for index in machine.sub_models for word in ("--submodel", str(index))]
    return ["edvit_tf.device", "/bundle", *chosen, *_serving(PORT)]


def hub_words(addresses: list[str], least: int | None) -> list[str]:
    """What the image runs as the aggregator."""
    words = ["edvit_tf.cli", "serve", "/bundle", "--devices", ",".join(addresses)]
    words += _serving(HUB_PORT)
    return words if least is None else [*words, "--min-submodels", str(least)]


def _serving(port: int) -> list[str]:
    listen = ["--listen", f"0.0.0.0:{port}", "--identity", "/identity"]
    return [*listen, "--metrics", f"0.0.0.0:{port + ABOVE}"]


def _workers(fleet: Iterable[Machine]) -> dict[str, Machine]:
    workers = [machine for machine in fleet if machine.sub_models]
    return {container_host(machine): machine for machine in workers}


def _node(name: str) -> dict[str, Any]:
    return {"nodeSelector": {"kubernetes.io/hostname": name}}


def _hub_node(fleet: Iterable[Machine]) -> dict[str, Any]:
    """The node of the aggregator's machine, which has the bundle; {} where the fleet has none."""
    for machine in fleet:
        if machine.aggregator:
            return _node(machine.name if machine.sub_models else machine.hosts[0])
    return {}


def _label(name: str) -> str:
    return name.lower()


def container_host(machine: Machine) -> str:
    """The name by which the aggregator asks a worker's container."""
    return f"worker-{_label(machine.certificate_name)}"


def _addresses(workers: Iterable[str]) -> list[str]:
    return [f"{name}:{PORT}" for name in workers]


def _hub(certificates: str) -> str:
    return f"{certificates}/aggregator-hub"


def _service(words: list[str], port: int, identity: str, bundle: str) -> dict[str, Any]:
    # Docker may set http_proxy in every container, and a proxy has another 127.0.0.1
    opener = "u.build_opener(u.ProxyHandler({}))"
    page = f"http://127.0.0.1:{port + ABOVE}/healthz"
    ask = f"import urllib.request as u; {opener}.open('{page}')"
    return {
        "image": IMAGE,
        "command": words,
        "volumes": [f"{bundle}:/bundle:ro", f"{identity}:/identity:ro"],
        "healthcheck": {
            "test": ["CMD", "python", "-c", ask],
            "interval": "10s",
            "timeout": "5s",
            "start_period": "60s",
        },
        # whose key it is: an identity's files are its owner's alone
        "user": "${EDVIT_UID:-1000}",
        # on-failure would not start it again after a reboot
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp", "/cache:mode=1777"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _server(
    name: str, words: list[str], port: int, secret: str, node: dict[str, Any]
) -> list[dict[str, Any]]:
    labels = {"app": "edvit", "server": name}
    pod = {**_pod(name, words, port, secret), **node}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "grpc", "port": port}]},
        },
    ]


def _pod(name: str, words: list[str], port: int, secret: str) -> dict[str, Any]:
    """One container. A probe that fails for long restarts it; one that is not ready is not asked.

    A process that answers with NOT_SERVING lives: liveness asks the port alone.
    """
    pages = {"path": "/healthz", "port": port + ABOVE}
    container = {
        "name": name,
        "image": IMAGE,
        # it is brought to each node, and in no registry
        "imagePullPolicy": "IfNotPresent",
        "args": words,
        "ports": [{"name": "grpc", "containerPort": port}],
        "startupProbe": {"tcpSocket": {"port": port}, "periodSeconds": 2, "failureThreshold": 90},
        "readinessProbe": {"httpGet": pages, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": port + ABOVE}, "periodSeconds": 10},
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "bundle", "mountPath": "/bundle", "readOnly": True},
            {"name": "identity", "mountPath": "/identity", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "cache", "mountPath": "/cache"},
        ],
    }
    return {
        # a key that root owns may be read by a group, and by nobody else
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER},
        "containers": [container],
        "volumes": [
            {"name": "bundle", "hostPath": {"path": "/opt/edvit-bundle", "type": "Directory"}},
            {"name": "identity", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "cache", "emptyDir": {}},
        ],
    }
