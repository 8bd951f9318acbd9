"""A tree: relays that are devices of an aggregator, with real workers below them."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import (
    aggregator,
    device_states,
    fused,
    in_time,
    infer,
    relay,
    wait_ready,
)
from tests.support.commands import run_device
from tests.support.fake_device import Refusal, fake_device, good
from tests.support.fleet_process import Place, get, health, healthy, metric, missing_of, places
from tests.support.ports import free_port
from tests.support.worker_process import Worker, wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)
PLAIN = ("--insecure",)
FOUR = [word for j in range(4) for word in ("--submodel", str(j))]
PORT = ("--metrics", "127.0.0.1:0")


@dataclass
class Tree:
    """An aggregator over two racks: the first has the sub-models 0, 1 and 2, each on a device of
    its own, the second 3 and 4, on one device.
    """

    hub: Worker
    racks: list[Worker]
    devices: list[Place]
    channel: grpc.Channel


@contextlib.contextmanager
def tree(bundle: Path, folder: Path, *arguments: str, prelude: str = "") -> Iterator[Tree]:
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(bundle, folder, [[0], [1], [2], [3, 4]]))
        addresses = [device.address for device in devices]
        racks = [
            stack.enter_context(relay(bundle, folder, addresses[:3], *PORT)),
            stack.enter_context(relay(bundle, folder, addresses[3:], *PORT)),
        ]
        hub = stack.enter_context(
            aggregator(
                bundle,
                folder,
                [one.address for one in racks],
                "--min-submodels",
                "1",
                *PORT,
                *arguments,
            )
        )
        channel = stack.enter_context(hub.channel())
        wait_for(lambda: health(hub)["submodels"] == dict.fromkeys(NAMES, True), 60)
        yield Tree(hub, racks, devices, channel)


NAMES = [f"submodel-{j:02d}" for j in range(5)]


def test_a_tree_answers_as_the_files_do_and_says_by_which_devices(five_bundle, tmp_path):
    with tree(five_bundle, tmp_path) as one:
        answers, said, _ = in_time(lambda: infer(one.channel, X))

        np.testing.assert_array_equal(answers["probabilities"], fused(five_bundle, X))
        assert not said["degraded"] and said["missing"] == ""
        first, second = (rack.address for rack in one.racks)
        below = [device.address for device in one.devices]
        assert [said[f"{name}.device"] for name in NAMES] == [
            *(f"{first}/{address}" for address in below[:3]),
            *[f"{second}/{below[3]}"] * 2,
        ]


@pytest.fixture(scope="module")
def stood(five_bundle, tmp_path_factory) -> Iterator[Tree]:
    """A tree that tests leave whole."""
    with tree(five_bundle, tmp_path_factory.mktemp("tree")) as one:
        yield one


def whole(one: Tree) -> bool:
    """Whether the aggregator asks every sub-model, and the relays theirs."""
    racks = [healthy(one.racks[0], 3), healthy(one.racks[1], 1), healthy(one.hub, 2)]
    return all(racks) and health(one.hub)["submodels"] == dict.fromkeys(NAMES, True)


def reasons(said: dict) -> dict[str, str]:
    """Why sub-models are missing, by name."""
    return {name: said[f"{name}.missing"] for name in NAMES if f"{name}.missing" in said}


def checked(five_bundle: Path, one: Tree) -> dict:
    """What an answer says, which must be that of the files without what it says is missing."""
    answers, said, _ = in_time(lambda: infer(one.channel, X))
    missing = tuple(sorted(missing_of(said)))
    np.testing.assert_array_equal(answers["probabilities"], fused(five_bundle, X, missing))
    return said


def test_a_killed_worker_of_a_rack_is_missing_by_name_and_its_rack_is_asked_on(five_bundle, stood):
    gone = stood.devices[1]
    gone.end()
    wait_for(lambda: health(stood.hub)["submodels"][NAMES[1]] is False)
    said = checked(five_bundle, stood)
    assert reasons(said) == {NAMES[1]: f"{stood.racks[0].address}: {gone.address} down"}
    # the rack lives, and nothing else of it is missing
    assert healthy(stood.hub, 2)

    gone.start()
    wait_for(lambda: whole(stood))
    assert reasons(checked(five_bundle, stood)) == {}


def test_a_request_that_meets_a_killed_worker_first_says_so_too(five_bundle, tmp_path):
    """Before any probe has seen it: the relay's own answer says who and why."""
    slow_probes = "from edvit_tf.aggregate import link; link.PROBE_SECONDS = 3600"
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(five_bundle, tmp_path, [[0, 1], [2, 3, 4]]))
        addresses = [device.address for device in devices]
        rack = stack.enter_context(relay(five_bundle, tmp_path, addresses, *PORT))
        wait_for(lambda: healthy(rack, 2))
        hub = stack.enter_context(
            aggregator(
                five_bundle, tmp_path, [rack.address], "--min-submodels", "1", prelude=slow_probes
            )
        )
        channel = stack.enter_context(hub.channel())
        wait_ready(channel)
        devices[0].end()
        wait_for(lambda: health(rack)["devices"][0]["state"] == "down")

        _, said, _ = in_time(lambda: infer(channel, X))
        words = f"{rack.address}: {addresses[0]} down"
        assert reasons(said) == {NAMES[0]: words, NAMES[1]: words}
        # many of them, and the rack is still asked
        for _ in range(5):
            _, said, _ = in_time(lambda: infer(channel, X))
            assert set(reasons(said)) == set(NAMES[:2])
        assert hub.events("breaker") == []


