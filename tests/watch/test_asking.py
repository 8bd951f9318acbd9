"""Requests in flight beside one that hangs or fails: what is held back, said and paced."""

import threading
import time

import pytest

from edvit_tf.errors import RequestFailed
from edvit_tf.watch import asking as module
from edvit_tf.watch.asking import Asking
from edvit_tf.watch.item import Item
from edvit_tf.watch.newest import Newest
from edvit_tf.watch.outage import _ENOUGH_ANSWERS, Outage
from tests.support.worker_process import wait_for

AWAY = RequestFailed("h:1 answered UNAVAILABLE", status="UNAVAILABLE")


class Fleet:
    """A hub that answers what `ask` lets it, and what is told of it."""

    def __init__(self, ask, *, in_flight=2, rate=None, keeps=True, count=None, ready=False) -> None:
        self.names: list[str] = []  # in the order of the answers
        self.words: list[str] = []
        self.asked: list[int] = []
        self.ended = threading.Event()
        self._ask, self._ready = ask, ready
        self.newest = Newest()
        self.asking = Asking(
            self,
            self.newest,
            lambda item, answer: self.names.append(item.name),
            lambda error: self.ended.set(),
            self.words.append,
            in_flight=in_flight,
            rate=rate,
            keeps=keeps,
            count=count,
        )
        self.asking.start()

    def ask(self, values, say) -> dict:
        self.asked.append(values[0])
        self._ask(values[0])
        return {"parameters": {"degraded": False}}

    def is_ready(self) -> bool:
        return self._ready

    def close(self) -> None:
        pass

    def give(self, number: int) -> bool:
        return self.newest.put_when_free(Item(str(number), lambda: [number]))

    def give_all(self, count: int) -> None:
        for number in range(count):
            self.give(number)
        self.newest.end()

    def give_from_a_thread(self, count: int) -> None:
        threading.Thread(target=self.give_all, args=(count,), daemon=True).start()


def test_beside_one_that_hangs_only_a_few_are_asked_and_then_all_go_out_in_order():
    goes_on = threading.Event()
    fleet = Fleet(lambda number: number != 3 or goes_on.wait(60))
    try:
        fleet.give_from_a_thread(100)
        most = 3 + module._AHEAD * 2  # 3 hangs, and so many are taken from it on
        wait_for(lambda: len(fleet.asked) == most)
        assert not fleet.ended.wait(0.5)
        assert len(fleet.asked) == most and fleet.names == ["0", "1", "2"]
        goes_on.set()
        assert fleet.ended.wait(60)
        assert fleet.names == [str(number) for number in range(100)]
    finally:
        goes_on.set()
        fleet.asking.stop(1.0)


def test_one_that_the_fleet_never_answers_holds_up_no_others(monkeypatch):
    monkeypatch.setattr("edvit_tf.watch.outage._FIRST_SECONDS", 0.001)
    monkeypatch.setattr("edvit_tf.watch.outage._MOST_SECONDS", 0.002)

    def ask(number: int) -> None:
        time.sleep(0.001)
        if number == 3:
            raise AWAY

    fleet = Fleet(ask)
    count = 0
    until = time.monotonic() + 60
    try:
        while not any("3 had no answer" in line for line in fleet.words):
            assert time.monotonic() < until
            fleet.give(count)
            count += 1
        fleet.newest.end()
        assert fleet.ended.wait(60)
    finally:
        fleet.asking.stop(1.0)
    assert fleet.names == [str(number) for number in range(count) if number != 3]
    assert fleet.asking.counts.failed == 1


@pytest.mark.parametrize("heavy", [2, 7])
def test_as_many_as_are_in_flight_that_the_fleet_never_answers_hold_up_no_others(
    monkeypatch, heavy
):
    """They are too heavy for the devices' deadline: nobody else is asked while they are in flight,
    and the hub says that it is ready.
    """
    monkeypatch.setattr("edvit_tf.watch.outage._FIRST_SECONDS", 0.001)
    monkeypatch.setattr("edvit_tf.watch.outage._MOST_SECONDS", 0.002)

    def ask(number: int) -> None:
        if 3 <= number < 3 + heavy:
            raise AWAY

    fleet = Fleet(ask, ready=True)
    try:
        fleet.give_from_a_thread(20)
        assert fleet.ended.wait(60)
    finally:
        fleet.asking.stop(1.0)
    others = [number for number in range(20) if not 3 <= number < 3 + heavy]
    assert sorted(map(int, fleet.names)) == others
    assert fleet.asking.counts.failed == heavy
    assert len([line for line in fleet.words if "had no answer 2" in line]) == heavy


