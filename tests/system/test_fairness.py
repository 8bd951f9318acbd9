"""One client asks without end, another now and then: the second keeps its answers."""

import contextlib
import threading
import time

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, all_ready, infer
from tests.support.worker_process import SLOW, wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)
GREEDY = 64  # requests that are always in flight
ASKED = 12


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(aggregator, identities): two devices that take 40 ms a request, as a Pi might."""
    folder = tmp_path_factory.mktemp("fair")
    certs.init(folder / "ca")
    ids = {}
    for role, name in (
        ("worker", "pi"),
        ("aggregator", "hub"),
        ("client", "greedy"),
        ("client", "polite"),
    ):
        hosts = [] if role == "client" else ["127.0.0.1"]
        ids[name] = certs.issue(folder / "ca", role, name, hosts, 10, folder / name)

    with contextlib.ExitStack() as stack:
        addresses = []
        for j in ("0", "1"):
            arguments = ("--identity", str(ids["pi"]), "--submodel", j)
            device = worker(tiny_bundle, folder, *arguments, prelude=SLOW.format(seconds=0.04))
            addresses.append(stack.enter_context(device).address)
        identity = ("--identity", str(ids["hub"]), "--deadline-ms", "1000")
        one = stack.enter_context(aggregator(tiny_bundle, folder, addresses, *identity))
        wait_for(lambda: all_ready(one, 2))
        yield one, {name: tls.identity(path) for name, path in ids.items()}


def _calls(channel: grpc.Channel, over: threading.Event) -> None:
    while not over.is_set():
        try:
            infer(channel, X, timeout=2)
        except grpc.RpcError:
            time.sleep(0.005)


def _stream(channel: grpc.Channel, over: threading.Event) -> None:
    def flood():
        place = 0
        while not over.is_set():
            place += 1
            yield tensors.infer_request("edvit", {"image": X}, request_id=str(place))
            if place % 256 == 0:
                time.sleep(0.02)

    with contextlib.suppress(grpc.RpcError):
        for _ in messages.stub(channel, "ModelStreamInfer")(flood()):
            pass


@pytest.mark.parametrize("how, threads", [(_calls, GREEDY), (_stream, 1)], ids=["calls", "stream"])
def test_the_polite_client_keeps_nine_of_ten_answers(fleet, how, threads):
    """Before: 2 of 40, and 3 of 76. In one of a few rounds: in some of them the machine may stand
    still for most of a deadline.
    """
    one, ids = fleet
    over = threading.Event()
    with one.channel(ids["greedy"]) as greedy, one.channel(ids["polite"]) as polite:
        running = [threading.Thread(target=how, args=(greedy, over)) for _ in range(threads)]
        for thread in running:
            thread.start()
        time.sleep(1.0)  # until the queues are full

        rounds: list[list[str]] = []
        while not rounds or (len(rounds) < 5 and rounds[-1].count("OK") < 0.9 * ASKED):
            rounds.append([_code(polite) for _ in range(ASKED)])

        over.set()
        if how is _stream:
            greedy.close()  # its reader waits for answers
        for thread in running:
            thread.join()

    assert rounds[-1].count("OK") >= 0.9 * ASKED, (rounds, one.log_file.read_text()[-3000:])


def _code(channel: grpc.Channel) -> str:
    try:
        return "OK" if infer(channel, X, timeout=2)[0] else ""
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"