def test_a_whole_rack_that_is_killed_takes_its_own_sub_models_alone_and_returns(
    five_bundle, tmp_path
):
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(five_bundle, tmp_path, [[0, 1, 2], [3, 4]]))
        listen = f"127.0.0.1:{free_port()}"
        below = [devices[0].address]
        first = contextlib.ExitStack()
        stack.callback(first.close)
        rack = first.enter_context(relay(five_bundle, tmp_path, below, listen=listen))
        other = stack.enter_context(relay(five_bundle, tmp_path, [devices[1].address]))
        hub = stack.enter_context(
            aggregator(
                five_bundle, tmp_path, [listen, other.address], "--min-submodels", "1", *PORT
            )
        )
        channel = stack.enter_context(hub.channel())
        one = Tree(hub, [rack, other], devices, channel)
        wait_for(lambda: all(health(hub)["submodels"].values()))

        first.close()
        wait_for(lambda: health(hub)["devices"][0]["state"] == "down")
        assert reasons(checked(five_bundle, one)) == dict.fromkeys(NAMES[:3], f"{listen} down")

        stack.enter_context(relay(five_bundle, tmp_path, below, listen=listen))
        wait_for(lambda: all(health(hub)["submodels"].values()))
        assert reasons(checked(five_bundle, one)) == {}


def test_a_slow_device_of_a_rack_is_late_by_name_within_the_deadline_above(five_bundle, stood):
    """The relay gives up before the aggregator does: its answer says who was late."""
    slow = stood.devices[2]
    slow.slow(60.0)
    words = f"{stood.racks[0].address}: {slow.address} "
    try:
        answers, said, _ = infer_hastily(stood)
        assert set(reasons(said)) == {NAMES[2]}
        assert reasons(said)[NAMES[2]] == f"{words}deadline"
        np.testing.assert_array_equal(answers["probabilities"], fused(five_bundle, X, (2,)))

        # after three of them it is left alone: by its relay, not by the aggregator
        def left_alone() -> bool:
            return "breaker" in reasons(infer_hastily(stood)[1]).get(NAMES[2], "")

        wait_for(left_alone)
        assert healthy(stood.hub, 2)
        assert metric(stood.racks[0], "edvit_breaker_state", device=slow.address, state="open") == 1
    finally:
        slow.end()  # it holds what it was asked
        slow.slow(0.0)
        slow.start()

    # where no probe has seen it away, its breaker closes by a request, and by that alone
    wait_for(lambda: reasons(infer_hastily(stood)[1]) == {}, 60)
    wait_for(lambda: whole(stood))


