"""Machines whose clock is wrong, as a Pi's may be after a power cut: answers and deadlines do not depend on it.

Certificates do, and say so. The clock is moved for single processes by a library that is preloaded (`clock_shim.c`).
"""

import contextlib
import datetime
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edvit_tf import certs
from edvit_tf.device import tls
from tests.aggregator_process import aggregator, fused, infer
from tests.worker_process import log_lines, wait_for, worker

DAY = 24 * 3600
X = np.random.default_rng(6).integers(0, 256, (1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here, and the library that moves a process's clock is C")
    library = tmp_path_factory.mktemp("shim") / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("clock_shim.c")],
                   check=True, timeout=60)
    return str(library)


@pytest.fixture(scope="module")
def identities(tmp_path_factory) -> dict[str, Path]:
    """Valid for a hundred days from now."""
    folder = tmp_path_factory.mktemp("ids")
    certs.init(folder / "ca")
    return {role: certs.issue(folder / "ca", role, "me", [] if role == "client" else ["127.0.0.1"], 100, folder / role)
            for role in ("worker", "aggregator", "client")}


@contextlib.contextmanager
def fleet(bundle, folder, identities, shim, offset):
    """(aggregator, its worker, a client's channel); the worker's clock is `offset` seconds off."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(worker(bundle, folder, "--identity", str(identities["worker"]), LD_PRELOAD=shim,
                                         EDVIT_CLOCK_OFFSET=str(offset)))
        hub = stack.enter_context(aggregator(bundle, folder, [one.address], "--identity",
                                             str(identities["aggregator"])))
        yield hub, one, stack.enter_context(hub.channel(tls.identity(identities["client"])))


@pytest.mark.parametrize("days", [-1, 1])
def test_a_day_off_changes_nothing(tiny_bundle, tmp_path, identities, shim, days):
    with fleet(tiny_bundle, tmp_path, identities, shim, days * DAY) as (hub, one, channel):
        said = datetime.datetime.fromisoformat(log_lines(one.log_file)[0]["time"])
        off = said - datetime.datetime.now(datetime.UTC)
        assert abs(off.total_seconds() - days * DAY) < 60  # the clock was off indeed
        wait_for(lambda: hub.events("device"))
        assert hub.events("device")[0]["state"] == "ready", hub.events("device")
        wanted = fused(tiny_bundle, X)
        for _ in range(5):
            outputs, said, _ = infer(channel, X, timeout=5)
            assert not said["degraded"]
            np.testing.assert_array_equal(outputs["probabilities"], wanted)


@pytest.mark.parametrize("days", [-40 * 365, 110])
def test_a_clock_beyond_the_certificates_dates_is_named(tiny_bundle, tmp_path, identities, shim, days):
    """1986 or four months ahead: its own log says so, and the aggregator's that it is refused."""
    with fleet(tiny_bundle, tmp_path, identities, shim, days * DAY) as (hub, one, _):
        wait_for(lambda: hub.events("device"))
        event = hub.events("device")[0]
        print(f"\n{days} days: {event['state']}: {event['reason']}")
        assert event["state"] == "auth" and "clock" in event["reason"]
        assert one.events("certificate")[0]["reason"] == ("certificate is not yet valid" if days < 0 else
                                                          "certificate has expired")
        assert not hub.events("certificate")
