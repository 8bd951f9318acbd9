"""Devices that answer wrongly, or are not who they should be: they count as missing, their answer
is never fused.
"""

import contextlib
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc import tensors, tls
from tests.support.aggregator_process import (
    aggregator,
    all_ready,
    device_states,
    fused,
    infer,
    wait_ready,
)
from tests.support.fake_device import Refusal, fake_device, good
from tests.support.fleet_process import health
from tests.support.worker_process import wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def first(tiny_bundle, tmp_path_factory):
    """A worker with the first of two sub-models."""
    folder = tmp_path_factory.mktemp("first")
    with worker(tiny_bundle, folder, "--insecure", "--submodel", "0") as one:
        yield one


def _changed(change):
    def infer_with(name, digest, width):
        def answer(request):
            response = good(name, digest, width, request)
            return change(response, width) or response

        return answer

    return infer_with


def _without(response, *fields):
    for field in fields:
        response.ClearField(field)


def _features(value):
    return lambda response, width: tensors.infer_response(
        response.model_name,
        {"features": value(width)},
        request_id=response.id,
        parameters={**tensors.parameters(response)},
    )


FAULTS = {
    "NaN": (_changed(_features(lambda n: np.full((1, n), np.nan, np.float32))), "NaN"),
    "wrong length": (
        _changed(_features(lambda n: np.ones((1, n + 1), np.float32))),
        "float32 [1, 25]",
    ),
    "wrong type": (_changed(_features(lambda n: np.ones((1, n)))), "float64"),
    "wrong digest": (
        _changed(lambda r, _: tensors.set_parameters(r, {"bundle_digest": "f" * 64})),
        "bundle_digest",
    ),
    "another request's answer": (
        _changed(lambda r, _: setattr(r, "id", "stale")),
        "id: got 'stale'",
    ),
    "another model's answer": (
        _changed(lambda r, _: setattr(r, "model_name", "submodel-00")),
        "model_name",
    ),
    "no features": (
        _changed(lambda r, _: _without(r, "outputs", "raw_output_contents")),
        "no array",
    ),
    "too few bytes": (
        _changed(lambda r, _: r.raw_output_contents.__setitem__(0, b"1234")),
        "bytes",
    ),
    "a word for a time": (
        _changed(lambda r, _: tensors.set_parameters(r, {"compute_ms": "fast"})),
        "compute_ms: got 'fast'",
    ),
    "NaN for a time": (
        _changed(lambda r, _: tensors.set_parameters(r, {"queue_ms": float("nan")})),
        "queue_ms: got nan",
    ),
    "a time below 0": (
        _changed(lambda r, _: tensors.set_parameters(r, {"compute_ms": -1e300})),
        "compute_ms: got -1e+300",
    ),
    "a time beyond the round trip": (
        _changed(lambda r, _: tensors.set_parameters(r, {"compute_ms": 1e300})),
        "compute_ms: got 1e+300",
    ),
    "5 MB": (
        _changed(lambda r, _: tensors.set_parameters(r, {"note": "x" * 5_000_000})),
        "a message that is too large",
    ),
    "zeros": (
        _changed(_features(lambda n: np.zeros((1, n), np.float32))),
        "out of range: features: got a largest of 0",
    ),
    "3e38": (
        _changed(_features(lambda n: np.full((1, n), 3e38, np.float32))),
        "out of range: features: got a largest of 3e+38",
    ),
    "a status": (
        lambda *_: lambda request: Refusal(grpc.StatusCode.INVALID_ARGUMENT, "I do not like it"),
        "INVALID_ARGUMENT: I do not like it",
    ),
    "garbage": (lambda *_: lambda request: b"\xff\xff\xff", "message"),
}


@pytest.mark.parametrize("streams", [False, True], ids=["a call each", "one stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_answer_counts_as_missing(tiny_bundle, first, tmp_path, fault, streams):
    bundle = open_bundle(tiny_bundle)
    make, words = FAULTS[fault]
    with contextlib.ExitStack() as stack:
        bad = stack.enter_context(
            fake_device(
                "submodel-01",
                bundle.digest,
                make("submodel-01", bundle.digest, bundle.widths[1]),
                streams,
            )
        )
        able = stack.enter_context(
            aggregator(tiny_bundle, tmp_path, [first.address, bad], "--min-submodels", "1")
        )
        channel = stack.enter_context(able.channel())
        wait_for(lambda: all_ready(able, 2))
        for _ in range(3):
            outputs, said, _ = infer(channel, X)
            assert said["degraded"] and said["missing"] == "submodel-01"
            assert words in said["submodel-01.missing"]
            right = fused(tiny_bundle, X, (1,))[0]
            np.testing.assert_array_equal(outputs["probabilities"][0], right)

        # three of them were enough: it is left alone, as soon as ours has fared as badly
        wait_for(lambda: able.events("breaker"))
        assert [event["reason"] for event in able.events("breaker")] == ["wrong answer"]


def test_a_good_made_up_device_is_accepted_so_that_the_faults_are_what_is_refused(
    tiny_bundle, tmp_path
):
    bundle = open_bundle(tiny_bundle)
    with contextlib.ExitStack() as stack:
        addresses = [
            stack.enter_context(
                fake_device(
                    f"submodel-0{j}",
                    bundle.digest,
                    lambda request, j=j: good(
                        f"submodel-0{j}", bundle.digest, bundle.widths[j], request
                    ),
                )
            )
            for j in (0, 1)
        ]
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses))
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        assert not infer(channel, X)[1]["degraded"]


