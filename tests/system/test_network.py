"""Devices behind a network that is cut: namespaces on this machine (`netlab.sh`), real workers,
mutual TLS.

Not in the README's test command, since it needs root; .ci/run calls it:

    python -m pytest -q -s -m network
"""

import contextlib
import time

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import infer, lost_by_the_machine, wait_ready
from tests.support.fleet_process import healthy
from tests.support.machine_clock import Standstill, machine_seconds
from tests.support.netlab import DEVICE, HUB, inside, netlab, network
from tests.support.worker_process import server, wait_for

pytestmark = pytest.mark.network

DEADLINE = 1.5  # seconds: more than a machine stands still
X = np.random.default_rng(8).integers(0, 256, (1, 16, 16, 1), np.uint8)


def test_a_pulled_cable_costs_three_deadlines_at_most_then_nothing_and_mends_itself(
    tiny_bundle, tmp_path
):
    certs.init(tmp_path / "ca")
    hosts = {"worker": [DEVICE.format(n) for n in (1, 2)], "aggregator": [HUB], "client": []}
    ids = {
        role: certs.issue(tmp_path / "ca", role, "me", names, 10, tmp_path / role)
        for role, names in hosts.items()
    }
    with network(2, "none", 0), contextlib.ExitStack() as stack:
        for n in (1, 2):
            stack.enter_context(
                server(
                    inside(
                        f"dev{n}",
                        "edvit_tf.device",
                        tiny_bundle,
                        "--submodel",
                        str(n - 1),
                        "--listen",
                        f"{DEVICE.format(n)}:8001",
                        "--identity",
                        ids["worker"],
                    ),
                    tmp_path,
                )
            )
        one = stack.enter_context(
            server(
                inside(
                    "agg",
                    "edvit_tf.cli",
                    "serve",
                    tiny_bundle,
                    "--devices",
                    f"{DEVICE.format(1)}:8001,{DEVICE.format(2)}:8001",
                    "--listen",
                    f"{HUB}:8000",
                    "--identity",
                    ids["aggregator"],
                    "--min-submodels",
                    "1",
                    "--deadline-ms",
                    str(int(1e3 * DEADLINE)),
                    "--metrics",
                    f"{HUB}:9000",
                ),
                tmp_path,
            )
        )
        channel = stack.enter_context(one.channel(tls.identity(ids["client"])))
        wait_ready(channel)
        wait_for(lambda: healthy(one, 2))

        def timed():
            """(seconds of the machine's clock, what is missing, why); "lost" where the machine
            stood still at the deadline.
            """
            started, still = machine_seconds(), Standstill()
            try:
                said = infer(channel, X)[1]
            except grpc.RpcError as error:
                if not lost_by_the_machine(error, still):
                    raise
                said = {"missing": "submodel-01", "submodel-01.missing": "lost"}
            return (
                machine_seconds() - started,
                said["missing"],
                said.get("submodel-01.missing", ""),
            )

        usual = float(np.median([timed()[0] for _ in range(100)]))
        netlab("cut", "dev2")
        cut, rows = time.monotonic(), []
        while time.monotonic() < cut + 12:
            rows.append((time.monotonic() - cut, *timed()))
            time.sleep(0.02)
        netlab("heal", "dev2")
        healed = machine_seconds()
        wait_for(lambda: timed()[1] == "", 60)
        back = machine_seconds() - healed
        slow = [(round(at, 2), round(seconds, 3)) for at, seconds, *_ in rows if seconds > 0.2]
        rest = sorted(seconds for at, seconds, *_ in rows if at > 4 * DEADLINE)
        print(
            f"\ncable: {len(slow)} of {len(rows)} requests waited {slow}; after that "
            f"{1e3 * np.median(rest):.2f} ms "
            f"(median), {1e3 * np.quantile(rest, 0.99):.2f} (p99), usual {1e3 * usual:.2f}; whole "
            f"{back:.2f} s after "
            "the cable was back"
        )
        assert all(missing == "submodel-01" for _, _, missing, _ in rows)
        sent = [
            n
            for n, (*_, why) in enumerate(rows)
            if "breaker" not in why and not why.endswith(" down")
        ]
        # three, or fewer where a probe finds it silent before, then the breaker's trials and
        # nothing else
        first = [n for place, n in enumerate(sent) if n == place]
        assert 1 <= len(first) <= 3 and len(sent) <= 6, sent
        assert 1 <= len(slow) <= 6
        assert max(seconds for _, seconds, *_ in rows) <= 1.1 * DEADLINE + 0.3
        assert np.median(rest) < usual + 0.02
        assert back < 10