def infer_hastily(one: Tree):
    """An answer within two seconds: a busy machine keeps them, and nobody waits for the slow."""
    request = tensors.infer_request("edvit", {"image": X}, parameters={"timeout": 2_000_000})
    response = messages.stub(one.channel, "ModelInfer")(request, timeout=30)
    return tensors.arrays(response), tensors.parameters(response), response.id


def test_a_rack_that_hangs_is_missing_as_one_and_comes_back(five_bundle, stood):
    hung = stood.racks[1]
    hung.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: health(stood.hub)["devices"][1]["state"] == "down", 60)
        said = checked(five_bundle, stood)
        assert reasons(said) == dict.fromkeys(NAMES[3:], f"{hung.address} down")
    finally:
        hung.process.send_signal(signal.SIGCONT)
    wait_for(lambda: whole(stood))
    assert reasons(checked(five_bundle, stood)) == {}


def test_an_input_travels_once_to_a_rack_and_once_to_a_device(stood):
    wait_for(lambda: whole(stood))
    in_time(lambda: infer(stood.channel, X))

    # what a relay has answered for three sub-models came in one message over one stream
    (stream,) = [
        line
        for line in get(stood.racks[0], "/metrics").splitlines()
        if line.startswith("edvit_stream_messages_total ")
    ]
    before = float(stream.split()[1])
    in_time(lambda: infer(stood.channel, X))
    assert metric(stood.racks[0], "edvit_stream_messages_total") == before + 1


def test_replicas_stand_in_for_each_other_over_racks(five_bundle, tmp_path):
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(five_bundle, tmp_path, [range(5), range(5)]))
        racks = [
            stack.enter_context(relay(five_bundle, tmp_path, [device.address]))
            for device in devices
        ]
        addresses = [rack.address for rack in racks]
        hub = stack.enter_context(aggregator(five_bundle, tmp_path, addresses, *PORT))
        channel = stack.enter_context(hub.channel())
        wait_for(lambda: healthy(hub, 2))
        one = Tree(hub, racks, devices, channel)
        used = set()
        for _ in range(4):
            said = checked(five_bundle, one)
            used |= {said[f"{name}.device"].split("/")[0] for name in NAMES}
        assert used == set(addresses)  # they take turns

        # of one rack the worker, of all of which the other answers
        devices[0].end()
        for _ in range(4):
            assert reasons(checked(five_bundle, one)) == {}


def test_three_levels_name_the_device_by_all_of_them(five_bundle, tmp_path):
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(five_bundle, tmp_path))
        rack = stack.enter_context(relay(five_bundle, tmp_path, [device.address]))
        hall = stack.enter_context(relay(five_bundle, tmp_path, [rack.address], *PORT))
        hub = stack.enter_context(aggregator(five_bundle, tmp_path, [hall.address]))
        channel = stack.enter_context(hub.channel())
        wait_ready(channel, 60)
        _, said, _ = in_time(lambda: infer(channel, X))
        assert {said[f"{name}.device"] for name in NAMES} == {
            f"{hall.address}/{rack.address}/{device.address}"
        }
        assert health(hall)["devices"][0]["below"] == [device.address]


def _nan(digest: str, width: int):
    def answer(request):
        features = np.full((1, width), np.nan, np.float32)
        said = {"bundle_digest": digest}
        return tensors.infer_response(
            NAMES[4], {"features": features}, request_id=request.id, parameters=said
        )

    return answer


def _refuses(digest: str, width: int):
    return lambda request: Refusal(grpc.StatusCode.INVALID_ARGUMENT, "I do not like it")


