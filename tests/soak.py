"""Five workers under random faults and hostile peers: is every answer right or flagged, in time,
and is there one?

    python -m tests.soak --minutes 2 --seed 0 [--tree] [--out soak.json] [--bundle FOLDER]

Real workers and a real aggregator with mutual TLS, a proxy between them. At most N - min_submodels
devices are in a fault at once, a device counting until it is in BACK answers in a row; some faults
are lies (`chaos_lies.py`). Beside them hostile peers (`chaos_peers.py`) come one after the other,
to the aggregator and past the proxy to the workers. Every answer of the polite clients is compared,
bit for bit, with what the files answer in processes of their own for the sub-models that it says
are missing.

Exit code 1 if an answer was wrong, a request took longer than the deadline and 10 %, less than
99.9 % were answered (90 % beside a hostile peer), a device did not come back, or the aggregator's
memory grew. Time is that of a clock which stands still with the machine; a request whose deadline
passed while it did is counted apart. Beside each late request stands how long the aggregator says
that it took, and how long a thread here that only sleeps was kept waiting meanwhile: so long the
machine had no time for the clients.

With --tree the devices are below two relays, of three and of two, and the second relay has faults
of its own, which count for both of its devices.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edvit_tf.device.model.answer_ranges import answer_ranges
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support import chaos, chaos_lies, chaos_peers
from tests.support.aggregator_process import aggregator
from tests.support.commands import rewrite_manifest, write_made_bundle
from tests.support.fleet_process import Place, Rack, healthy, oracle, states
from tests.support.machine_clock import machine_seconds
from tests.support.soak_figures import DEADLINE_SECONDS, figures, memory_figures, text
from tests.support.traffic import Traffic, distinct
from tests.support.worker_process import wait_for

DEVICES, LEAST = 5, 3
RACKS = ((0, 1, 2), (3, 4))  # of a tree: the devices below each relay
FAULTY_RACK = 1
BACK = 8  # answers in a row with a device, until it is back
LONGEST_FAULT_SECONDS = 4.0
STALL_SECONDS = 0.03  # shorter ones are not noted
SAMPLE_SECONDS = 0.5  # between two looks at the memory: peers leave each other some seconds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--tree", action="store_true", help="the devices are below two relays")
    parser.add_argument("--bundle", type=Path, help="with five sub-models; made if left out")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edvit-soak-") as name:
        bundle = args.bundle or write_made_bundle(Path(name) / "five", count=DEVICES)
        result = soak(bundle, Path(name), args.minutes * 60, args.seed, args.clients, args.tree)
    print(text(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    return 1 if result["failed"] else 0


def soak(
    bundle: Path, folder: Path, seconds: float, seed: int, clients: int, tree: bool = False
) -> dict:
    """Runs it and returns the figures; "failed" lists what must not be."""
    pictures = np.random.default_rng(seed).integers(0, 256, (16, 1, 16, 16, 1), np.uint8)
    bundle = _with_ranges(bundle, folder / "ranged")
    wanted = oracle(bundle, pictures)
    assert distinct(wanted), "two pictures have the same answer; a mix would not be seen"
    ids = _identities(folder)
    with contextlib.ExitStack() as stack:
        devices = _places(bundle, folder, ids)
        for device in devices:
            stack.callback(device.close)
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(DEVICES))
        list(pool.map(Place.start, devices))
        proxy, addresses = stack.enter_context(chaos.lines([device.address for device in devices]))
        racks = _racks(bundle, folder, ids, addresses) if tree else []
        for rack in racks:
            stack.callback(rack.close)
            rack.start()
        one = stack.enter_context(
            aggregator(
                bundle,
                folder,
                [rack.address for rack in racks] or addresses,
                "--identity",
                str(ids["aggregator"]),
                "--min-submodels",
                str(LEAST),
                "--deadline-ms",
                str(1e3 * DEADLINE_SECONDS),
                "--metrics",
                "127.0.0.1:0",
                probe_seconds=None,
            )
        )
        for rack, below in zip(racks, RACKS, strict=False):
            wait_for(lambda rack=rack, below=below: healthy(rack.worker, len(below)))
        wait_for(lambda: healthy(one, len(racks) or DEVICES))
        stalls = stack.enter_context(noted_stalls())
        traffic = stack.enter_context(
            Traffic(
                one.address,
                pictures,
                wanted,
                clients=clients,
                pause_seconds=0.02,
                own=tls.identity(ids["client"]),
                clock=machine_seconds,
            )
        )
        time.sleep(1)
        before = (one.resident_bytes(), one.open_files())
        memory = stack.enter_context(noted_memory(one, [*devices, *racks]))

        def are_served(since: float) -> bool:
            latest = traffic.since(since)[-BACK:]
            return len(latest) == BACK and all(row.code == "OK" for row in latest)

        def is_found(device: int) -> bool:
            for rack, below in zip(racks, RACKS, strict=False):
                if device in below:
                    found = (addresses[device], "ready", "closed") in states(rack.worker)
                    return found and (rack.address, "ready", "closed") in states(one)
            return (addresses[device], "ready", "closed") in states(one)

        def is_back(those: tuple[int, ...], since: float) -> bool:
            latest = traffic.since(since)[-BACK:]
            if len(latest) < BACK or any(row.missing is None for row in latest):
                return False
            return not any(row.missing & set(those) for row in latest) and all(map(is_found, those))

        servers = [one.address, *(place.address for place in (*devices, *racks))]
        ends = time.monotonic() + seconds
        annoying = pool.submit(_annoyances, random.Random(seed + 1), ends, ids, servers, are_served)
        suffers = Suffering(devices, racks, proxy, pool, is_back)
        faults = _faults(random.Random(seed), ends, suffers)
        annoyances = annoying.result()
        time.sleep(1)
        settled = time.monotonic()
        time.sleep(1)
        after, end = (one.resident_bytes(), one.open_files()), traffic.since(settled)
        assert one.process.poll() is None, "the aggregator ended"
    result = {
        "minutes": seconds / 60,
        "seed": seed,
        **figures(traffic.rows, [*faults, *(fault for fault, _ in annoyances)], end, stalls),
        **memory_figures(memory, seconds / 60),
        "hostile": [dataclasses.asdict(said) for _, said in annoyances],
        "aggregator_rss_bytes": [before[0], after[0]],
        "aggregator_descriptors": [before[1], after[1]],
    }
    if result["grew"]:
        result["failed"].append("the aggregator's memory grew")

    return result


def _with_ranges(bundle: Path, copy: Path) -> Path:
    """A copy of the bundle that says how large its sub-models' answers are, as an export from real
    data does: here over noise of all contrasts, which the clients' pictures are, and flat ones.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (128, 16, 16, 1)) * rng.uniform(0.2, 1, (128, 1, 1, 1))
    flat = np.broadcast_to(np.array([0, 128, 255]).reshape(3, 1, 1, 1), (3, 16, 16, 1))
    inputs = np.concatenate([noise, flat]).astype(np.uint8)
    shutil.copytree(bundle, copy)

    def measure(manifest: dict) -> None:
        for entry in manifest["sub_models"]:
            answers, _ = run_model(copy / entry["file"], {"image": inputs})
            measured = answer_ranges(answers["features"], answers["logits"])
            entry["ranges"] = measured.to_dict()

    rewrite_manifest(copy, measure)
    return copy


