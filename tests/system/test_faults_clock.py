"""Machines whose clock is wrong, as a Pi's may be after a power cut: answers and deadlines do not
depend on it.

Certificates do, and say so. The clock is moved for single processes by a library that is preloaded
(`clock_shim.c`).
"""

import contextlib
import datetime
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, all_ready, fused, infer
from tests.support.commands import ROOT
from tests.support.worker_process import log_lines, wait_for, worker

DAY = 24 * 3600
X = np.random.default_rng(6).integers(0, 256, (1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here, and the library that moves a process's clock is C")
    library = tmp_path_factory.mktemp("shim") / "clock.so"
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-O1",
            "-o",
            library,
            ROOT / "tests" / "support" / "clock_shim.c",
        ],
        check=True,
        timeout=60,
    )
    return str(library)


@pytest.fixture(scope="module")
def identities(tmp_path_factory) -> dict[str, Path]:
    """Valid for a hundred days from now."""
    folder = tmp_path_factory.mktemp("ids")
    certs.init(folder / "ca")
    return {
        role: certs.issue(
            folder / "ca", role, "me", [] if role == "client" else ["127.0.0.1"], 100, folder / role
        )
        for role in ("worker", "aggregator", "client")
    }


def put(clock: Path, seconds: int) -> None:
    """From now on the clock of processes with this file is so many seconds off."""
    with open(clock, "r+b" if clock.exists() else "wb") as file:  # in place: it is mapped
        file.write(struct.pack("l", seconds))


def is_off(one, seconds: int) -> bool:
    """Whether the last line of a server's log was written by a clock that is so much off."""
    said = datetime.datetime.fromisoformat(log_lines(one.log_file)[-1]["time"])
    return abs((said - datetime.datetime.now(datetime.UTC)).total_seconds() - seconds) < 60


@contextlib.contextmanager
def fleet(bundle, folder, identities, shim, offset, hub_offset=0):
    """(aggregator, its worker, a client's channel); their clocks (`folder`/worker, /hub) are so
    many seconds off.
    """
    clocks = {"worker": offset, "hub": hub_offset}
    for name, seconds in clocks.items():
        put(folder / name, seconds)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(
            worker(
                bundle,
                folder,
                "--identity",
                str(identities["worker"]),
                LD_PRELOAD=shim,
                EDVIT_CLOCK_FILE=str(folder / "worker"),
            )
        )
        hub = stack.enter_context(
            aggregator(
                bundle,
                folder,
                [one.address],
                "--identity",
                str(identities["aggregator"]),
                LD_PRELOAD=shim,
                EDVIT_CLOCK_FILE=str(folder / "hub"),
            )
        )
        yield hub, one, stack.enter_context(hub.channel(tls.identity(identities["client"])))


@pytest.mark.parametrize("days, hub_days", [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_a_day_off_changes_nothing(tiny_bundle, tmp_path, identities, shim, days, hub_days):
    with fleet(tiny_bundle, tmp_path, identities, shim, days * DAY, hub_days * DAY) as (
        hub,
        one,
        channel,
    ):
        wait_for(lambda: all_ready(hub, 1))
        assert is_off(one, days * DAY) and is_off(hub, hub_days * DAY)
        answered_whole(channel, fused(tiny_bundle, X))


@pytest.mark.parametrize("moved", ["worker", "hub"])
def test_a_clock_that_is_set_while_requests_run_changes_nothing(
    tiny_bundle, tmp_path, identities, shim, moved
):
    """By a day to and fro, over several probes: no deadline, breaker, queue or certificate
    minds.
    """
    with fleet(tiny_bundle, tmp_path, identities, shim, 0) as (hub, one, channel):
        wait_for(lambda: hub.events("device"))
        wanted, own = fused(tiny_bundle, X), tls.identity(identities["client"])
        for days in (1, -1, 0, -1, 1):
            put(tmp_path / moved, days * DAY)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                answered_whole(channel, wanted)
            with hub.channel(own) as fresh:
                answered_whole(fresh, wanted)
        assert [event["state"] for event in hub.events("device")] == ["ready"] and not hub.events(
            "breaker"
        )
        for server in (hub, one):
            assert server.stop() == 0
        assert is_off(hub, DAY * (moved == "hub")) and is_off(
            one, DAY * (moved == "worker")
        )  # "stopped"


def answered_whole(channel, wanted) -> None:
    for _ in range(5):
        outputs, said, _ = infer(channel, X)
        assert not said["degraded"]
        np.testing.assert_array_equal(outputs["probabilities"], wanted)


@pytest.mark.parametrize("days", [-40 * 365, 110])
def test_a_clock_beyond_the_certificates_dates_is_named(
    tiny_bundle, tmp_path, identities, shim, days
):
    """1986 or four months ahead: its own log says so, and the aggregator's that it is refused."""
    with fleet(tiny_bundle, tmp_path, identities, shim, days * DAY) as (hub, one, _):
        wait_for(lambda: hub.events("device"))
        event = hub.events("device")[0]
        print(f"\n{days} days: {event['state']}: {event['reason']}")
        assert event["state"] == "auth" and "clock" in event["reason"]
        assert one.events("certificate")[0]["reason"] == (
            "certificate is not yet valid" if days < 0 else "certificate has expired"
        )
        assert not hub.events("certificate")