@pytest.mark.parametrize("lie, words", [(_nan, "NaN"), (_refuses, "I do not like it")])
def test_a_worker_that_lies_is_found_out_by_its_relay_and_takes_no_other_with_it(
    five_bundle, tmp_path, lie, words
):
    bundle = open_bundle(five_bundle)
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(five_bundle, tmp_path, *PLAIN, *FOUR))
        lies = lie(bundle.digest, bundle.widths[4])
        liar = stack.enter_context(fake_device(NAMES[4], bundle.digest, lies))
        rack = stack.enter_context(relay(five_bundle, tmp_path, [device.address, liar], *PORT))
        hub = stack.enter_context(
            aggregator(five_bundle, tmp_path, [rack.address], "--min-submodels", "1", *PORT)
        )
        channel = stack.enter_context(hub.channel())
        wait_for(lambda: all(health(hub)["submodels"].values()))
        one = Tree(hub, [rack], [], channel)

        assert words in reasons(checked(five_bundle, one))[NAMES[4]]
        # after three of them it is left alone: by its relay, not by the aggregator
        wait_for(lambda: "breaker" in reasons(checked(five_bundle, one)).get(NAMES[4], ""))
        assert [event["device"] for event in rack.events("breaker")][:1] == [liar]
        assert hub.events("breaker") == []


def test_who_has_too_much_to_do_is_told_as_that_through_a_relay(five_bundle, tmp_path):
    bundle = open_bundle(five_bundle)
    busy = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(five_bundle, tmp_path, *PLAIN, *FOUR))
        full = stack.enter_context(fake_device(NAMES[4], bundle.digest, lambda request: busy))
        rack = stack.enter_context(relay(five_bundle, tmp_path, [device.address, full]))
        hub = stack.enter_context(aggregator(five_bundle, tmp_path, [rack.address]))
        channel = stack.enter_context(hub.channel())
        wait_ready(channel)
        with pytest.raises(grpc.RpcError) as error:
            infer(channel, X)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{NAMES[4]}: {rack.address}: {full} overloaded" in error.value.details()


def test_a_relay_knows_whether_a_client_is_in_a_hurry(tiny_bundle, tmp_path):
    """By what the aggregator says: its own deadline is another one than the fleet's."""
    bundle = open_bundle(tiny_bundle)
    heard = []

    def answer(request):
        heard.append(tensors.parameters(request).get(messages.HASTY))
        return good(NAMES[1], bundle.digest, bundle.widths[1], request)

    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path, *PLAIN, "--submodel", "0"))
        other = stack.enter_context(fake_device(NAMES[1], bundle.digest, answer))
        rack = stack.enter_context(relay(tiny_bundle, tmp_path, [device.address, other]))
        hub = stack.enter_context(aggregator(tiny_bundle, tmp_path, [rack.address]))
        channel = stack.enter_context(hub.channel())
        wait_ready(channel)
        in_time(lambda: infer(channel, X))
        assert heard[-1] is None
        one = Tree(hub, [rack], [], channel)
        in_time(lambda: infer_hastily(one))
        assert heard[-1] is True


def test_a_rack_of_another_bundle_is_never_asked(bundles, tmp_path):
    mine, other = bundles
    with (
        worker(other, tmp_path) as device,
        relay(other, tmp_path, [device.address]) as rack,
        aggregator(mine, tmp_path, [rack.address], *PORT) as hub,
    ):
        wait_for(lambda: device_states(hub) == {rack.address: "wrong-bundle"})
        assert health(hub)["status"] == "NOT_SERVING"


def test_a_rack_whose_devices_have_another_bundle_says_so_through_both_levels(bundles, tmp_path):
    mine, other = bundles
    with (
        worker(other, tmp_path) as device,
        relay(mine, tmp_path, [device.address]) as rack,
        aggregator(mine, tmp_path, [rack.address], *PORT) as hub,
        hub.channel() as channel,
    ):
        wait_for(lambda: device_states(rack) == {device.address: "wrong-bundle"})

        def is_said() -> bool:
            with pytest.raises(grpc.RpcError) as error:
                infer(channel, X)
            return f"{device.address} wrong-bundle" in error.value.details()

        wait_for(is_said)


