"""Do memory and descriptors stay as they are over many requests?

    python -m tests.steady --requests 100000 [--out steady.json]

Two workers and an aggregator, mutual TLS, eight clients, no faults. The first tenth of the requests
warms up; exit code 1 if a process then grows by more than 5 %, keeps descriptors, or an answer is
wrong or missing.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator
from tests.support.commands import write_made_bundle
from tests.support.fleet_process import healthy, oracle, places
from tests.support.traffic import Traffic
from tests.support.worker_process import wait_for

GROWTH, DESCRIPTORS, CLIENTS = 0.05, 2, 8


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.steady",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--bundle", type=Path, help="with two sub-models; made if left out")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edvit-steady-") as name:
        bundle = args.bundle or write_made_bundle(Path(name) / "two")
        result = steady(bundle, Path(name), args.requests)
    print(
        f"{result['requests']} requests in {result['seconds']:.0f} s; not whole "
        f"{result['not_whole']}, wrong "
        f"{result['wrong']}"
    )
    for process, samples in result["processes"].items():
        first, last = samples[0], samples[-1]
        print(
            f"{process:<12}{first['rss_bytes'] / 2**20:7.1f} -> {last['rss_bytes'] / 2**20:.1f} "
            "MiB "
            f"({100 * (last['rss_bytes'] / first['rss_bytes'] - 1):+.2f} %), descriptors "
            f"{first['descriptors']} -> "
            f"{last['descriptors']}"
        )
    for words in result["failed"]:
        print(f"FAILED: {words}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    return 1 if result["failed"] else 0


def steady(bundle: Path, folder: Path, requests: int) -> dict:
    """Runs it; a sample a tenth of the requests, the first after the first tenth. "failed" lists
    what must not be.
    """
    pictures = np.random.default_rng(0).integers(0, 256, (16, 1, 16, 16, 1), np.uint8)
    certs.init(folder / "ca")
    ids = {
        role: certs.issue(
            folder / "ca",
            role,
            "steady",
            [] if role == "client" else ["127.0.0.1"],
            10,
            folder / role,
        )
        for role in ("worker", "aggregator", "client")
    }
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(
            places(bundle, folder, [[0], [1]], "--identity", str(ids["worker"]))
        )
        one = stack.enter_context(
            aggregator(
                bundle,
                folder,
                [d.address for d in devices],
                "--identity",
                str(ids["aggregator"]),
                "--metrics",
                "127.0.0.1:0",
                "--deadline-ms",
                "10000",
            )
        )
        wait_for(lambda: healthy(one, 2))
        processes = {
            "aggregator": one,
            "worker 0": devices[0].worker,
            "worker 1": devices[1].worker,
        }
        samples, started = {name: [] for name in processes}, time.monotonic()
        traffic = Traffic(
            one.address,
            pictures,
            oracle(bundle, pictures),
            clients=CLIENTS,
            own=tls.identity(ids["client"]),
        )
        with traffic:
            for tenth in range(1, 11):
                wait_for(lambda tenth=tenth: len(traffic.rows) >= requests * tenth / 10, 3600)
                for name, process in processes.items():
                    samples[name].append(
                        {
                            "requests": len(traffic.rows),
                            "rss_bytes": process.resident_bytes(),
                            "descriptors": process.open_files(),
                        }
                    )
        seconds = time.monotonic() - started
    not_whole = sum(not row.whole for row in traffic.rows)
    result = {
        "requests": len(traffic.rows),
        "seconds": seconds,
        "not_whole": not_whole,
        "wrong": len(traffic.wrong()),
        "processes": samples,
    }
    result["failed"] = [f"{result[key]} {key}" for key in ("not_whole", "wrong") if result[key]]
    for name, of in samples.items():
        if of[-1]["rss_bytes"] > (1 + GROWTH) * of[0]["rss_bytes"]:
            result["failed"].append(f"the memory of {name} grows")
        if of[-1]["descriptors"] > of[0]["descriptors"] + DESCRIPTORS:
            result["failed"].append(f"the descriptors of {name} grow")
    return result


if __name__ == "__main__":
    sys.exit(main())
