"""The life of a server, without a model: told to stop, or ended by a fault in its background."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import lifecycle, signals
from edvit_tf.device.rpc.base_service import BaseService
from tests.support.commands import ROOT, run_device


class Service(BaseService):
    """One whose background is given, and that notes its end."""

    closed = False
    task = None

    def description(self):
        return {"kind": "test"}

    def background(self):
        return [self.task()]

    async def close(self):
        self.closed = True


@pytest.fixture
def run(tiny_bundle):
    """run(task) -> the service, after its life with this background, and what `run` returned."""
    options = lifecycle.ServerOptions(
        bundle=tiny_bundle,
        listen="127.0.0.1:0",
        identity=None,
        metrics="127.0.0.1:0",
        deadline_ms=1000.0,
    )
    bundle = open_bundle(tiny_bundle)
    service = Service(
        bundle,
        bundle_input(bundle),
        ["model"],
        [],
        deadline_seconds=1.0,
        stuck_seconds=60.0,
        own=None,
    )

    def live(task):
        service.task = task
        address, _ = lifecycle.address_and_identity(options, "worker")
        return lifecycle.run(options, address, lambda: service)

    live.service = service
    return live


def events(capfd) -> list[dict]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_told_to_stop_it_drains_closes_and_returns_0(run, tiny_bundle, capfd):
    async def tell():
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    assert run(tell) == 0
    serving, draining, stopped = events(capfd)
    assert (serving["event"], draining["event"], stopped["event"]) == (
        "serving",
        "draining",
        "stopped",
    )
    assert serving["bundle"] == tiny_bundle.name and serving["kind"] == "test"
    assert serving["address"].startswith("127.0.0.1:") and serving["tls"] is False
    assert run.service.closed and run.service.availability.over


def test_a_fault_in_the_background_ends_it_with_that_fault(run, capfd):
    async def fail():
        await asyncio.sleep(0.05)
        raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        run(fail)
    assert [line["event"] for line in events(capfd)] == ["serving", "draining"]
    assert run.service.closed


@pytest.fixture
def hangups():
    """SIGHUP as a process usually has it: what is started by nohup inherits that it is ignored, and
    a server leaves it so.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_hangup_is_written_down_and_ends_nothing(hangups, run, capfd):
    """systemd would take an end by SIGHUP for a wanted one, and never start it again."""

    async def hang_up():
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            await asyncio.sleep(0.05)
            os.kill(os.getpid(), number)
        await asyncio.sleep(60)

    assert run(hang_up) == 0
    told = [line["event"] for line in events(capfd)]
    assert told == ["serving", "hangup", "hangup", "draining", "stopped"]


def test_a_hangup_while_it_starts_ends_nothing_either(hangups):
    code = (
        "import os, signal\n"
        "from edvit_tf.device.rpc import signals\n"
        "signals.while_starting()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('goes on', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('too far')\n"
    )
    done = run_device("-c", code)
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr


@contextlib.contextmanager
def in_a_terminal(code: str):
    """(a process of Python whose standard input is a terminal, how to close that)."""
    there, here = pty.openpty()
    command = [sys.executable, "-c", "import asyncio, os, signal, sys\n" + code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stdin=here, cwd=ROOT, **pipes) as process:
        os.close(here)
        open_ends = [there]

        def close():
            os.close(open_ends.pop())

        try:
            yield process, close
        finally:
            process.kill()
            if open_ends:
                close()


SERVES = (
    "from edvit_tf.device.rpc import signals\n"
    "async def main():\n"
    "    told = signals.told_to_stop(lambda: print('reads', flush=True))\n"
    "    print('serves', flush=True)\n"
    "    await told.wait()\n"
    "    print('stops', flush=True)\n"
    "asyncio.run(main())\n"
)


def test_a_terminal_that_is_closed_ends_it_and_a_signal_to_it_does_not(hangups):
    """A server that was started by hand does not stay behind; `kill -HUP` has it read its files."""
    with in_a_terminal(SERVES) as (process, close):
        assert process.stdout.readline() == "serves\n"
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert process.stdout.readline() == "reads\n"
        close()
        process.send_signal(signal.SIGHUP)  # it is no session's leader, which the kernel tells
        assert process.stdout.readline() == "stops\n"
        assert process.wait(60) == 0


def test_a_terminal_that_is_closed_while_it_starts_ends_it(hangups):
    code = (
        "import time\n"
        "from edvit_tf.device.rpc import signals\n"
        "signals.while_starting()\n"
        "print('starts', flush=True)\n"
        "while not signals._early:\n"
        "    time.sleep(0.01)\n"
        "print('goes on', flush=True)\n"
        "time.sleep(600)\n"
    )
    with in_a_terminal(code) as (process, close):
        assert process.stdout.readline() == "starts\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "goes on\n"
        close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


def test_a_hangup_while_it_starts_has_it_read_again_when_it_serves(hangups, run, capfd):
    signals.while_starting()
    read = asyncio.Event()

    async def reload():
        read.set()

    async def stop():
        async with asyncio.timeout(60):
            await read.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    run.service.reload = reload
    os.kill(os.getpid(), signal.SIGHUP)
    assert run(stop) == 0
    assert sorted(line["event"] for line in events(capfd)) == [
        "draining",
        "hangup",
        "serving",
        "stopped",
    ]