def _identities(folder: Path) -> dict[str, Path]:
    """Certificates: "pi-0" ... of the devices, "aggregator", "client" of those who are judged by;
    "greedy", another client's, and "stolen", a worker's, are the hostile peers'.
    """
    certs.init(folder / "ca")
    here = ["127.0.0.1"]
    wanted = [
        ("aggregator", "aggregator", here),
        ("client", "client", []),
        ("client", "greedy", []),
    ]
    wanted += [("worker", f"pi-{j}", here) for j in range(DEVICES)]
    wanted += [("worker", "stolen", here)]
    wanted += [("relay", f"rack-{j}", here) for j in range(len(RACKS))]
    return {
        name: certs.issue(folder / "ca", role, name, hosts, 10, folder / name)
        for role, name, hosts in wanted
    }


def _places(bundle: Path, folder: Path, ids: dict[str, Path]) -> list[Place]:
    """A device for each sub-model, with a copy of the bundle, that can be made to lie."""
    devices = []
    for j, copy in enumerate(chaos.copies(bundle, folder, DEVICES)):
        own = ["--identity", str(ids[f"pi-{j}"]), "--stuck-seconds", str(chaos.STUCK_SECONDS)]
        device = Place(copy, folder, [j], *own)
        device.prelude = chaos_lies.prelude(device.lie_file)
        devices.append(device)

    return devices


