"""Several aggregators of one fleet behind one name: they share nothing, and are asked in turn."""

import contextlib

import numpy as np

from edvit_tf.aggregate.client import Client
from edvit_tf.errors import RequestFailed
from tests.support.aggregator_process import aggregator, fused
from tests.support.fleet_process import healthy, metric
from tests.support.worker_process import Worker, wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)
PORT = ("--metrics", "127.0.0.1:0")


def answered(one: Worker) -> float:
    return metric(one, "edvit_requests_total", method="ModelInfer", code="OK")


def test_two_are_asked_in_turn_and_one_that_is_killed_is_left_out(tiny_bundle, tmp_path):
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path))
        hubs = [
            stack.enter_context(aggregator(tiny_bundle, tmp_path, [device.address], *PORT))
            for _ in range(2)
        ]
        for hub in hubs:
            wait_for(lambda hub=hub: healthy(hub, 1))
        # as the addresses of a name, which gRPC's resolver of names gives it
        addresses = ",".join(hub.address for hub in hubs)
        client = Client(f"ipv4:{addresses}", None, 30.0)
        stack.callback(client.close)

        def ask() -> bool:
            try:
                answer = client.ask(X)
            except RequestFailed as error:
                assert error.status == "UNAVAILABLE"
                return False
            assert not answer["parameters"]["degraded"]
            np.testing.assert_array_equal(answer["probabilities"], fused(tiny_bundle, X)[0])
            return True

        # both connections stand, and then each has every second request
        wait_for(lambda: ask() and all(answered(hub) for hub in hubs))
        before = [answered(hub) for hub in hubs]
        assert all(ask() for _ in range(10))
        assert [answered(hub) - n for hub, n in zip(hubs, before, strict=True)] == [5, 5]

        hubs[0].process.kill()
        hubs[0].process.wait()
        # what met the killed one may be lost: until each has had its turn
        wait_for(lambda: all(ask() for _ in range(4)))
        before = answered(hubs[1])
        assert all(ask() for _ in range(10))
        assert answered(hubs[1]) == before + 10
