"""A bundle's whole fleet on this machine: a worker for each device of its plan, and the aggregator,
on loopback, without TLS.
"""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.errors import DeviceExit
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.rpc.ports import split_address
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.operate.processes import Server, Told, attend, signals_told, start, stop
from edvit_tf.operate.running import announced

START_SECONDS = 120.0
AGGREGATOR = "aggregator"
DEVICES = "devices.toml"  # of the aggregator, beside the logs


@dataclass(frozen=True)
class UpOptions:
    """What the command line of `edvit up` says."""

    bundle: Path
    listen: str = "127.0.0.1:0"  # of the aggregator
    min_submodels: int = 1
    logs: Path | None = None  # None: a new folder in the temporary one


@dataclass(frozen=True)
class Fleet:
    """What runs, once every worker was reached."""

    bundle: Bundle
    aggregator: Server
    workers: dict[str, Server]  # by device
    hosts: dict[str, list[int]]  # the sub-models of each device
    logs: Path


def up(
    options: UpOptions, tell: Callable[[str], None], is_up: Callable[[Fleet], None]
) -> DeviceExit:
    """Starts the fleet and keeps it running until it is told to stop. `tell` gets each line of the
    logs, `is_up` the fleet when it answers.

    Raises BundleError for a damaged bundle, ConfigError if it is not up in time, OutputError, and
    ServerEnded with the code of a process that ended for good.
    """
    bundle = open_bundle(options.bundle)
    for file in bundle.files:
        if file.endswith(".tflite"):
            verified_path(bundle, file)  # here, where the message and the code are the bundle's
    if split_address(options.listen)[0] not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"--listen is {options.listen}; `edvit up` has no TLS and is for this machine: give an "
            "address on loopback, e.g. 127.0.0.1:8000. For a network: `edvit serve`, "
            "docs/howto/several_pis.md."
        )

    fleet = _fleet(bundle, options, _logs(options.logs))
    servers = [fleet.aggregator, *fleet.workers.values()]
    told: Told = Told()
    with signals_told(told), contextlib.ExitStack() as stack:
        # the aggregator first, so that nobody asks workers that are gone
        stack.callback(stop, servers)
        if not _begin(fleet, told, tell):
            return DeviceExit.DONE

        hub = fleet.aggregator
        pages = (hub.serving or {}).get("metrics") or ""
        stack.enter_context(announced(hub.address, bundle.path, bundle.digest, pages))
        is_up(fleet)
        attend(servers, told, tell, until=lambda: False)
        tell("stopping")
    return DeviceExit.DONE


def _begin(fleet: Fleet, told: Told, tell: Callable[[str], None]) -> bool:
    """Starts all, and waits until the aggregator has reached every worker; False: somebody wants an
    end before.
    """
    workers = list(fleet.workers.values())
    end = time.monotonic() + START_SECONDS
    ready: set[str] = set()  # devices

    def heard(server: Server, event: dict) -> None:
        if server is fleet.aggregator and event.get("event") == "device":
            (ready.add if event.get("state") == "ready" else ready.discard)(event["device"])

    def in_time(done: bool) -> bool:
        if not done and time.monotonic() > end:
            raise ConfigError(
                f"the fleet is not up after {START_SECONDS:g} s; the machine is overloaded, or see "
                f"the logs in {fleet.logs}."
            )
        return done

    def all_serve() -> bool:
        return in_time(all(worker.serving for worker in workers))

    def all_reached() -> bool:
        return in_time(ready == set(fleet.workers))

    for worker in workers:
        start(worker, told)
    if not attend(workers, told, tell, all_serve):
        return False

    # the ports of the workers are known now
    (fleet.logs / DEVICES).write_text(_devices(fleet), "utf-8")
    start(fleet.aggregator, told)
    return attend([fleet.aggregator, *workers], told, tell, all_reached, heard)


def _fleet(bundle: Bundle, options: UpOptions, logs: Path) -> Fleet:
    """The servers, none of them started."""
    hosts: dict[str, list[int]] = {}
    for entry in bundle.sub_models:
        for device in entry.devices or (entry.name,):
            hosts.setdefault(device, []).append(entry.index)

    workers = {}
    for place, (device, indices) in enumerate(hosts.items()):
        name = f"worker-{place}"
        workers[device] = Server(name, _worker(options.bundle, indices), logs / f"{name}.log")

    aggregator = Server(
        AGGREGATOR, _aggregator(options, logs), logs / f"{AGGREGATOR}.log", options.listen
    )
    return Fleet(bundle, aggregator, workers, hosts, logs)


def _worker(bundle: Path, indices: list[int]) -> Callable[[str], list[str]]:
    chosen = [word for index in indices for word in ("--submodel", str(index))]

    def command(address: str) -> list[str]:
        return ["edvit_tf.device", str(bundle), *chosen, "--listen", address, "--insecure"]

    return command


def _aggregator(options: UpOptions, logs: Path) -> Callable[[str], list[str]]:
    def command(address: str) -> list[str]:
        words = ["edvit_tf.cli", "serve", str(options.bundle), "--listen", address, "--insecure"]
        words += ["--devices", str(logs / DEVICES), "--metrics", "127.0.0.1:0"]
        return [*words, "--min-submodels", str(options.min_submodels)]

    return command


def _devices(fleet: Fleet) -> str:
    """The devices.toml of the aggregator: the plan's names, and where each is now."""
    lines = []
    for device, worker in fleet.workers.items():
        host, port = split_address(worker.address)
        # a string of JSON is one of TOML
        name = json.dumps(device, ensure_ascii=False)
        lines += ["[[device]]", f"name = {name}", f'host = "{host}"', f"port = {port}", ""]
    return "\n".join(lines)


def _logs(given: Path | None) -> Path:
    """The folder of the logs, which exists and has nothing of what is written there. Raises
    OutputError.
    """
    if given is None:
        return Path(tempfile.mkdtemp(prefix="edvit-up-"))
    try:
        given.mkdir(parents=True, exist_ok=True)
        # a folder of one's own work may have a devices.toml too, which must not be lost
        there = sorted(path.name for name in ("*.log", DEVICES) for path in given.glob(name))
    except OSError as error:
        raise OutputError(f"--logs {given} cannot be used ({error}). Take another.") from error
    if there:
        raise OutputError(
            f"--logs {given} has files already that would be changed ({there[0]}). Take "
            "another folder."
        )
    return given
