"""Faults of single devices, each with its end: what is done, how long, and until the aggregator has
the device back.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import chaos_peers
from tests.support.chaos_lies import LIES
from tests.support.commands import ROOT
from tests.support.fleet_process import Place
from tests.support.ports import free_port

BACK_SECONDS = (
    30.0  # a device that is not back so long after the end of its fault has not recovered
)
STUCK_SECONDS = 3.0  # of the workers' watchdog
PEER = -1


@dataclass(frozen=True)
class Fault:
    """What happened to a device."""

    kind: str
    device: int  # PEER: none of them, a hostile peer
    started: float  # time.monotonic()
    seconds: float  # until its cause was taken away
    back_seconds: float | None  # from then until it was ready again; None: never
    trouble: str  # what went otherwise than it should


class Proxy:
    """The proxy process and its commands."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.chaos_proxy",
                *(f"{listen}:{target}" for listen, target in pairs),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        assert self._process.stdout.readline() == "ready\n"

    def put(self, device: int, mode: str) -> None:
        with self._lock:
            self._process.stdin.write(f"{device} {mode}\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def kill(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
    """Power off, and on again."""
    place.end(signal.SIGKILL)
    time.sleep(seconds)
    place.start()
    return ""


def restart(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
    """SIGTERM: it drains."""
    code = place.end(signal.SIGTERM)
    place.start()
    return "" if code == 0 else f"exit code {code} after SIGTERM"


def stop(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
    """The process stands still."""
    place.send(signal.SIGSTOP)
    time.sleep(seconds)
    place.send(signal.SIGCONT)
    return ""


def slow(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
    """Each inference takes so long, for 3 s."""
    place.slow(seconds / 2)
    time.sleep(3)
    place.slow(0)
    return ""


def stuck(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
    """An inference never comes back: the worker must end itself, with code 18."""
    place.slow(1000)
    try:
        code = place.worker.process.wait(5 * STUCK_SECONDS)
    except subprocess.TimeoutExpired:
        code = "no end"
    place.slow(0)
    place.close()
    place.start()
    return "" if code == 18 else f"{code} instead of exit code 18"


def line(mode: str) -> Callable[[Place, Proxy, int, float], str]:
    """A fault of the network."""

    def run(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
        proxy.put(device, mode)
        time.sleep(seconds)
        proxy.put(device, "pass")
        return ""

    return run


def spoil(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
    """Power off, and the model's file is damaged when it comes back: it must not serve. Then the
    file is mended.
    """
    place.end(signal.SIGKILL)
    file = place.bundle / f"submodel-{device:02d}.tflite"
    kept = file.with_suffix(".kept")
    shutil.copy(file, kept)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    trouble = ""
    try:
        place.start()
        trouble = "a spoilt file was served"
        place.close()
    except AssertionError as error:
        trouble = "" if "ended with 7" in str(error) else f"not exit code 7: {str(error)[-200:]}"
    kept.replace(file)
    place.start()
    return trouble


def lie(told: str) -> Callable[[Place, Proxy, int, float], str]:
    """A device that answers wrongly, see `chaos_lies.py`."""

    def run(place: Place, proxy: Proxy, device: int, seconds: float) -> str:
        place.lie_file.write_text(told)
        time.sleep(seconds)
        place.lie_file.unlink()
        return ""

    return run


FAULTS = {
    "kill": kill,
    "restart": restart,
    "stop": stop,
    "slow": slow,
    "stuck": stuck,
    "silent": line("silent"),
    "cut": line("cut"),
    "corrupt": line("corrupt"),
    "spoil": spoil,
    **{f"lie {told}": lie(told) for told in LIES},
}
# Of a relay: all that is below it is away with it.
RACK_FAULTS = {"rack kill": kill, "rack restart": restart, "rack stop": stop}
HOSTILE = tuple(chaos_peers.KINDS)


def suffer(
    kind: str,
    place: Place,
    proxy: Proxy,
    device: int,
    seconds: float,
    is_back: Callable[[float], bool],
) -> Fault:
    """Runs a fault to its end and waits for the device, until `is_back(time.monotonic() of the
    end)`.
    """
    started = time.monotonic()
    try:
        trouble = (FAULTS | RACK_FAULTS)[kind](place, proxy, device, seconds)
    except Exception as error:  # noqa: BLE001 (the soak reports it and goes on)
        trouble = f"{type(error).__name__}: {error}"

    back = _until_back(is_back)
    return Fault(kind, device, started, back.since - started, back.after_seconds, trouble)


@dataclass(frozen=True)
class Annoyance:
    """What a hostile peer did, by its own account."""

    kind: str
    codes: dict[str, int]


def annoy(
    kind: str,
    seconds: float,
    identity: Path,
    addresses: Sequence[str],
    is_back: Callable[[float], bool],
) -> tuple[Fault, Annoyance]:
    """Lets a hostile peer loose for so long, and waits until all are served again. `addresses` are
    the aggregator's and the workers' own.
    """
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.support.chaos_peers", kind, f"{seconds:.2f}"]
    done = subprocess.run(
        [*command, str(identity), *addresses], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = {"codes": {}, "trouble": f"ended with {done.returncode}: {done.stderr[-300:]}"}
    if done.returncode == 0:
        said = json.loads(done.stdout)

    back = _until_back(is_back)
    fault = Fault(kind, PEER, started, back.since - started, back.after_seconds, said["trouble"])
    return fault, Annoyance(kind, said["codes"])


@dataclass(frozen=True)
class _Back:
    since: float  # time.monotonic(), when the waiting began
    after_seconds: float | None  # None: never


def _until_back(is_back: Callable[[float], bool]) -> _Back:
    """Waits until `is_back(time.monotonic() of now)`."""
    since = time.monotonic()
    while time.monotonic() < since + BACK_SECONDS:
        with contextlib.suppress(OSError):
            if is_back(since):
                return _Back(since, time.monotonic() - since)
        time.sleep(0.1)

    return _Back(since, None)


@contextlib.contextmanager
def lines(targets: Sequence[str]) -> Iterator[tuple[Proxy, list[str]]]:
    """(proxy, the addresses at which the targets are reached through it)."""
    ports = [free_port() for _ in targets]
    proxy = Proxy(
        [
            (port, int(target.rpartition(":")[2]))
            for port, target in zip(ports, targets, strict=True)
        ]
    )
    try:
        yield proxy, [f"127.0.0.1:{port}" for port in ports]
    finally:
        proxy.close()


def copies(bundle: Path, folder: Path, count: int) -> list[Path]:
    """A copy of the bundle for each device."""
    return [Path(shutil.copytree(bundle, folder / f"bundle-{j}")) for j in range(count)]
