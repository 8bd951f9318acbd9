"""A refusal of one device, or numbers that no input gives: the device's fault, or the input's."""

import asyncio
import contextlib
import shutil

import grpc
import numpy as np
import pytest

from edvit_tf.aggregate import breaker
from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.reply import Expected, Reply
from edvit_tf.aggregate.votes import Votes
from edvit_tf.device.model.answer_ranges import answer_ranges
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import messages, tensors
from tests.support.aggregator_process import aggregator, all_ready, fused, infer
from tests.support.commands import rewrite_manifest
from tests.support.fake_device import Refusal, fake_device, good
from tests.support.worker_process import wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)
SAMPLES = np.random.default_rng(2).integers(0, 256, (12, 16, 16, 1), np.uint8)


def _voted(kinds: list[str], answers: int) -> tuple[bool, grpc.StatusCode | None]:
    """(whether the devices that doubt are blamed, the request's refusal) of so many sub-models."""

    async def vote():
        votes = Votes(len(kinds) + answers, 1)
        links = [
            Link(Device(f"pi-{j}", "127.0.0.1:1"), "d", Pins(()), None, (), [], []) for j in (0, 1)
        ]
        for _ in range(answers):
            votes.count(Reply(np.zeros((1, 2), np.float32), "pi", 1.0, 0.0, 0.0))
        for kind in kinds:
            votes.count(votes.doubt(links[0], links[0].ask("submodel-00", False, None), kind, "no"))

        votes.settle()
        code = None
        try:
            votes.raise_refusal()
        except messages.WireError as error:
            code = error.code
        for link in links:
            await link.close()

        return links[0].failures["wrong answer"] > 0, code

    return asyncio.run(vote())


@pytest.mark.parametrize(
    "kinds, answers, blamed, code",
    [
        (["INVALID_ARGUMENT"], 2, True, None),
        (["INVALID_ARGUMENT"], 1, True, None),  # the answer is the proof that the input is good
        (["INVALID_ARGUMENT"] * 2, 1, False, grpc.StatusCode.INVALID_ARGUMENT),
        (["INVALID_ARGUMENT"], 0, False, grpc.StatusCode.INVALID_ARGUMENT),
        (["out of range"] * 2, 1, False, grpc.StatusCode.INVALID_ARGUMENT),
        (["INTERNAL"], 1, True, None),
        (["INTERNAL"] * 2, 0, False, None),  # no words of the input: UNAVAILABLE, with the reasons
    ],
)
def test_the_devices_vote(kinds, answers, blamed, code):
    assert _voted(kinds, answers) == (blamed, code)


def test_a_doubt_that_comes_after_the_end_is_told_as_well():
    """A cancelled attempt hears of its end after the request's: by then it may be refused."""

    async def talk():
        link = Link(Device("pi", "127.0.0.1:1"), "d", Pins(()), None, (), [], [])
        for _ in range(breaker.FAILURES):
            link.breaker.failed(False, "down")
        votes = Votes(2, 1)
        asked = link.ask("submodel-00", True, None)  # a heavy one, and the breaker's trial
        votes.settle()
        votes.doubt(link, asked, "INVALID_ARGUMENT", "no")

        assert not link.heavy.excuses()
        assert link.breaker.state != "half-open"
        await link.close()

    asyncio.run(talk())


def test_a_request_whose_client_went_away_blames_nobody():
    async def talk():
        link = Link(Device("pi", "127.0.0.1:1"), "d", Pins(()), None, (), [], [])
        votes = Votes(3, 1)
        votes.count(Reply(np.zeros((1, 2), np.float32), "pi", 1.0, 0.0, 0.0))
        votes.doubt(link, link.ask("submodel-00", False, None), "INVALID_ARGUMENT", "no")
        votes.settle(given_up=True)
        assert link.failures == {"INVALID_ARGUMENT": 1}
        await link.close()

    asyncio.run(talk())


def test_a_device_that_is_tried_because_nobody_else_was_asked_has_not_answered_wrongly():
    """A relay asks one device for one sub-model: it may well be the input. Later doubts too."""

    async def talk():
        link = Link(Device("pi", "127.0.0.1:1"), "d", Pins(()), None, (), [], [])
        tried = []
        link.own_check.doubted = lambda name, trial: tried.append(name)
        votes = Votes(1, 0)
        votes.doubt(link, link.ask("submodel-00", False, None), "INVALID_ARGUMENT", "no")
        votes.settle_alone()
        votes.doubt(link, link.ask("submodel-00", False, None), "INVALID_ARGUMENT", "no")
        assert link.failures == {"INVALID_ARGUMENT": 2}
        assert tried == ["submodel-00", "submodel-00"]
        await link.close()

    asyncio.run(talk())


def _refusing(everything: bool):
    """A device that refuses the input of a client, or our own too."""

    def infer(request):
        if everything or "client" in request.parameters:
            return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no lamb")
        return good("submodel-00", "d", 4, request)

    return infer


