"""A fleet of copies: one model under two views, each on two devices that answer for each other."""

import contextlib

import grpc
import numpy as np
import pytest

from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.pins import Pins
from edvit_tf.device.model.bundle import open_bundle
from tests.support.aggregator_process import aggregator, all_ready, device_states, fused, infer
from tests.support.fake_device import fake_device, good
from tests.support.fleet_process import health, metric
from tests.support.worker_process import wait_for, worker

X = np.random.default_rng(2).integers(0, 256, (1, 16, 16, 1), np.uint8)


def test_devices_with_the_same_view_answer_for_each_other(copies_bundle, tmp_path):
    whole = fused(copies_bundle, X)
    with contextlib.ExitStack() as stack:
        devices = []
        for place in range(4):
            arguments = ("--insecure", "--submodel", str(place % 2))
            devices.append(stack.enter_context(worker(copies_bundle, tmp_path, *arguments)))

        addresses = [device.address for device in devices]
        options = ("--min-submodels", "1", "--metrics", "127.0.0.1:0")
        hub = stack.enter_context(aggregator(copies_bundle, tmp_path, addresses, *options))
        channel = stack.enter_context(hub.channel())
        wait_for(lambda: all_ready(hub, 4))

        def answer() -> tuple[np.ndarray, dict]:
            outputs, said, _ = infer(channel, X)
            return outputs["probabilities"], said

        # what no view can be of is the client's fault, as all devices say, and no breaker moves
        with pytest.raises(grpc.RpcError) as error:
            infer(channel, b"no picture")
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        # replicas take turns, and nobody can tell them apart
        asked = set()
        for _ in range(4):
            probabilities, said = answer()
            np.testing.assert_array_equal(probabilities, whole)
            asked.add(said["submodel-00.device"])
        assert asked == {addresses[0], addresses[2]}

        assert hub.events("breaker") == []

        # one of the two with the first view: the other answers, and nothing is missing
        devices[0].process.kill()
        for _ in range(4):
            probabilities, said = answer()
            assert not said["degraded"] and said["submodel-00.device"] == addresses[2]
            np.testing.assert_array_equal(probabilities, whole)

        # half of the devices, a view's both: the other view answers, and that is said
        devices[2].process.kill()
        wait_for(lambda: answer()[1]["degraded"])
        probabilities, said = answer()
        assert said["missing"] == "submodel-00"
        np.testing.assert_array_equal(probabilities, fused(copies_bundle, X, (0,)))

        assert health(hub)["views"] == {
            "submodel-00": "down 2, right -1",
            "submodel-01": "mirrored, crop 1",
        }
        assert metric(hub, "edvit_submodel_view", view="mirrored, crop 1") == 1


def test_a_device_is_asked_for_its_own_view_alone(copies_bundle):
    """All hold the same file; the plan says which view each is to have."""
    pins = Pins(open_bundle(copies_bundle).sub_models)
    for place in range(4):
        allowed = pins.allowed(Device(f"pi-{place}", f"10.0.0.{place}:8001"), None)
        assert allowed == {f"submodel-0{place % 2}"}


def test_a_worker_that_does_not_know_views_is_never_asked(copies_bundle, tmp_path):
    """One that is older: it has the bundle, and would answer as if there were no view."""
    bundle = open_bundle(copies_bundle)
    asked = []

    def answer(request):
        asked.append(request)
        return good("submodel-00", bundle.digest, bundle.widths[0], request)

    with (
        fake_device("submodel-00", bundle.digest, answer) as old,
        aggregator(copies_bundle, tmp_path, [old]) as hub,
    ):
        wait_for(lambda: device_states(hub) == {old: "wrong-view"})
        told = hub.events("device")[-1]
        assert "sees an input 'as it is', and 'down 2, right -1' is wanted" in told["reason"]
        assert asked == []


def test_a_worker_that_has_become_an_older_one_since_it_was_probed_is_missing(
    copies_bundle, tmp_path
):
    """Each answer says its view: there is a second between two probes, and more here, so that none
    comes between. Over calls and streams.
    """
    seldom = "from edvit_tf.aggregate import link; link.PROBE_SECONDS = 45.0"
    bundle = open_bundle(copies_bundle)
    views = [str(entry.view) for entry in bundle.sub_models]
    said_views = list(views)

    def device(place):
        name, width = f"submodel-0{place}", bundle.widths[place]

        def answer(request):
            return good(name, bundle.digest, width, request, said_views[place])

        return fake_device(name, bundle.digest, answer, bool(place), views[place])

    with (
        device(0) as over_calls,
        device(1) as over_a_stream,
        aggregator(
            copies_bundle,
            tmp_path,
            [over_calls, over_a_stream],
            "--min-submodels",
            "1",
            prelude=seldom,
        ) as hub,
        hub.channel() as channel,
    ):
        wait_for(lambda: all_ready(hub, 2), 120)
        assert not infer(channel, X)[1]["degraded"]

        for place in range(2):
            said_views[:] = views
            said_views[place] = None
            said = infer(channel, X)[1]
            assert said["missing"] == f"submodel-0{place}"
            why = said[f"submodel-0{place}.missing"]
            assert f"wrong-view: its submodel-0{place} sees an input 'as it is'" in why