def test_while_nothing_is_answered_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr("edvit_tf.watch.outage._MOST_SECONDS", 0.001)
    is_away = threading.Event()
    is_away.set()

    def ask(number: int) -> None:
        if is_away.is_set():
            raise AWAY

    fleet = Fleet(ask)
    try:
        fleet.give_from_a_thread(5)
        wait_for(lambda: len(fleet.asked) > 4 * module._MOST_TRIES_BESIDE_OTHERS)
        is_away.clear()
        assert fleet.ended.wait(60)
    finally:
        fleet.asking.stop(1.0)
    assert sorted(fleet.names) == list("01234") and fleet.asking.counts.failed == 0


def test_a_fleet_that_answers_in_part_is_said_in_a_few_lines():
    words: list[str] = []
    outage = Outage(words.append)
    for number in range(200):
        if number % 3 == 0:
            outage.missed(str(number), AWAY, 1)
        else:
            outage.answered(str(number), time.monotonic())
    assert len(words) == 3
    assert words[1].startswith("answers again at 1, ") and "no answer again from 3 on" in words[2]
    assert outage.error is None  # the last was answered

    for number in range(200, 200 + _ENOUGH_ANSWERS):
        outage.answered(str(number), time.monotonic())
    assert len(words) == 4 and "66 requests failed" in words[3]
    # it is as good as new
    outage.missed("300", AWAY, 1)
    assert words[4].startswith("no answer from 300 on")


def test_an_item_that_fails_beside_answers_waits_longer_each_time():
    outage = Outage(lambda words: None)
    pauses = []
    for times in range(1, 7):
        pauses.append(outage.missed("bad", AWAY, times))
        outage.answered("good", time.monotonic())
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0])


def test_a_request_again_has_its_turn_by_the_rate(monkeypatch):
    monkeypatch.setattr("edvit_tf.watch.outage._MOST_SECONDS", 0.0)
    at: list[float] = []

    def ask(number: int) -> None:
        at.append(time.monotonic())
        if len(at) < 5:
            raise AWAY

    fleet = Fleet(ask, rate=20)
    started = time.monotonic()
    try:
        fleet.give_all(1)
        assert fleet.ended.wait(60)
    finally:
        fleet.asking.stop(1.0)
    assert at[-1] - started >= 4 * 0.05 - 1e-3


class _Recordings(Fleet):
    """Asked for all windows of an item after each other, as a hub is."""

    def ask(self, values, say) -> dict:
        for value in values:
            super().ask([value], say)
        return {"parameters": {"degraded": False}}


def test_each_window_of_a_recording_has_its_turn_by_the_rate():
    at: list[float] = []
    fleet = _Recordings(lambda number: at.append(time.monotonic()), rate=20)
    started = time.monotonic()
    try:
        fleet.newest.put_when_free(Item("a.wav", lambda: [0, 1, 2]))
        fleet.newest.put_when_free(Item("b.wav", lambda: [3, 4, 5]))
        fleet.newest.end()
        assert fleet.ended.wait(60)
    finally:
        fleet.asking.stop(1.0)
    assert sorted(fleet.asked) == list(range(6)) and fleet.names == ["a.wav", "b.wav"]
    assert at[-1] - started >= 5 * 0.05 - 1e-3


def test_a_recording_whose_next_window_s_turn_is_far_off_does_not_hold_up_the_end():
    fleet = _Recordings(lambda number: None, rate=1e-300)
    try:
        fleet.newest.put_when_free(Item("a.wav", lambda: [0, 1]))
        wait_for(lambda: fleet.asked == [0])
    finally:
        fleet.asking.stop(60.0)
    assert fleet.asking._running == 0 and fleet.asked == [0] and fleet.names == []


def test_the_smallest_rate_is_a_long_wait_and_no_error():
    fleet = Fleet(lambda number: None, rate=1e-300)
    try:
        fleet.give(0)
        fleet.give(1)
        wait_for(lambda: fleet.names == ["0"])
        assert not fleet.ended.wait(0.1)
    finally:
        fleet.asking.stop(5.0)
    assert fleet.asking._running == 0


def test_the_end_waits_once_for_all_that_hang():
    let_go = threading.Event()
    fleet = Fleet(lambda number: let_go.wait(60), in_flight=40)
    fleet.give_from_a_thread(40)
    try:
        wait_for(lambda: len(fleet.asked) == 40)
        started = time.monotonic()
        fleet.asking.stop(0.5)
        assert time.monotonic() - started < 15  # not a half second for each of forty
    finally:
        let_go.set()
