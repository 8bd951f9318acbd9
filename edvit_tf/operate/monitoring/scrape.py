"""What Prometheus is to ask: a configuration, with the names that rules and dashboard use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.device.rpc.ports import bracketed, split_address
from edvit_tf.errors import ConfigError
from edvit_tf.operate.block_yaml import yaml_text
from edvit_tf.operate.deploy.steps import METRICS_ABOVE
from edvit_tf.operate.monitoring import HUB_JOB, WORKER_JOB

RULES_FILE = "edvit-rules.yml"
_INTERVAL = "15s"
_LAST_PORT = 65535


def scrape_text(hub: str, devices: str | None, identity: Path | None) -> str:
    """prometheus.yml. `hub` is HOST:PORT of the aggregator's pages; those of the workers are at
    their ports and METRICS_ABOVE. `identity`: the folder from which Prometheus reads ca.pem, for an
    aggregator with --https.

    Raises AddressError, and ConfigError as `fleet_devices` does.
    """
    jobs = [_job(HUB_JOB, [bracketed(*split_address(hub))], identity)]
    if devices is not None:
        jobs.append(_job(WORKER_JOB, worker_pages(devices), None))
    return yaml_text(
        {
            "global": {"scrape_interval": _INTERVAL, "evaluation_interval": _INTERVAL},
            "rule_files": [RULES_FILE],
            "scrape_configs": jobs,
        }
    )


def worker_pages(devices: str) -> list[str]:
    """Where the pages of the workers of a --devices are. Raises ConfigError where that is no
    port.
    """
    found = []
    for device in fleet_devices(devices):
        host, port = split_address(device.address)
        if port + METRICS_ABOVE > _LAST_PORT:
            raise ConfigError(
                f"{device.address}: its page would be at port {port + METRICS_ABOVE}, "
                f"{METRICS_ABOVE} above its own, and {_LAST_PORT} is the last. Have that worker "
                f"listen at {_LAST_PORT - METRICS_ABOVE} or below."
            )
        found.append(bracketed(host, port + METRICS_ABOVE))
    return found


def _job(name: str, targets: Sequence[str], identity: Path | None) -> dict[str, Any]:
    job: dict[str, Any] = {"job_name": name, "static_configs": [{"targets": list(targets)}]}
    if identity is not None:
        job |= {"scheme": "https", "tls_config": {"ca_file": str(identity.absolute() / "ca.pem")}}
    return job
