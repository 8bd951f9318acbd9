"""What an aggregator of many workers takes, flat and by a tree of relays, in turns in one run.

    python -m tests.tree_figures [--workers 10,30,100] [--requests 200] [--rack 10] [--out FILE]

Real aggregators and relays, each in a process of its own; workers are hosted many to a process,
and their models answer at once (`tests/support/many_workers.py`): what is measured is what asks
them. All over mutual TLS on loopback, one request at a time, 150,528 bytes of input to each worker.

CPU is that of a process (/proc/PID/stat, user and system), less what it takes without a request,
which is told beside it: a probe of each device a second. Milliseconds are the client's, on a
machine that runs the workers too; the load of the machine is told.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from edvit_tf.aggregate.client import Client
from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, relay
from tests.support.commands import ROOT, run_host
from tests.support.fleet_process import health, metric
from tests.support.worker_process import Worker, wait_for

SIDE = 224  # of a picture, three bytes a pixel
HOSTS = 2  # processes that have the workers
TURN = 20  # requests, then the other shape's turn
IDLE_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Shape:
    """An aggregator, and what it took."""

    name: str
    hub: Worker
    client: Client
    below: list[Worker]  # its relays
    milliseconds: list[float] = field(default_factory=list)
    hub_cpu: float = 0.0  # seconds
    below_cpu: float = 0.0
    sent: int = 0


@dataclass
class Row:
    """A line of the table; CPU in milliseconds."""

    workers: int
    shape: str
    requests: int
    p50_ms: float
    p99_ms: float
    hub_cpu_ms: float  # a request
    relay_cpu_ms: float  # a request and relay
    hub_idle_ms: float  # a second
    relay_idle_ms: float
    sent_bytes: float  # by the hub, a request
    load: float  # of the machine, in the mean


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tree_figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", default="10,30,100", help="default 10,30,100")
    parser.add_argument("--requests", type=int, default=200, help="of each shape (default 200)")
    parser.add_argument("--rack", type=int, default=10, help="workers a relay (default 10)")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)

    rows: list[Row] = []
    for count in map(int, args.workers.split(",")):
        with tempfile.TemporaryDirectory(prefix="edvit-tree-") as name:
            rows += measured(Path(name), count, args.rack, args.requests)
        print(text(rows[-2:], header=len(rows) == 2), flush=True)
    if args.out:
        args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def measured(folder: Path, count: int, rack: int, requests: int) -> list[Row]:
    """The two rows of `count` workers."""
    bundle = _made(folder / "bundle", count)
    ids = _identities(folder)
    with contextlib.ExitStack() as stack:
        hosts, addresses = _workers(stack, bundle, ids, count)
        racks = [addresses[first : first + rack] for first in range(0, count, rack)]
        relays = [
            stack.enter_context(relay(bundle, folder, below, *_as(ids, "relay"))) for below in racks
        ]
        asked = {"flat": addresses, "tree": [one.address for one in relays]}
        shapes = []
        for name, devices in asked.items():
            hub = stack.enter_context(aggregator(bundle, folder, devices, *_as(ids, "aggregator")))
            client = Client(hub.address, tls.identity(ids["client"]), 20.0)
            stack.callback(client.close)
            shapes.append(Shape(name, hub, client, relays if name == "tree" else []))

        for shape in shapes:
            wait_for(lambda shape=shape: all(health(shape.hub)["submodels"].values()), 120)
        loads = [os.getloadavg()[0]]
        idle = _idle(shapes)
        x = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
        for shape in shapes:
            _ask(shape, x, TURN)  # connections are open, and round trips known
        for _ in range(requests // TURN):
            for shape in shapes:
                _turn(shape, x, idle, hosts)
                loads.append(os.getloadavg()[0])

    return [_row(shape, count, idle, float(np.mean(loads))) for shape in shapes]


def _turn(shape: Shape, x: np.ndarray, idle: dict[str, float], hosts: list) -> None:
    """Some requests to one shape, with what they took of the processes."""
    hub, below = _cpu([shape.hub]), _cpu(shape.below)
    sent, started = _received(shape, hosts), time.monotonic()
    shape.milliseconds += _ask(shape, x, TURN)
    took = time.monotonic() - started
    shape.sent += _received(shape, hosts) - sent
    shape.hub_cpu += _cpu([shape.hub]) - hub - took * idle[shape.name]
    shape.below_cpu += _cpu(shape.below) - below - took * idle["relays"] * len(shape.below)


def _received(shape: Shape, hosts: list) -> int:
    """Bytes that came over streams from the hub; only one of the two is asked at a time."""
    if shape.below:
        return int(sum(metric(one, "edvit_stream_bytes_total") for one in shape.below))
    return sum(_bytes(host) for host in hosts)


def _bytes(host: subprocess.Popen) -> int:
    host.stdin.write("\n")
    host.stdin.flush()
    return int(host.stdout.readline())


def _ask(shape: Shape, x: np.ndarray, count: int) -> list[float]:
    """Milliseconds of each request, which must be answered whole."""
    found = []
    for _ in range(count):
        started = time.perf_counter()
        said = shape.client.ask(x)["parameters"]
        found.append(1e3 * (time.perf_counter() - started))
        assert not said["degraded"], {k: v for k, v in said.items() if k.endswith("missing")}
    return found


def _idle(shapes: list[Shape]) -> dict[str, float]:
    """CPU seconds a second without a request: of each hub, and of a relay in the mean."""
    groups = {shape.name: [shape.hub] for shape in shapes}
    groups["relays"] = [one for shape in shapes for one in shape.below]
    before, started = {name: _cpu(group) for name, group in groups.items()}, time.monotonic()
    time.sleep(IDLE_SECONDS)
    took = time.monotonic() - started
    return {
        name: (_cpu(group) - before[name]) / took / max(1, len(group))
        for name, group in groups.items()
    }


def _cpu(processes: list[Worker]) -> float:
    """Seconds that they have taken."""
    ticks = 0
    for one in processes:
        stat = Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])  # utime, stime
    return ticks / TICKS


def _row(shape: Shape, count: int, idle: dict[str, float], load: float) -> Row:
    requests = len(shape.milliseconds)
    p50, p99 = np.quantile(shape.milliseconds, [0.5, 0.99])
    relays = max(1, len(shape.below))
    return Row(
        count,
        shape.name,
        requests,
        float(p50),
        float(p99),
        1e3 * shape.hub_cpu / requests,
        1e3 * shape.below_cpu / requests / relays,
        1e3 * idle[shape.name],
        1e3 * idle["relays"] if shape.below else 0.0,
        shape.sent / requests,
        load,
    )


def text(rows: list[Row], header: bool = True) -> str:
    lines = []
    if header:
        lines.append(
            "| workers | shape | its CPU a request | CPU of a relay | idle, a second | it sends "
            "| p50 | p99 | load |\n|---|---|---|---|---|---|---|---|---|"
        )
    for row in rows:
        below = f"{row.relay_cpu_ms:.2f} ms" if row.shape == "tree" else ""
        lines.append(
            f"| {row.workers} | {row.shape} | {row.hub_cpu_ms:.1f} ms | {below} "
            f"| {row.hub_idle_ms:.0f} ms | {row.sent_bytes / 1e6:.2f} MB | {row.p50_ms:.0f} ms "
            f"| {row.p99_ms:.0f} ms | {row.load:.1f} |"
        )
    return "\n".join(lines)


def _made(folder: Path, count: int) -> Path:
    """A bundle of so many copies. Of large patches, so that the model is small: nobody runs it."""
    views = [{"down": j // 20, "right": j % 20} for j in range(count)]
    done = run_host(
        "-c",
        "import pathlib; from edvit_tf.models.vit.config import ViTConfig; "
        "from tests.support import made_bundle; "
        f"config = ViTConfig(({SIDE}, {SIDE}, 3), patch_size=56, num_layers=1, hidden_dim=24, "
        "num_heads=2, head_dim=12, mlp_dim=48, num_classes=3); "
        f"made_bundle.write(pathlib.{folder!r}, config, views={views})",
    )
    assert done.returncode == 0, done.stderr
    return folder


def _identities(folder: Path) -> dict[str, Path]:
    certs.init(folder / "ca")
    here = ["127.0.0.1"]
    return {
        role: certs.issue(folder / "ca", role, "bench", hosts, 1, folder / role)
        for role, hosts in (("worker", here), ("relay", here), ("aggregator", here), ("client", []))
    }


def _as(ids: dict[str, Path], role: str) -> tuple[str, ...]:
    return ("--identity", str(ids[role]), "--metrics", "127.0.0.1:0")


def _workers(
    stack: contextlib.ExitStack, bundle: Path, ids: dict[str, Path], count: int
) -> tuple[list[subprocess.Popen], list[str]]:
    """The processes that host them, and the addresses in the order of the sub-models."""
    hosts, found = [], {}
    for place in range(HOSTS):
        indices = list(range(place, count, HOSTS))
        host, addresses = stack.enter_context(_host(bundle, ids["worker"], indices))
        hosts.append(host)
        found |= dict(zip(indices, addresses, strict=True))
    return hosts, [found[index] for index in range(count)]


@contextlib.contextmanager
def _host(
    bundle: Path, identity: Path, indices: list[int]
) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    command = [sys.executable, "-m", "tests.support.many_workers", str(bundle), str(identity)]
    with subprocess.Popen(
        [*command, *map(str, indices)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        try:
            yield host, json.loads(host.stdout.readline())
        finally:
            host.kill()


if __name__ == "__main__":
    sys.exit(main())
