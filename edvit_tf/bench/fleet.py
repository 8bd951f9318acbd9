"""What the network part costs: workers, an aggregator and a client as processes on this machine,
with mutual TLS.

    overhead = total_ms of the aggregator - the largest compute_ms that a device reported, request
    by request

On loopback, so without a network's delay and rate: it is what our own code, gRPC and TLS take.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import ConfigError

WARM_UP = 20  # requests that are not counted
START_SECONDS = 120.0


def bench_fleet(bundle_path: Path, devices: int, runs: int = 200) -> dict:
    """{"devices", "runs", "input_bytes", "total_ms", "compute_ms" (the largest), "overhead_ms",
    "client_overhead_ms" (what the client waits beyond total_ms): each with median, p95, min;
    "worker_overhead_ms": one worker asked directly, what the client waits less compute_ms;
    "worker_rss_bytes"}.

    The bundle's sub-models go round the devices in turn. Raises ConfigError for fewer sub-models
    than devices, or when a process does not start.
    """
    from edvit_tf.aggregate.client import Client
    from edvit_tf.device.rpc import tensors as wire
    from edvit_tf.device.rpc import tls
    from edvit_tf.operate import certs

    bundle = open_bundle(bundle_path)
    count = len(bundle.sub_models)
    if not 1 <= devices <= count:
        raise ConfigError(
            f"--devices is {devices}; the bundle has {count} sub-models. Give 1 to {count}."
        )
    with (
        tempfile.TemporaryDirectory(prefix="edvit-fleet-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        certs.init(folder / "ca")
        ids = {
            role: certs.issue(
                folder / "ca",
                role,
                "bench",
                [] if role == "client" else ["127.0.0.1"],
                1,
                folder / role,
            )
            for role in ("worker", "aggregator", "client")
        }
        workers = [
            stack.enter_context(
                _process(
                    [
                        "edvit_tf.device",
                        str(bundle_path),
                        "--listen",
                        "127.0.0.1:0",
                        "--identity",
                        str(ids["worker"]),
                        *(
                            word
                            for j in range(place, count, devices)
                            for word in ("--submodel", str(j))
                        ),
                    ],
                    folder,
                )
            )
            for place in range(devices)
        ]
        addresses = [serving["address"] for _, serving in workers]
        _, serving = stack.enter_context(
            _process(
                [
                    "edvit_tf.cli",
                    "serve",
                    str(bundle_path),
                    "--devices",
                    ",".join(addresses),
                    "--listen",
                    "127.0.0.1:0",
                    "--identity",
                    str(ids["aggregator"]),
                    "--deadline-ms",
                    "5000",
                ],
                folder,
            )
        )
        own = tls.identity(ids["client"])
        client = Client(serving["address"], own, 5.0)
        stack.callback(client.close)
        shape, dtype = tuple(client.input.shape), wire.DTYPES[client.input.datatype]
        x = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
        _wait(lambda: _answers(client, x), "the fleet")
        rows = [_asked(client, x) for _ in range(WARM_UP + runs)][WARM_UP:]
        import grpc

        channel = stack.enter_context(
            grpc.secure_channel(addresses[0], tls.channel_credentials(own))
        )
        call, request = (
            wire.stub(channel, "ModelInfer"),
            wire.infer_request("submodel-00", {client.input.name: x}),
        )
        alone = [_direct(call, request) for _ in range(WARM_UP + runs)][WARM_UP:]
        rss = max(_rss(process.pid) for process, _ in workers)
    return {
        "bundle": bundle.path.name,
        "devices": devices,
        "runs": runs,
        "input_bytes": x.nbytes,
        **{key: _spread([row[key] for row in rows]) for key in rows[0]},
        "worker_overhead_ms": _spread(alone),
        "worker_rss_bytes": rss,
    }


def fleet_text(result: dict) -> str:
    """The result as a text table, in milliseconds."""
    lines = [
        f"{result['devices']} workers, an aggregator and a client on this machine, mutual TLS, one "
        "request at a "
        f"time,\n{result['input_bytes']:,} bytes of input, {result['runs']} requests after "
        f"{WARM_UP} to warm up",
        f"{'':<22}{'median':>9}{'p95':>9}{'min':>9}",
    ]
    for key in (
        "total_ms",
        "compute_ms",
        "overhead_ms",
        "client_overhead_ms",
        "worker_overhead_ms",
    ):
        lines.append(
            f"{key:<22}"
            + "".join(f"{result[key][name]:>9.2f}" for name in ("median", "p95", "min"))
        )
    lines.append(f"largest worker: {result['worker_rss_bytes'] / 2**20:.0f} MiB resident")
    return "\n".join(lines)


def _asked(client, x: np.ndarray) -> dict:
    started = time.perf_counter()
    said = client.ask(x)["parameters"]
    waited = 1e3 * (time.perf_counter() - started)
    if said["degraded"]:
        raise ConfigError(
            f"a request was answered without {said['missing']}; the machine is too busy to measure "
            "on."
        )
    largest = max(value for key, value in said.items() if key.endswith(".compute_ms"))
    return {
        "total_ms": said["total_ms"],
        "compute_ms": largest,
        "overhead_ms": said["total_ms"] - largest,
        "client_overhead_ms": waited - said["total_ms"],
    }


def _direct(call, request) -> float:
    from edvit_tf.device.rpc import tensors as wire

    started = time.perf_counter()
    answer = wire.checked(call(request, timeout=5))
    return 1e3 * (time.perf_counter() - started) - wire.parameters(answer)["compute_ms"]


def _answers(client, x: np.ndarray) -> bool:
    from edvit_tf.aggregate.client import RequestFailed

    try:
        return not client.ask(x)["parameters"]["degraded"]
    except RequestFailed:
        return False


@contextlib.contextmanager
def _process(arguments: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A server of ours and its log line that says where it serves."""
    log = folder / f"{time.monotonic_ns()}.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stderr=file, env=dict(os.environ)
        )

    def serving():
        if process.poll() is not None:
            raise ConfigError(
                f"{arguments[0]} ended with {process.returncode}: {log.read_text()[-500:]}"
            )
        lines = [
            line
            for line in log.read_text().splitlines()
            if line.startswith("{") and line.endswith("}")
        ]
        return next((line for line in map(json.loads, lines) if line["event"] == "serving"), None)

    try:
        yield process, _wait(serving, arguments[0])
    finally:
        process.kill()
        process.wait()


def _wait(what, name: str):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.05)
    raise ConfigError(
        f"{name} did not start within {START_SECONDS:g} s; the machine is overloaded, or see "
        "--check."
    )


def _rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")
    )


def _spread(values: list[float]) -> dict:
    return {
        "median": statistics.median(values),
        "p95": float(np.quantile(values, 0.95)),
        "min": min(values),
    }
