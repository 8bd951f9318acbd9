"""Real workers for tests: `python -m edvit_tf.device ... --listen 127.0.0.1:0` in a process, its
log, its end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from edvit_tf.device.rpc import messages, tls
from tests.support.forked import DEVICE, ROOT, Forked
from tests.support.machine_clock import machine_seconds

SLOW = """
import threading, time
from edvit_tf.device.model import runtime
run = runtime.Model.run

def slow_run(self, **arrays):
    if threading.current_thread().name.startswith("submodel"):  # a request, not the warm-up
        time.sleep({seconds})
    return run(self, **arrays)

runtime.Model.run = slow_run
"""  # a prelude

GATED = """
import pathlib, threading, time
from edvit_tf.device.model import runtime
run = runtime.Model.run

def gated_run(self, **arrays):
    if threading.current_thread().name.startswith("submodel"):  # a request, not the warm-up
        time.sleep({seconds})
        while pathlib.Path({file!r}).exists():
            time.sleep(0.005)
    return run(self, **arrays)

runtime.Model.run = gated_run
"""  # a prelude: no request ends while there is this file; what waits behind it can be told


@dataclass
class Worker:
    """A running worker."""

    process: subprocess.Popen
    log_file: Path
    serving: dict  # the log line that says so

    @property
    def address(self) -> str:
        return self.serving["address"]

    def channel(self, identity: tls.Identity | None = None) -> grpc.Channel:
        if identity is None:
            return grpc.insecure_channel(self.address)
        return grpc.secure_channel(self.address, tls.channel_credentials(identity))

    def events(self, event: str) -> list[dict]:
        return [line for line in log_lines(self.log_file) if line["event"] == event]

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")
        )

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Sends a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)


def log_lines(file: Path) -> list[dict]:
    """The complete JSON lines of a worker's log; others are the runtime's."""
    lines = file.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def wait_for(what, timeout: float = 30):
    """The first true value of `what()`; fails when there is none in time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError(f"nothing after {timeout} s")


def wait_within(what, machine_limit: float):
    """As `wait_for`; it must be so within so many seconds of a machine that has nothing else to
    do.
    """
    begun = machine_seconds()
    value = wait_for(what, 60)
    took = machine_seconds() - begun
    assert took < machine_limit, took
    return value


@contextlib.contextmanager
def worker(
    bundle: Path, folder: Path, *arguments: str, prelude: str = "", **environment: str
) -> Iterator[Worker]:
    """A worker on a port of the kernel's choice, until the end of the block. `folder` takes its
    log.

    `prelude` is Python that runs in the process before its main; `arguments` default to --insecure.
    """
    command = [sys.executable, "-m", "edvit_tf.device"]
    if prelude:
        command = [
            sys.executable,
            "-c",
            f"{prelude}\nimport sys\nfrom edvit_tf.device.__main__ import main\n"
            "raise SystemExit(main(sys.argv[1:]))",
        ]
    command += [str(bundle), "--listen", "127.0.0.1:0", *(arguments or ("--insecure",))]
    with server(command, folder, EDVIT_CACHE=str(folder / "cache"), **environment) as one:
        yield one


@contextlib.contextmanager
def server(command: list[str], folder: Path, **environment: str) -> Iterator[Worker]:
    """A server of ours, from its line "serving" to the end of the block; its log goes into
    `folder`.
    """
    log = folder / f"server-{time.monotonic_ns()}.log"
    with open(log, "wb") as file:
        process = Forked(
            command, modules=DEVICE, cwd=ROOT, stderr=file, env={**os.environ, **environment}
        )
    try:

        def serving():
            assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()}"
            return [line for line in log_lines(log) if line["event"] == "serving"]

        yield Worker(process, log, wait_for(serving, 120)[0])
    finally:
        process.kill()
        process.wait()


def ask(channel: grpc.Channel, request, timeout: float | None = 30):
    """The ModelInferResponse to a request (message or bytes)."""
    return messages.stub(channel, "ModelInfer")(request, timeout=timeout)