def _states_after_doubts(infer, first: str) -> list[str]:
    """The breaker's states after each of five requests that are blamed on a device, and the last
    with its reason; `first` is what it was before.
    """

    async def talk(address):
        expected = [Expected("submodel-00", 4, "d")]
        link = Link(Device("pi", address), "d", Pins(()), None, (), [], expected)
        states = []
        if first == "open":
            link.breaker.open("down")
            link.breaker._until = 0.0  # the pause is over

        for _ in range(5):
            asked = link.ask("submodel-00", False, None)
            link.doubted("INVALID_ARGUMENT", asked, blamed=True)
            # the verdict comes when ours is answered
            while link.own_check._tasks:
                await asyncio.sleep(0.005)
            states.append(link.breaker.state)
            if link.breaker.state == "open":
                break

        assert link.failures["wrong answer"] == len(states)
        await link.close()
        return states

    with fake_device("submodel-00", "d", infer) as address:
        return asyncio.run(talk(address))


@pytest.mark.parametrize(
    "first, everything, states",
    [
        ("closed", False, ["closed"] * 5),
        ("closed", True, ["closed", "closed", "open"]),
        ("open", False, ["closed"] * 5),  # its trial: it answers ours
        ("open", True, ["open"]),
    ],
)
def test_odd_inputs_of_one_client_take_no_device_from_the_others(first, everything, states):
    assert _states_after_doubts(_refusing(everything), first) == states


def test_odd_inputs_cost_a_device_one_request_of_ours_a_second():
    own = []

    def infer(request):
        own.append(request.id)
        return good("submodel-00", "d", 4, request)

    assert _states_after_doubts(infer, "closed") == ["closed"] * 5
    assert len(own) == 1


@pytest.fixture(scope="module")
def ranged_bundle(tiny_bundle, tmp_path_factory):
    """`tiny_bundle` with the ranges of its answers, and of a plan that knows no device here."""
    folder = tmp_path_factory.mktemp("ranged") / "bundle"
    shutil.copytree(tiny_bundle, folder)

    def change(manifest):
        for entry in manifest["sub_models"]:
            answers = run_model(folder / entry["file"], {"image": SAMPLES})[0]
            ranges = answer_ranges(answers["features"], answers["logits"])
            entry["ranges"] = ranges.to_dict()

    rewrite_manifest(folder, change)
    return folder


def _lies(bundle, value):
    """A device of submodel-01 that answers so to everything."""
    width = bundle.widths[1]

    def answer(request):
        return tensors.infer_response(
            "submodel-01",
            {"features": value(width).astype(np.float32).reshape(1, width)},
            request_id=request.id,
            parameters={"bundle_digest": bundle.digest, "compute_ms": 1.0, "queue_ms": 0.0},
        )

    return answer


@pytest.mark.parametrize(
    "value",
    [
        np.zeros,
        lambda n: np.full(n, 3e38),
        lambda n: np.full(n, -3e38),
        lambda n: np.full(n, 0.1),
        lambda n: np.resize([1e-6, -1e-6], n),
        lambda n: np.resize([40.0, -40.0], n),
    ],
    ids=["zeros", "3e38", "-3e38", "all the same", "almost nothing", "too large"],
)
def test_numbers_that_no_input_gives_are_not_fused(ranged_bundle, tmp_path, value):
    bundle = open_bundle(ranged_bundle)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(
            worker(ranged_bundle, tmp_path, "--insecure", "--submodel", "0")
        )
        liar = stack.enter_context(fake_device("submodel-01", bundle.digest, _lies(bundle, value)))
        addresses = [first.address, liar]
        one = stack.enter_context(
            aggregator(ranged_bundle, tmp_path, addresses, "--min-submodels", "1")
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 2))
        for _ in range(3):
            outputs, said, _ = infer(channel, X)
            assert said["missing"] == "submodel-01"
            assert "out of range" in said["submodel-01.missing"]
            right = fused(ranged_bundle, X, (1,))[0]
            np.testing.assert_array_equal(outputs["probabilities"][0], right)

        # it answers an input of the aggregator's own as wrongly
        wait_for(lambda: one.events("breaker"))
        assert [event["reason"] for event in one.events("breaker")] == ["wrong answer"]


def test_real_devices_are_within_the_ranges_whatever_the_picture(ranged_bundle, tmp_path):
    pictures = [X, np.zeros_like(X), np.full_like(X, 255), np.full_like(X, 128)]
    with contextlib.ExitStack() as stack:
        one_worker = stack.enter_context(worker(ranged_bundle, tmp_path))
        one = stack.enter_context(aggregator(ranged_bundle, tmp_path, [one_worker.address]))
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 1))
        for picture in pictures:
            outputs, said, _ = infer(channel, picture)
            assert not said["degraded"]
            np.testing.assert_array_equal(
                outputs["probabilities"][0], fused(ranged_bundle, picture)[0]
            )


def test_an_input_that_all_refuse_is_the_clients_and_moves_no_breaker(tiny_bundle, tmp_path):
    bundle = open_bundle(tiny_bundle)
    words = "input 'image': got a lion; expected a lamb."
    refuse = Refusal(grpc.StatusCode.INVALID_ARGUMENT, words)
    with contextlib.ExitStack() as stack:
        addresses = []
        for j in (0, 1):
            device = fake_device(f"submodel-0{j}", bundle.digest, lambda _: refuse)
            addresses.append(stack.enter_context(device))
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses))
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 2))
        for _ in range(4):
            with pytest.raises(grpc.RpcError) as error:
                infer(channel, X)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in error.value.details()

        assert one.events("breaker") == []
