"""A fleet with replicas goes over to a new bundle under load, device by device, and no request
fails or is mixed.
"""

import contextlib
import signal

import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.update import commands as update
from tests.support.aggregator_process import aggregator, wait_ready
from tests.support.exchanged import exchanged
from tests.support.fleet_process import healthy, metric, oracle, places
from tests.support.traffic import Traffic
from tests.support.worker_process import wait_for

PICTURES = np.random.default_rng(3).integers(0, 256, (8, 1, 16, 16, 1), np.uint8)


def test_a_rolling_update_of_replicas_fails_no_request(tiny_bundle, tmp_path):
    """As docs/howto/updates.md says: one half of the devices, a new aggregator, its clients, the
    other half.
    """
    new_bundle, store = exchanged(tiny_bundle, tmp_path / "new"), tmp_path / "store"
    wanted, wanted_new = oracle(tiny_bundle, PICTURES), oracle(new_bundle, PICTURES)
    everything = frozenset()
    assert (
        np.abs(wanted[everything] - wanted_new[everything]).max() > 1e-4
    )  # or a mixture would not be seen
    assert update.main([str(store), "install", str(tiny_bundle)]) == 0
    metrics = ("--metrics", "127.0.0.1:0")
    with contextlib.ExitStack() as stack:
        first, second = stack.enter_context(places(store / "current", tmp_path, [[0, 1], [0, 1]]))
        addresses = [first.address, second.address]
        old = stack.enter_context(aggregator(store / "current", tmp_path, addresses, *metrics))
        wait_ready(stack.enter_context(old.channel()))
        wait_for(lambda: healthy(old, 2))
        with Traffic(old.address, PICTURES, wanted, pause_seconds=0.005) as before:
            before.wait_for_more(20)
            assert update.main([str(store), "install", str(new_bundle)]) == 0
            before.wait_for_more(20)
            assert second.end(signal.SIGTERM) == 0
            second.start()
            wait_for(lambda: metric(old, "edvit_device_state", state="wrong-bundle") == 1)
            new = stack.enter_context(aggregator(store / "current", tmp_path, addresses, *metrics))
            wait_ready(stack.enter_context(new.channel()))
            before.wait_for_more(20)
        with Traffic(new.address, PICTURES, wanted_new, pause_seconds=0.005) as after:
            after.wait_for_more(20)
            assert old.stop() == 0
            assert first.end(signal.SIGTERM) == 0
            first.start()
            wait_for(lambda: healthy(new, 2))
            after.wait_for_more(20)
        assert (
            new.serving["bundle_digest"]
            == open_bundle(new_bundle).digest
            != old.serving["bundle_digest"]
        )
    for traffic in (before, after):
        assert traffic.wrong() == []
        assert [row for row in traffic.rows if not row.whole] == []
