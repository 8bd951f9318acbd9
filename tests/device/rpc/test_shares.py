"""Shares of calls, requests and bytes: who comes first leaves room, what is given back is whole."""

import asyncio
import random

import grpc
import pytest

from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.shares import Shares


def client(name: str, connection: str = "1") -> Caller:
    return Caller("client", f"client/{name}", connection)


HUB = Caller("aggregator", "aggregator/hub", "1")


def taken(shares: Shares, caller: Caller) -> int:
    """How often a caller can take, one at a time."""
    count = 0
    while shares.take(caller):
        count += 1
    return count


def test_a_lone_caller_gets_most_and_whoever_comes_finds_room():
    shares = Shares("calls", 192)
    # half for a name, two thirds of that for one of its connections
    assert taken(shares, client("greedy")) == 64
    assert taken(shares, client("greedy", "2")) == 21
    # one that comes later has as much as is left free
    assert taken(shares, client("second")) >= 32
    for i in range(4):
        assert shares.take(client(f"polite {i}"))


def test_one_connection_leaves_room_for_another_of_the_same_name():
    """In plaintext all of a machine have one name."""
    shares = Shares("requests", 128)
    greedy = [client("me", connection) for connection in "abcd"]
    held = [caller for caller in greedy for _ in range(taken(shares, caller))]
    # one is answered after the other, and each asks again at once for all that it can get
    for caller in held[:40]:
        shares.give(caller)
        for other in greedy:
            taken(shares, other)
    assert shares.take(client("me", "polite"))


def test_what_is_reserved_is_for_aggregators():
    shares = Shares("streams", 64, reserved=16)
    for i in range(100):
        taken(shares, client(f"greedy {i}"))
    assert shares.used <= 64 and not shares.take(client("one more"))
    assert taken(shares, HUB) >= 6


def test_the_first_of_each_name_is_let_in_while_there_is_room_for_it():
    """Of messages each of which counts as the largest: ten slow ones left 0.67 of one free."""
    shares = Shares("bytes on their way", 1200, 600, first_for_all=True)
    assert all(shares.take(client(f"slow {i}"), 100) for i in range(10))
    assert not shares.take(client("slow 0"), 100)
    assert shares.take(client("polite"), 100)
    assert shares.take(client("another"), 100)
    # no further than the limit, but for aggregators
    assert not shares.take(client("one more"), 100)
    assert shares.take(HUB, 100) and shares.used == 1300


def test_it_never_holds_more_than_its_limit_and_forgets_who_left():
    rng = random.Random(0)
    shares = Shares("bytes", 1000, reserved=100)
    held = []
    for _ in range(5000):
        if held and rng.random() < 0.4:
            shares.give(*held.pop(rng.randrange(len(held))))
            continue
        caller = rng.choice([HUB, *(client(str(i), rng.choice("ab")) for i in range(8))])
        amount = rng.randint(1, 60)
        if shares.take(caller, amount):
            held.append((caller, amount))
        assert shares.used == sum(amount for _, amount in held) <= 1100

    for caller, amount in held:
        shares.give(caller, amount)
    assert shares.used == 0 and not shares._of_names and not shares._of_connections


def test_the_refusal_names_who_holds_what():
    shares = Shares("requests in flight", 12)
    held = [shares.take(client("me")) for _ in range(3)]
    assert held == [True] * 3
    with pytest.raises(WireError) as error, shares.held(client("me"), 5):
        raise AssertionError("not let in")
    assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    text = "requests in flight at once: got 5 more, with 3 held by client/me and 3 by all"
    assert text in str(error.value)
    assert shares.used == 3


def test_who_waits_is_let_in_when_room_is_given_back_and_others_do_not_wait_for_it():
    async def talk():
        shares = Shares("bytes", 90)
        for _ in range(3):
            assert shares.take(client("slow"), 10)
        waiting = [asyncio.ensure_future(shares.wait(client("slow"), 10)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)

        # another name finds room at once
        await asyncio.wait_for(shares.wait(client("other"), 10), 5)
        shares.give(client("other"), 10)

        # one that goes away gives no room away, the next one gets it
        waiting[0].cancel()
        shares.give(client("slow"), 10)
        await asyncio.wait([waiting[1]], timeout=5)
        assert waiting[0].cancelled() and waiting[1].done() and not waiting[2].done()
        assert shares.used == 30
        waiting[2].cancel()

    asyncio.run(talk())


def test_a_large_one_gets_its_turn_beside_a_greedy_one_that_asks_without_end():
    """Both want a third at a time: a share of what the greedy one leaves is less than that."""

    async def hold(shares: Shares, caller: Caller, amount: int) -> None:
        await shares.wait(caller, amount)
        await asyncio.sleep(0)
        shares.give(caller, amount)

    async def ask_without_end(shares: Shares) -> None:
        while True:
            await hold(shares, client("greedy"), 99)

    async def talk():
        shares = Shares("bytes", 300)
        greedy = [asyncio.ensure_future(ask_without_end(shares)) for _ in range(8)]
        await asyncio.sleep(0.01)
        for amount in (99, 150, 201, 300):
            await asyncio.wait_for(hold(shares, client("other"), amount), 5)
            assert shares.used <= 300
        for task in greedy:
            task.cancel()
        await asyncio.wait(greedy)
        assert shares.used == 0 and not shares._waiting

    asyncio.run(talk())


def test_room_is_kept_for_one_that_holds_nothing_until_it_goes_away():
    async def talk():
        shares = Shares("bytes", 300)
        assert shares.take(client("greedy"), 90)
        large = asyncio.ensure_future(shares.wait(client("large"), 250))
        await asyncio.sleep(0)
        small = asyncio.ensure_future(shares.wait(client("small"), 10))
        # more than there is in all is kept for nobody
        never = asyncio.ensure_future(shares.wait(client("never"), 301))
        await asyncio.sleep(0)
        assert not large.done() and not small.done() and shares.used == 90

        large.cancel()
        await asyncio.wait([small], timeout=5)
        assert small.done() and shares.used == 100
        assert not never.done()
        await asyncio.wait_for(shares.wait(client("next"), 10), 5)
        never.cancel()

    asyncio.run(talk())


def test_aggregators_do_not_wait_behind_it():
    async def talk():
        shares = Shares("bytes", 300, reserved=150)
        assert shares.take(client("greedy"), 90)
        large = asyncio.ensure_future(shares.wait(client("large"), 250))
        await asyncio.sleep(0)
        await asyncio.wait_for(shares.wait(HUB, 60), 5)

        # nor those that wait themselves, when room is given back
        waiting = asyncio.ensure_future(shares.wait(HUB, 90))
        await asyncio.sleep(0)
        assert not waiting.done() and not large.done()
        shares.give(HUB, 60)
        await asyncio.wait([waiting], timeout=5)
        assert waiting.done() and not large.done()
        large.cancel()

    asyncio.run(talk())


def test_one_let_in_and_cancelled_in_the_same_moment_holds_nothing():
    async def talk():
        shares = Shares("bytes", 12)
        assert shares.take(client("me"), 3)
        waiting = asyncio.ensure_future(shares.wait(client("me"), 3))
        await asyncio.sleep(0)
        shares.give(client("me"), 3)  # lets it in
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled() and shares.used == 0

    asyncio.run(talk())