def test_another_bundles_device_is_never_asked(tiny_bundle, first, tmp_path):
    asked = []
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(fake_device("submodel-01", "e" * 64, asked.append))
        one = stack.enter_context(
            aggregator(tiny_bundle, tmp_path, [first.address, other], "--metrics", "127.0.0.1:0")
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: any(e["state"] == "wrong-bundle" for e in one.events("device")))
        with pytest.raises(urllib.error.HTTPError) as probe:
            urllib.request.urlopen(f"http://{one.serving['metrics']}/healthz", timeout=5)
        assert probe.value.code == 503
        probe.value.close()
        said = health(one)
        assert said["status"] == "NOT_SERVING" and said["devices"][1]["state"] == "wrong-bundle"
        with pytest.raises(grpc.RpcError) as error:
            infer(channel, X)
        assert (
            error.value.code() == grpc.StatusCode.UNAVAILABLE
            and "wrong-bundle" in error.value.details()
        )
        assert asked == []


def test_a_device_that_speaks_tls_to_a_plaintext_aggregator_is_told_as_that(tiny_bundle, tmp_path):
    """gRPC says "Socket closed", as of a machine that is down."""
    from edvit_tf.operate import certs

    authority = certs.init(tmp_path / "ca")
    identity = certs.issue(authority, "worker", "pi-0", ["127.0.0.1"])
    with (
        worker(tiny_bundle, tmp_path, "--identity", str(identity)) as device,
        aggregator(tiny_bundle, tmp_path, [device.address], "--metrics", "127.0.0.1:0") as hub,
    ):
        wait_for(lambda: device_states(hub) == {device.address: "auth"})
        told = hub.events("device")[-1]
        assert "speaks TLS, and this side does not" in told["reason"]
        (seen,) = health(hub)["devices"]
        assert (seen["state"], seen["reason"]) == ("auth", told["reason"])

        device.stop()
        wait_for(lambda: health(hub)["devices"][0]["state"] == "down")


def test_certificates_tell_who_may_ask_whom_and_health_tells_auth_from_down(bundles, tmp_path):
    from edvit_tf.operate import certs

    tiny_bundle, other_bundle = bundles
    certs.init(tmp_path / "ca")
    certs.init(tmp_path / "rogue")
    here = ["127.0.0.1"]
    ids = {
        role: certs.issue(tmp_path / "ca", role, "me", hosts, 10, tmp_path / role)
        for role, hosts in (("worker", here), ("aggregator", here), ("client", []))
    }
    rogue = certs.issue(
        tmp_path / "rogue", "worker", "me", ["127.0.0.1"], 10, tmp_path / "rogue-worker"
    )
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(
            worker(tiny_bundle, tmp_path, "--identity", str(ids["worker"]), "--submodel", "0")
        )
        second = stack.enter_context(
            worker(tiny_bundle, tmp_path, "--identity", str(rogue), "--submodel", "1")
        )
        other = stack.enter_context(
            worker(other_bundle, tmp_path, "--identity", str(ids["worker"]))
        )
        addresses = [first.address, second.address, other.address, "127.0.0.1:1"]
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                addresses,
                "--min-submodels",
                "1",
                "--identity",
                str(ids["aggregator"]),
                "--metrics",
                "127.0.0.1:0",
            )
        )
        channel = stack.enter_context(one.channel(tls.identity(ids["client"])))
        states = dict(zip(addresses, ("ready", "auth", "wrong-bundle", "down"), strict=True))
        wait_for(lambda: device_states(one) == states)
        said = health(one)
        assert said["status"] == "SERVING" and said["submodels"] == {
            "submodel-00": True,
            "submodel-01": False,
        }
        rows = {device["address"]: device for device in said["devices"]}
        assert {address: row["state"] for address, row in rows.items()} == states
        assert [rows[address]["hosts"] for address in addresses] == [["submodel-00"], [], [], []]
        assert (
            "certificate" in rows[second.address]["reason"] and rows[first.address]["reason"] == ""
        )
        assert other.serving["bundle_digest"][:12] in rows[other.address]["reason"]
        said = infer(channel, X)[1]
        assert (
            said["missing"] == "submodel-01"
            and f"{second.address} auth" in said["submodel-01.missing"]
        )
        with (
            one.channel(tls.identity(ids["worker"])) as thief,
            pytest.raises(grpc.RpcError) as error,
        ):
            infer(thief, X)
        assert (
            error.value.code() == grpc.StatusCode.PERMISSION_DENIED
            and "worker (me)" in error.value.details()
        )
        with one.channel() as plain, pytest.raises(grpc.RpcError) as error:
            infer(plain, X, timeout=3)
        assert error.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
