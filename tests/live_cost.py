"""What the live page costs an aggregator: answers with and without pages, memory, pages left open.

    python -m tests.live_cost cost BUNDLE             p50 with 0 and 20 pages in turn, and memory
    python -m tests.live_cost hold BUNDLE --minutes 10   memory of server and page, in Chromium
    python -m tests.live_cost pictures BUNDLE docs    the screenshots of the docs

Each starts workers (a sub-model each) and an aggregator on this machine.
"""

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from edvit_tf.device.model.bundle import open_bundle
from tests.support import browser
from tests.support.aggregator_process import aggregator, infer, wait_ready
from tests.support.fleet_process import Place, places
from tests.support.worker_process import Worker

_WITHOUT = """
import sys
sys.modules["uvicorn"] = None  # an installation without it
"""
_ROUNDS = 6


@contextlib.contextmanager
def fleet(bundle: Path, prelude: str = "") -> Iterator[tuple[list[Place], Worker, grpc.Channel]]:
    """A worker for each sub-model, and an aggregator with a page."""
    count = len(open_bundle(bundle).sub_models)
    with (
        tempfile.TemporaryDirectory() as folder,
        places(bundle, Path(folder), [[j] for j in range(count)]) as made,
        aggregator(
            bundle,
            Path(folder),
            [place.address for place in made],
            "--metrics",
            "127.0.0.1:0",
            "--min-submodels",
            "1",
            prelude=prelude,
            probe_seconds=None,
        ) as one,
        one.channel() as channel,
    ):
        wait_ready(channel)
        yield made, one, channel


def sample(bundle: Path) -> np.ndarray:
    found = open_bundle(bundle).input
    return np.zeros((1, *found.shape), found.dtype)


_READER = """
import selectors, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
watch = selectors.DefaultSelector()
for _ in range(count):
    one = socket.create_connection((host, port), 30)
    one.sendall(b"GET /live/events HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
    assert one.recv(65536).startswith(b"HTTP/1.1 200 "), "refused"
    watch.register(one, selectors.EVENT_READ)
print("open", flush=True)
while True:
    for key, _ in watch.select():
        if not key.fileobj.recv(65536):
            sys.exit("ended")
"""


@contextlib.contextmanager
def pages_open(one: Worker, count: int) -> Iterator[None]:
    """Streams of events that are read as they come, by a process of its own: threads of this one
    would take its client's time.
    """
    host, _, port = one.serving["metrics"].rpartition(":")
    command = [sys.executable, "-c", _READER, host, port, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout.readline() == "open\n"
            yield
            assert reader.poll() is None, "the pages were ended"
        finally:
            reader.kill()


def times(channel: grpc.Channel, x: np.ndarray, name: str, requests: int) -> list[float]:
    """Milliseconds of so many requests, one after the other."""
    found = []
    for _ in range(requests):
        started = time.perf_counter()
        infer(channel, x, name=name)
        found.append(1e3 * (time.perf_counter() - started))
    return found


def cost(bundle: Path, pages: int, requests: int) -> None:
    x, name = sample(bundle), open_bundle(bundle).input.name
    with fleet(bundle, _WITHOUT) as (_, one, channel):
        times(channel, x, name, 50)
        without = one.resident_bytes()

    without_pages: list[float] = []
    with_pages: list[float] = []
    with fleet(bundle) as (_, one, channel):
        times(channel, x, name, 50)
        resident = one.resident_bytes()
        for turn in range(_ROUNDS):
            # in turn, and each first as often: a machine is faster or slower by the minute
            for open_now in (turn % 2 == 0, turn % 2 == 1):
                with pages_open(one, pages if open_now else 0):
                    time.sleep(0.5)
                    found = times(channel, x, name, requests)
                    (with_pages if open_now else without_pages).extend(found)
                    if open_now:
                        most = one.resident_bytes()

    p50, p50_open = statistics.median(without_pages), statistics.median(with_pages)
    print(f"{len(with_pages)} requests each, in {_ROUNDS} turns, {bundle.name}")
    print(f"p50 without pages {p50:.2f} ms, with {pages} pages {p50_open:.2f} ms")
    print(f"ratio {p50_open / p50:.3f}")
    mib = 1 / 2**20
    print(f"RSS without uvicorn {without * mib:.1f} MiB, with it {resident * mib:.1f} MiB,")
    print(f"with {pages} pages {most * mib:.1f} MiB")


def hold(bundle: Path, minutes: float) -> None:
    """One page in Chromium, left open while a client asks 20 times a second."""
    x, name = sample(bundle), open_bundle(bundle).input.name
    with fleet(bundle) as (_, one, channel), browser.chromium() as started:
        page = started.new_page()
        page.goto(f"http://{one.serving['metrics']}/")
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.enable")
        ends = time.monotonic() + 60 * minutes
        shown = 0.0
        while time.monotonic() < ends:
            infer(channel, x, name=name)
            time.sleep(0.05)
            if time.monotonic() < shown:
                continue
            shown = time.monotonic() + 6 * minutes
            session.send("HeapProfiler.collectGarbage")
            heap = session.send("Runtime.getHeapUsage")["usedSize"]
            nodes = page.evaluate("document.getElementsByTagName('*').length")
            left = (ends - time.monotonic()) / 60
            server = one.resident_bytes() / 2**20
            print(
                f"{minutes - left:5.1f} min: server {server:.1f} MiB, page {heap / 2**20:.2f} MiB "
                f"of JavaScript, {nodes} elements",
                flush=True,
            )


def pictures(bundle: Path, folder: Path) -> None:
    """Both themes and widths, healthy and with one device dead."""
    x, name = sample(bundle), open_bundle(bundle).input.name
    with fleet(bundle) as (made, one, channel), browser.chromium() as started:
        for dead in (False, True):
            if dead:
                made[-1].end(signal.SIGKILL)
            times(channel, x, name, 20)
            for width, scheme in ((390, "dark"), (1280, "light")):
                page = started.new_page(
                    viewport={"width": width, "height": 1300}, color_scheme=scheme
                )
                page.goto(f"http://{one.serving['metrics']}/")
                page.wait_for_selector("#devices li.bad" if dead else "#answers li")
                for _ in range(6):
                    times(channel, x, name, 5)
                    page.wait_for_timeout(500)
                what = "dead" if dead else "healthy"
                file = folder / f"live_{what}_{scheme}_{width}.png"
                page.screenshot(path=file)
                # a picture of the docs is small
                few = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
                few.save(file, optimize=True)
                page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("cost", "hold", "pictures"):
        one = commands.add_parser(command)
        one.add_argument("bundle", type=Path)
        if command == "cost":
            one.add_argument("--pages", type=int, default=20)
            one.add_argument("--requests", type=int, default=200, help="of each turn")
        elif command == "hold":
            one.add_argument("--minutes", type=float, default=10)
        else:
            one.add_argument("folder", type=Path)
    args = vars(parser.parse_args())
    {"cost": cost, "hold": hold, "pictures": pictures}[args.pop("command")](**args)


if __name__ == "__main__":
    main()