def _racks(bundle: Path, folder: Path, ids: dict[str, Path], addresses: list[str]) -> list[Rack]:
    """A relay for each of RACKS."""
    return [
        Rack(
            bundle,
            folder,
            [addresses[device] for device in below],
            "--identity",
            str(ids[f"rack-{j}"]),
        )
        for j, below in enumerate(RACKS)
    ]


def _annoyances(
    rng: random.Random, ends: float, ids: dict[str, Path], servers: list[str], are_served
) -> list[tuple[chaos.Fault, chaos.Annoyance]]:
    """Hostile peers one after the other until `ends`, each kind about as often."""
    found, kinds = [], []
    while time.monotonic() < ends:
        kinds = kinds or rng.sample(chaos.HOSTILE, len(chaos.HOSTILE))
        kind = kinds.pop()
        identity = ids["stolen" if kind in chaos_peers.STOLEN else "greedy"]
        longest = (
            3 * LONGEST_FAULT_SECONDS if kind in chaos_peers.HOLDING else LONGEST_FAULT_SECONDS
        )
        seconds = rng.uniform(1.0, longest)
        found.append(chaos.annoy(kind, seconds, identity, servers, are_served))
        time.sleep(rng.uniform(0.5, 4.0))

    return found


@dataclasses.dataclass(frozen=True)
class Suffering:
    """What faults happen to. `is_back(devices, since)` says whether these answer again."""

    devices: list[Place]
    racks: list[Rack]
    proxy: chaos.Proxy
    pool: concurrent.futures.Executor
    is_back: Callable[[tuple[int, ...], float], bool]

    @property
    def kinds(self) -> list[str]:
        return [*chaos.FAULTS, *(chaos.RACK_FAULTS if self.racks else ())]

    def begun(self, kind: str, those: tuple[int, ...], seconds: float):
        """The future of a fault."""
        place = self.racks[FAULTY_RACK] if kind in chaos.RACK_FAULTS else self.devices[those[0]]
        back = functools.partial(self.is_back, those)
        return self.pool.submit(chaos.suffer, kind, place, self.proxy, those[0], seconds, back)


def _faults(rng: random.Random, ends: float, suffers: Suffering) -> list[chaos.Fault]:
    """Random faults until `ends`, at most N - LEAST devices at once, each kind about as often;
    returns when all are over.
    """
    running: dict[concurrent.futures.Future, tuple[int, ...]] = {}
    found, kinds = [], []
    while time.monotonic() < ends or running:
        for future in [future for future in running if future.done()]:
            running.pop(future)
            found.append(future.result())
        busy = {device for those in running.values() for device in those}
        if time.monotonic() < ends and len(busy) < DEVICES - LEAST:
            kinds = kinds or rng.sample(suffers.kinds, len(suffers.kinds))
            if kinds[-1] not in chaos.RACK_FAULTS:
                those = (rng.choice([j for j in range(DEVICES) if j not in busy]),)
            else:
                those = RACKS[FAULTY_RACK]
            # a rack waits until all devices are there
            if len(busy) + len(those) <= DEVICES - LEAST:
                seconds = rng.uniform(0.2, LONGEST_FAULT_SECONDS)
                running[suffers.begun(kinds.pop(), those, seconds)] = those
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


@contextlib.contextmanager
def noted_memory(one, devices: list[Place]):
    """A list that grows by (aggregator's, largest worker's) resident bytes now and then."""
    found, stop = [], threading.Event()

    def look():
        while not stop.wait(SAMPLE_SECONDS):
            workers = [0]
            for device in devices:
                # it may just have ended
                with contextlib.suppress(OSError, StopIteration, AttributeError):
                    workers.append(device.worker.resident_bytes())
            found.append((one.resident_bytes(), max(workers)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