def test_relays_that_have_each_other_below_are_told_and_answer_for_their_own(tiny_bundle, tmp_path):
    listen = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with contextlib.ExitStack() as stack:
        devices = [
            stack.enter_context(worker(tiny_bundle, tmp_path, *PLAIN, "--submodel", str(j)))
            for j in range(2)
        ]
        racks = [
            stack.enter_context(
                relay(
                    tiny_bundle,
                    tmp_path,
                    [devices[j].address, listen[1 - j]],
                    *PORT,
                    listen=listen[j],
                )
            )
            for j in range(2)
        ]
        for j, rack in enumerate(racks):
            wait_for(lambda j=j, rack=rack: device_states(rack).get(listen[1 - j]) == "cycle")
            reason = health(rack)["devices"][1]["reason"]
            assert "this relay is below it" in reason and "Take one of the two out" in reason

        # and it stays so: neither forgets what it has seen
        hub = stack.enter_context(aggregator(tiny_bundle, tmp_path, listen, *PORT))
        channel = stack.enter_context(hub.channel())
        wait_ready(channel)
        for _ in range(20):
            _, said, _ = in_time(lambda: infer(channel, X))
            assert not said["degraded"]
            assert [health(rack)["devices"][1]["state"] for rack in racks] == ["cycle"] * 2


def test_a_relay_that_is_its_own_device_is_told(tiny_bundle, tmp_path):
    listen = f"127.0.0.1:{free_port()}"
    with (
        worker(tiny_bundle, tmp_path) as device,
        relay(tiny_bundle, tmp_path, [device.address, listen], *PORT, listen=listen) as rack,
    ):
        wait_for(lambda: device_states(rack) == {device.address: "ready", listen: "cycle"})
        assert "it is this relay itself" in health(rack)["devices"][1]["reason"]


def test_a_device_on_two_levels_is_told_by_its_name_or_by_its_process(tiny_bundle, tmp_path):
    def table(name: str, address: str) -> str:
        host, _, port = address.rpartition(":")
        return f'[[device]]\nname = "{name}"\nhost = "{host}"\nport = {port}\nmemory = "1GiB"\n'

    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(worker(tiny_bundle, tmp_path, *PLAIN, "--submodel", str(j)))
            for j in range(2)
        )
        below = tmp_path / "below.toml"
        below.write_text(table("left", second.address))
        rack = stack.enter_context(relay(tiny_bundle, tmp_path, [str(below)]))

        for name, address, words in (
            ("left", first.address, "it has left below it, and left is a device here too"),
            ("right", second.address, "left below it is the process that right here is too"),
        ):
            above = tmp_path / "above.toml"
            above.write_text(table(name, address) + table("rack-1", rack.address))
            with aggregator(tiny_bundle, tmp_path, [str(above)], *PORT) as hub:
                wait_for(lambda hub=hub: device_states(hub).get("rack-1") == "duplicate")
                assert words in health(hub)["devices"][1]["reason"]


def test_an_aggregator_that_is_no_relay_is_told_how_to_become_one(tiny_bundle, tmp_path):
    with (
        worker(tiny_bundle, tmp_path) as device,
        aggregator(tiny_bundle, tmp_path, [device.address]) as lower,
        aggregator(tiny_bundle, tmp_path, [lower.address], *PORT) as hub,
        lower.channel() as channel,
    ):
        wait_ready(channel)
        wait_for(lambda: "`edvit relay`" in health(hub)["devices"][0]["reason"])
        assert device_states(hub) == {lower.address: "not-serving"}


