"""Five workers under random faults: is every answer right or flagged, in time, and is there one?

    python -m tests.soak --minutes 2 --seed 0 [--out soak.json] [--bundle FOLDER]

Real workers and a real aggregator with mutual TLS, a proxy between them. At most N - min_submodels
devices are in a fault at once, a device counting until it is in BACK answers in a row. Every answer
is compared, bit for bit, with what the files answer in processes of their own for the sub-models
that it says are missing. Exit code 1 if an answer was wrong, a request took longer than the
deadline and 10 %, less than 99.9 % were answered, or a device did not come back. Beside each late
request stands how long the aggregator says that it took, and how long a thread here that only
sleeps was kept waiting meanwhile: so long the machine had no time for the clients. The other
processes may have stalled apart.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support import chaos
from tests.support.aggregator_process import aggregator
from tests.support.commands import write_made_bundle
from tests.support.fleet_process import Place, healthy, oracle, states
from tests.support.traffic import Traffic, distinct
from tests.support.worker_process import wait_for

DEVICES, LEAST, DEADLINE_SECONDS = 5, 3, 1.5
AVAILABILITY, BACK = 0.999, 8
LONGEST_FAULT_SECONDS = 4.0
STALL_SECONDS = 0.03  # shorter ones are not noted


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--bundle", type=Path, help="with five sub-models; made if left out")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edvit-soak-") as name:
        bundle = args.bundle or write_made_bundle(Path(name) / "five", count=DEVICES)
        result = soak(bundle, Path(name), args.minutes * 60, args.seed, args.clients)
    print(text(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    return 1 if result["failed"] else 0


def soak(bundle: Path, folder: Path, seconds: float, seed: int, clients: int) -> dict:
    """Runs it and returns the figures; "failed" lists what must not be."""
    pictures = np.random.default_rng(seed).integers(0, 256, (16, 1, 16, 16, 1), np.uint8)
    wanted = oracle(bundle, pictures)
    assert distinct(wanted), "two pictures have the same answer; a mix would not be seen"
    certs.init(folder / "ca")
    ids = {
        role: certs.issue(
            folder / "ca",
            role,
            "soak",
            [] if role == "client" else ["127.0.0.1"],
            10,
            folder / role,
        )
        for role in ("worker", "aggregator", "client")
    }
    with contextlib.ExitStack() as stack:
        devices = [
            Place(
                copy,
                folder,
                [j],
                "--identity",
                str(ids["worker"]),
                "--stuck-seconds",
                str(chaos.STUCK_SECONDS),
            )
            for j, copy in enumerate(chaos.copies(bundle, folder, DEVICES))
        ]
        for device in devices:
            stack.callback(device.close)
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(DEVICES))
        list(pool.map(Place.start, devices))
        proxy, addresses = stack.enter_context(chaos.lines([device.address for device in devices]))
        one = stack.enter_context(
            aggregator(
                bundle,
                folder,
                addresses,
                "--identity",
                str(ids["aggregator"]),
                "--min-submodels",
                str(LEAST),
                "--deadline-ms",
                str(1e3 * DEADLINE_SECONDS),
                "--metrics",
                "127.0.0.1:0",
            )
        )
        wait_for(lambda: healthy(one, DEVICES))
        stalls = stack.enter_context(noted_stalls())
        traffic = stack.enter_context(
            Traffic(
                one.address,
                pictures,
                wanted,
                clients=clients,
                pause_seconds=0.02,
                own=tls.identity(ids["client"]),
            )
        )
        time.sleep(1)
        before = (one.resident_bytes(), one.open_files())

        def is_back(device: int, since: float) -> bool:
            latest = traffic.since(since)[-BACK:]
            return (
                len(latest) == BACK
                and all(row.missing is not None and device not in row.missing for row in latest)
                and (addresses[device], "ready", "closed") in states(one)
            )

        faults = _faults(random.Random(seed), seconds, devices, proxy, pool, is_back)
        time.sleep(1)
        settled = time.monotonic()
        time.sleep(1)
        after, end = (one.resident_bytes(), one.open_files()), traffic.since(settled)
        assert one.process.poll() is None, "the aggregator ended"
    return {
        "minutes": seconds / 60,
        "seed": seed,
        **_figures(traffic.rows, faults, end, stalls),
        "aggregator_rss_bytes": [before[0], after[0]],
        "aggregator_descriptors": [before[1], after[1]],
    }


def _faults(rng: random.Random, seconds: float, devices, proxy, pool, is_back) -> list[chaos.Fault]:
    """Random faults for so long, at most N - LEAST at once, each kind about as often; returns when
    all are over.
    """
    running: dict[concurrent.futures.Future, int] = {}
    found, kinds, end = [], [], time.monotonic() + seconds
    while time.monotonic() < end or running:
        for future in [future for future in running if future.done()]:
            running.pop(future)
            found.append(future.result())
        if time.monotonic() < end and len(running) < DEVICES - LEAST:
            if not kinds:
                kinds = rng.sample(list(chaos.FAULTS), len(chaos.FAULTS))
            device = rng.choice([j for j in range(DEVICES) if j not in running.values()])
            future = pool.submit(
                chaos.suffer,
                kinds.pop(),
                devices[device],
                proxy,
                device,
                rng.uniform(0.2, LONGEST_FAULT_SECONDS),
                functools.partial(is_back, device),
            )
            running[future] = device
        time.sleep(rng.uniform(0.0, 0.6))
    return found


@contextlib.contextmanager
def noted_stalls():
    """A list that grows by (time.monotonic(), seconds) whenever a thread that sleeps wakes up too
    late.
    """
    found, stop = [], threading.Event()

    def sleep():
        before = time.monotonic()
        while not stop.wait(0.01):
            now = time.monotonic()
            if now - before > STALL_SECONDS:
                found.append((before, now - before))
            before = now

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _stalled(stalls, row) -> float:
    """Seconds of the stalls that touch a request."""
    end = row.started + row.seconds
    return sum(
        seconds for began, seconds in stalls if began < end and began + seconds > row.started
    )


def _figures(rows, faults: list[chaos.Fault], end, stalls=()) -> dict:
    answered = [row for row in rows if row.code == "OK"]
    hangs = [row for row in rows if row.seconds > 1.1 * DEADLINE_SECONDS]
    wrong = [row for row in rows if not row.right]
    times = [row.seconds for row in rows]
    kinds = {kind: [fault for fault in faults if fault.kind == kind] for kind in chaos.FAULTS}
    result = {
        "requests": len(rows),
        "answered": len(answered),
        "whole": sum(row.whole for row in rows),
        "degraded": sum(bool(row.missing) for row in answered),
        "wrong": len(wrong),
        "hangs": len(hangs),
        "availability": len(answered) / max(1, len(rows)),
        "codes": collections.Counter(row.code for row in rows),
        "seconds": {
            "p50": float(np.median(times)),
            "p99": float(np.quantile(times, 0.99)),
            "longest": max(times),
        },
        "late": [
            {
                "code": row.code,
                "seconds": row.seconds,
                "inside_seconds": row.inside_seconds,
                "stalled_seconds": _stalled(stalls, row),
            }
            for row in hangs
        ],
        "longest_stall_seconds": max((seconds for _, seconds in stalls), default=0.0),
        "stalls": len(stalls),
        "refusals": [{"code": row.code, "words": row.words} for row in rows if row.code != "OK"][
            :20
        ],
        "faults": {
            kind: {
                "count": len(of),
                "back_seconds_median": _median([f.back_seconds for f in of]),
                "back_seconds_max": max((f.back_seconds or 0.0 for f in of), default=None),
            }
            for kind, of in kinds.items()
        },
    }
    result["failed"] = [
        *(f"{len(wrong)} wrong answers" for _ in wrong[:1]),
        *(f"{len(hangs)} requests too late" for _ in hangs[:1]),
        *(["availability"] if result["availability"] < AVAILABILITY else []),
        *(
            f"{fault.kind} of device {fault.device}: {fault.trouble or 'never back'}"
            for fault in faults
            if fault.trouble or fault.back_seconds is None
        ),
        *([] if end and all(row.whole for row in end) else ["not whole at the end"]),
    ]
    return result


def _median(values: list) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def text(result: dict) -> str:
    """The figures as a table."""
    lines = [
        f"{result['minutes']:g} minutes, seed {result['seed']}: {result['requests']} requests, "
        f"{result['whole']} whole, {result['degraded']} degraded, {result['codes']}",
        f"wrong {result['wrong']}, too late {result['hangs']}, availability "
        f"{100 * result['availability']:.3f} %",
        "p50 {p50:.4f} s, p99 {p99:.3f} s, longest {longest:.3f} s".format(**result["seconds"]),
        "aggregator: resident {:.1f} -> {:.1f} MiB, ".format(
            *(n / 2**20 for n in result["aggregator_rss_bytes"])
        )
        + "descriptors {} -> {}".format(*result["aggregator_descriptors"]),
        f"{'fault':<10}{'count':>6}{'back after s, median':>22}{'max':>7}",
    ]
    for kind, row in result["faults"].items():
        median, most = (
            "" if row[key] is None else f"{row[key]:.2f}"
            for key in ("back_seconds_median", "back_seconds_max")
        )
        lines.append(f"{kind:<10}{row['count']:>6}{median:>22}{most:>7}")
    lines.append(
        f"stalls of the machine: {result['stalls']}, longest {result['longest_stall_seconds']:.3f} "
        "s"
    )
    lines += [
        f"LATE {row['code']}: {row['seconds']:.3f} s, inside the aggregator "
        f"{row['inside_seconds']} s, the "
        f"machine stalled {row['stalled_seconds']:.3f} s"
        for row in result["late"]
    ]
    lines += [f"REFUSED {row['code']}: {row['words'][:300]}" for row in result["refusals"][:5]]
    return "\n".join([*lines, *(f"FAILED: {words}" for words in result["failed"])] or lines)


if __name__ == "__main__":
    sys.exit(main())
