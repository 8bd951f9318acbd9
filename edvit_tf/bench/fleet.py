"""What the network part costs: workers, an aggregator and a client as processes on this machine,
with mutual TLS.

    overhead = total_ms of the aggregator - the largest compute_ms that a device reported, request
    by request

On loopback, so without a network's delay and rate: it is what our own code, gRPC and TLS take.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edvit_tf.device.model.bundle import open_bundle, verified_path
from edvit_tf.device.model.view import AS_IT_IS
from edvit_tf.errors import ConfigError, ServerEnded

WARM_UP = 20  # requests that are not counted
START_SECONDS = 120.0
TIMES = ("total_ms", "compute_ms", "overhead_ms", "client_overhead_ms", "worker_overhead_ms")


def bench_fleet(bundle_path: Path, devices: int | None = None, runs: int = 200) -> dict:
    """{"devices", "runs", "input_bytes", "total_ms", "compute_ms" (the largest), "overhead_ms",
    "client_overhead_ms" (what the client waits beyond total_ms): each with median, p95, min;
    "worker_overhead_ms": one worker asked directly, what the client waits less compute_ms;
    "worker_rss_bytes", "views": how each sub-model sees the input, which compute_ms includes}.

    The bundle's sub-models go round the `devices` (None: one a sub-model) in turn. Raises
    BundleError for a damaged bundle, and ConfigError for fewer sub-models than devices, or when a
    process does not start in time; ServerEnded, with the code of a process that ended.
    """
    from edvit_tf.aggregate.client import Client
    from edvit_tf.device.rpc import tensors, tls

    bundle = open_bundle(bundle_path)
    count = len(bundle.sub_models)
    if devices is None:
        devices = count
    if not 1 <= devices <= count:
        raise ConfigError(
            f"--devices is {devices}; the bundle has {count} sub-models. Give 1 to {count}."
        )

    for file in bundle.files:
        if file.endswith(".tflite"):
            verified_path(bundle, file)  # here, where the message and the code are the bundle's

    with (
        tempfile.TemporaryDirectory(prefix="edvit-fleet-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        identities = _identities(folder)

        workers = []
        for place in range(devices):
            command = _worker_command(bundle_path, identities["worker"], place, count, devices)
            workers.append(stack.enter_context(_process(command, folder)))
        addresses = [serving["address"] for _, serving in workers]

        # The aggregator finds the workers by the ports that they were given.
        command = _aggregator_command(bundle_path, identities["aggregator"], addresses)
        _, serving = stack.enter_context(_process(command, folder))
        own = tls.identity(identities["client"])
        client = Client(serving["address"], own, 5.0)
        stack.callback(client.close)

        # What the fleet itself says it takes.
        shape = tuple(client.input.shape)
        dtype = tensors.DTYPES[client.input.datatype]
        x = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
        # It is up when an answer is whole: every worker was reached.
        _wait(lambda: _answers(client, x), "the fleet")

        # The first requests open connections and fill caches.
        rows = [_asked(client, x) for _ in range(WARM_UP + runs)][WARM_UP:]
        alone = _asked_directly(addresses[0], own, {client.input.name: x}, WARM_UP + runs)
        rss = max(_rss(process.pid) for process, _ in workers)

    return {
        "bundle": bundle.path.name,
        "devices": devices,
        "runs": runs,
        "input_bytes": x.nbytes,
        **{key: _spread([row[key] for row in rows]) for key in rows[0]},
        "worker_overhead_ms": _spread(alone[WARM_UP:]),
        "worker_rss_bytes": rss,
        "views": [str(entry.view) for entry in bundle.sub_models],
    }


def fleet_text(result: dict) -> str:
    """The result as a text table, in milliseconds."""
    lines = [
        f"{result['devices']} workers, an aggregator and a client on this machine, mutual TLS, one "
        "request at a time,",
        f"{result['input_bytes']:,} bytes of input, {result['runs']} requests after {WARM_UP} to "
        "warm up",
        f"{'':<22}{'median':>9}{'p95':>9}{'min':>9}",
    ]
    for key in TIMES:
        cells = "".join(f"{result[key][name]:>9.2f}" for name in ("median", "p95", "min"))
        lines.append(f"{key:<22}{cells}")
    views = dict.fromkeys(result["views"])
    if list(views) != [str(AS_IT_IS)]:
        lines.append(f"compute_ms includes the views: {'; '.join(views)}")
    lines.append(f"largest worker: {result['worker_rss_bytes'] / 2**20:.0f} MiB resident")
    return "\n".join(lines)


def _identities(folder: Path) -> dict[str, Path]:
    """An authority and an identity a role, all of them new; the folder of each identity."""
    from edvit_tf.operate import certs

    certs.init(folder / "ca")
    identities = {}
    for role in ("worker", "aggregator", "client"):
        hosts = [] if role == "client" else ["127.0.0.1"]
        identities[role] = certs.issue(folder / "ca", role, "bench", hosts, 1, folder / role)
    return identities


def _worker_command(
    bundle: Path, identity: Path, place: int, sub_models: int, devices: int
) -> list[str]:
    """A worker with every sub-model whose turn it is."""
    # Port 0: a free one, which the log line tells.
    command = ["edvit_tf.device", str(bundle), "--listen", "127.0.0.1:0"]
    command += ["--identity", str(identity)]
    for index in range(place, sub_models, devices):
        command += ["--submodel", str(index)]
    return command


def _aggregator_command(bundle: Path, identity: Path, addresses: list[str]) -> list[str]:
    command = ["edvit_tf.cli", "serve", str(bundle), "--devices", ",".join(addresses)]
    command += ["--listen", "127.0.0.1:0", "--identity", str(identity)]
    return [*command, "--deadline-ms", "5000"]


def _asked(client, x: np.ndarray) -> dict:
    """One request through the aggregator: its own milliseconds, and those beside them."""
    started = time.perf_counter()
    said = client.ask(x)["parameters"]
    waited = 1e3 * (time.perf_counter() - started)

    if said["degraded"]:
        raise ConfigError(
            f"a request was answered without {said['missing']}; the machine is too busy to measure "
            "on."
        )

    # Devices compute side by side: the slowest is what has to be waited for.
    largest = max(value for key, value in said.items() if key.endswith(".compute_ms"))
    return {
        "total_ms": said["total_ms"],
        "compute_ms": largest,
        "overhead_ms": said["total_ms"] - largest,
        "client_overhead_ms": waited - said["total_ms"],
    }


def _asked_directly(address: str, own, inputs: dict[str, np.ndarray], runs: int) -> list[float]:
    """Milliseconds that a client of one worker waits beyond the worker's own, for each request."""
    import grpc

    from edvit_tf.device.rpc import tensors, tls
    from edvit_tf.device.rpc.messages import checked, stub

    # The first worker holds the first sub-model, whatever the number of devices.
    request = tensors.infer_request("submodel-00", inputs)
    waited = []
    no_proxy = [("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(address, tls.channel_credentials(own), options=no_proxy) as channel:
        call = stub(channel, "ModelInfer")
        for _ in range(runs):
            started = time.perf_counter()
            answer = checked(call(request, timeout=5))
            took_ms = 1e3 * (time.perf_counter() - started)
            waited.append(took_ms - tensors.parameters(answer)["compute_ms"])
    return waited


def _answers(client, x: np.ndarray) -> bool:
    from edvit_tf.aggregate.client import RequestFailed

    try:
        return not client.ask(x)["parameters"]["degraded"]
    except RequestFailed:
        return False


@contextlib.contextmanager
def _process(arguments: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A server of ours and its log line that says where it serves."""
    # A name of its own: a worker is started several times a second.
    log = folder / f"{time.monotonic_ns()}.log"
    with open(log, "wb") as file:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stderr=file)

    def serving() -> dict | None:
        if process.poll() is not None:
            raise ServerEnded(arguments[0], process.returncode, log.read_text()[-500:])
        # The last line may be half written.
        for line in log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                event = json.loads(line)
                if event["event"] == "serving":
                    return event
        return None

    try:
        yield process, _wait(serving, arguments[0])
    finally:
        process.kill()
        process.wait()


def _wait(what: Callable[[], Any], name: str) -> Any:
    """What `what` returns as soon as that is true."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise ConfigError(
        f"{name} did not start within {START_SECONDS:g} s; the machine is overloaded, or see "
        "--check."
    )


def _rss(pid: int) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _spread(values: list[float]) -> dict:
    return {
        "median": statistics.median(values),
        "p95": float(np.quantile(values, 0.95)),
        "min": min(values),
    }