def test_a_relay_needs_a_certificate_of_its_own_role_and_one_of_another_is_told(
    tiny_bundle, tmp_path
):
    authority = certs.init(tmp_path / "ca")
    here = ["127.0.0.1"]
    ids = {
        role: str(certs.issue(authority, role, "me", hosts, 10, tmp_path / role))
        for role, hosts in (("worker", here), ("relay", here), ("aggregator", here), ("client", []))
    }
    refused = run_device(
        "-m",
        "edvit_tf.cli",
        "relay",
        tiny_bundle,
        "--devices",
        "127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--identity",
        ids["worker"],
    )
    assert refused.returncode == 15 and "the role worker" in refused.stderr
    assert "edvit certs issue FLEET relay NAME" in refused.stderr

    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path, "--identity", ids["worker"]))
        rack = stack.enter_context(
            relay(tiny_bundle, tmp_path, [device.address], "--identity", ids["relay"], *PORT)
        )
        hub = stack.enter_context(
            aggregator(
                tiny_bundle, tmp_path, [rack.address], "--identity", ids["aggregator"], *PORT
            )
        )
        channel = stack.enter_context(hub.channel(tls.identity(Path(ids["client"]))))
        wait_ready(channel, 60)
        assert not in_time(lambda: infer(channel, X))[1]["degraded"]

        # a client may ask a relay, a worker may not, and a relay may not ask an aggregator
        assert ask_directly(rack, ids["client"], NAMES[0]) == "OK"
        assert ask_directly(rack, ids["worker"], NAMES[0]) == "PERMISSION_DENIED"
        assert ask_directly(hub, ids["relay"], "edvit") == "PERMISSION_DENIED"


def ask_directly(one: Worker, identity: str, model: str) -> str:
    """The status of a request with an identity."""
    with one.channel(tls.identity(Path(identity))) as channel:
        try:
            infer(channel, X, model=model)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


def test_a_relay_reads_its_devices_again_drains_and_ends_with_0(tiny_bundle, tmp_path):
    def table(name: str, one: Worker) -> str:
        host, _, port = one.address.rpartition(":")
        return f'[[device]]\nname = "{name}"\nhost = "{host}"\nport = {port}\nmemory = "1GiB"\n'

    devices = tmp_path / "rack.toml"
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(worker(tiny_bundle, tmp_path, *PLAIN, "--submodel", str(j)))
            for j in range(2)
        )
        devices.write_text(table("left", first))
        rack = stack.enter_context(relay(tiny_bundle, tmp_path, [str(devices)], *PORT))
        hub = stack.enter_context(aggregator(tiny_bundle, tmp_path, [rack.address], *PORT))
        wait_for(lambda: health(hub)["submodels"] == {NAMES[0]: True, NAMES[1]: False})

        devices.write_text(table("left", first) + table("right", second))
        rack.process.send_signal(signal.SIGHUP)
        wait_for(lambda: health(hub)["submodels"] == {NAMES[0]: True, NAMES[1]: True})
        with hub.channel() as channel:
            _, said, _ = in_time(lambda: infer(channel, X))
        assert said[f"{NAMES[1]}.device"] == f"{rack.address}/right"

        maps = Path(f"/proc/{rack.process.pid}/maps").read_text()
        assert "tensorflow" not in maps and "tflite" not in maps
        assert rack.stop() == 0
        wait_for(lambda: health(hub)["devices"][0]["state"] in ("down", "not-serving"))


def test_a_unit_of_a_relay_starts_it_with_its_whole_paths(tiny_bundle, tmp_path):
    devices = tmp_path / "rack.toml"
    devices.write_text('[[device]]\nname = "a"\nhost = "pi"\nmemory = "1GiB"\n')
    done = run_device(
        "-m",
        "edvit_tf.cli",
        "relay",
        tiny_bundle,
        "--devices",
        devices,
        "--listen",
        "127.0.0.1:8002",
        "--insecure",
        "--print-unit",
    )
    assert done.returncode == 0, done.stderr
    assert f"edvit_tf.cli relay {tiny_bundle} --devices {devices}" in done.stdout
    assert "Description=edvit_tf relay" in done.stdout
