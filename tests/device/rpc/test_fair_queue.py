"""The queue before a model: one of each in turn, by name and by connection."""

import asyncio
import threading

import grpc
import hypothesis.strategies as st
import pytest
from hypothesis import given

from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.device.rpc.fair_queue import FairQueue
from edvit_tf.device.rpc.messages import WireError

TURNS = st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"))


@given(st.lists(TURNS | st.none(), max_size=40), TURNS)
def test_ahead_counts_what_is_served_before(steps, turn):
    queue: FairQueue[object] = FairQueue()
    for step in steps:
        if step is not None:
            queue.put(step, object())
        elif queue:
            queue.pop()

    ahead, mine = queue.ahead(turn), object()
    queue.put(turn, mine)
    assert list(queue.in_order()).index(mine) == ahead
    assert len(queue) == len(list(queue.in_order()))


def test_a_queue_of_one_name_is_a_queue():
    queue: FairQueue[int] = FairQueue()
    for i in range(5):
        queue.put(("me", "1"), i)
    assert queue.remove(("me", "1"), 2) and not queue.remove(("me", "1"), 2)
    assert [queue.pop() for _ in range(len(queue))] == [0, 1, 3, 4]


def test_who_has_one_request_waits_for_one_of_each_of_the_others():
    queue: FairQueue[str] = FairQueue()
    for i in range(30):
        queue.put(("greedy", str(i % 4)), f"greedy {i}")
    queue.put(("polite", "1"), "polite")
    queue.put(("greedy", "new"), "same name")
    order = [queue.pop() for _ in range(len(queue))]
    assert order.index("polite") == 1
    # behind one of each of the four connections of its name, and the other name's one
    assert order.index("same name") == 5


async def held(executor: Executor, until: threading.Event) -> asyncio.Task:
    """The model is busy, and until the event."""
    busy = threading.Event()

    def work() -> bool:
        busy.set()
        return until.wait(60)

    task = asyncio.ensure_future(executor.submit(work, 60))
    while not busy.is_set():
        await asyncio.sleep(0.01)
    return task


def test_the_executor_serves_a_polite_caller_between_a_greedy_ones_requests():
    served = []

    async def talk():
        executor = Executor("model", lambda work: served.append(work()), 0.001)
        free = threading.Event()
        first = await held(executor, free)
        greedy, polite = Caller("client", "greedy", "1"), Caller("client", "polite", "1")
        tasks = [
            asyncio.ensure_future(executor.submit(lambda i=i: i, 60, greedy)) for i in range(40)
        ]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(executor.submit(lambda: "polite", 60, polite)))
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(first, *tasks)
        executor.close()

    asyncio.run(talk())
    assert served == [True, 0, "polite", *range(1, 40)]


def test_a_full_queue_has_room_for_another_caller():
    async def talk():
        executor = Executor("model", lambda work: work(), 1e-6)
        free = threading.Event()
        first = await held(executor, free)
        greedy, polite = Caller("client", "greedy", "1"), Caller("client", "polite", "1")
        tasks = [asyncio.ensure_future(executor.submit(lambda: 1, 60, greedy)) for _ in range(100)]
        await asyncio.sleep(0)
        last = asyncio.ensure_future(executor.submit(lambda: "polite", 60, polite))
        await asyncio.sleep(0)
        free.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, WireError)]
        # a lone connection has 64, as it had before
        assert len(refused) == 36
        assert {each.code for each in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert (await last).value == "polite"
        await first
        executor.close()

    asyncio.run(talk())


def test_who_is_made_too_late_by_others_is_told_so_at_once_and_not_at_the_deadline():
    """It is load, and no silence: an aggregator's breaker must not open for it."""

    async def talk():
        executor = Executor("model", lambda work: work(), 10.0)
        free = threading.Event()
        first = await held(executor, free)
        greedy = Caller("client", "greedy", "1")
        waiting = [asyncio.ensure_future(executor.submit(lambda: "", 34, greedy)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)  # 10 s for the first, 10 for each

        polite = asyncio.ensure_future(
            executor.submit(lambda: "polite", 40, Caller("client", "polite", "1"))
        )
        await asyncio.wait([waiting[1]], timeout=5)
        with pytest.raises(WireError) as error:
            waiting[1].result()
        assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queue of model: got" in str(error.value)
        assert not waiting[0].done() and not polite.done()
        free.set()
        await asyncio.gather(first, waiting[0], polite)
        executor.close()

    asyncio.run(talk())
