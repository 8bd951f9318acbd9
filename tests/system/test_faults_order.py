"""Answers never mix: late ones of an earlier frame, devices in another order, an aggregator that
starts again.
"""

import contextlib
import signal
import time

import grpc
import numpy as np
import pytest

from tests.support.aggregator_process import aggregator, all_ready, in_time, infer, wait_ready
from tests.support.fleet_process import missing_of, oracle, places
from tests.support.ports import free_port
from tests.support.traffic import Traffic, distinct
from tests.support.worker_process import wait_for

PICTURES = np.random.default_rng(4).integers(0, 256, (24, 1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def devices(tiny_bundle, tmp_path_factory):
    with places(tiny_bundle, tmp_path_factory.mktemp("order"), [[0], [1]]) as both:
        yield both


@pytest.fixture(scope="module")
def wanted(tiny_bundle):
    answers = oracle(tiny_bundle, PICTURES)
    assert distinct(answers)
    return answers


def test_a_late_answer_never_becomes_that_of_the_next_frame(tiny_bundle, tmp_path, devices, wanted):
    """Device 1 takes longer than the deadline for some frames; its answers come while the next
    frame is waited for.
    """
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                [d.address for d in devices],
                "--min-submodels",
                "1",
                "--deadline-ms",
                "1500",
            )
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 2))
        found = []
        for frame in range(48):
            devices[1].slow(1.6 if frame % 6 == 1 else 0.0)
            picture = PICTURES[frame % 24]
            outputs, said, _ = in_time(lambda picture=picture: infer(channel, picture))
            missing = missing_of(said)
            np.testing.assert_array_equal(outputs["probabilities"][0], wanted[missing][frame % 24])
            assert said["degraded"] == bool(missing)
            found.append(missing)
        assert (
            found.count(frozenset()) > 12
            and found.count(frozenset({1})) >= 6
            and len(set(found)) == 2
        )


def test_the_order_of_the_devices_does_not_matter(tiny_bundle, tmp_path, devices, wanted):
    devices[1].slow(0.0)
    addresses = [d.address for d in devices]
    for order in (addresses, addresses[::-1]):
        with aggregator(tiny_bundle, tmp_path, order) as one, one.channel() as channel:
            wait_ready(channel)
            for place, x in enumerate(PICTURES[:4]):
                np.testing.assert_array_equal(
                    infer(channel, x)[0]["probabilities"][0], wanted[frozenset()][place]
                )


def test_an_aggregator_that_starts_again_answers_only_its_own_requests(
    tiny_bundle, tmp_path, devices, wanted
):
    """Killed while devices compute for it, and started at the same address: they know nothing of
    either.
    """
    listen = f"127.0.0.1:{free_port()}"
    options = ("--listen", listen, "--min-submodels", "1")
    addresses = [d.address for d in devices]
    for device in devices:
        device.slow(0.1)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses, *options))
        with first.channel() as channel:
            wait_ready(channel)
        wait_for(lambda: all_ready(first, 2))  # one is enough to be ready
        traffic = stack.enter_context(Traffic(listen, PICTURES, wanted, clients=4))
        time.sleep(1)
        killed = time.monotonic()
        first.stop(signal.SIGKILL)
        second = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses, *options))
        back = time.monotonic()
        assert second.address == first.address
        wait_for(lambda: sum(row.whole for row in traffic.since(back)) > 10, 60)
    for device in devices:
        device.slow(0.0)
    assert traffic.wrong() == []
    assert {row.code for row in traffic.rows} <= {"OK", grpc.StatusCode.UNAVAILABLE.name}
    degraded = [row for row in traffic.rows if row.code == "OK" and not row.whole]
    assert all(
        row.started + row.seconds > killed for row in degraded
    )  # of the second, before it knew both
