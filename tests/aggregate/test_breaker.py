"""The circuit breaker on a clock of the test's own, and which replica is asked when."""

import asyncio

from edvit_tf.aggregate import hedge
from edvit_tf.aggregate.breaker import FAILURES, LONGEST_PAUSE_SECONDS, Breaker


def opened():
    """(breaker, clock, what was told) just after it opened at time 0."""
    clock, told = [0.0], []
    one = Breaker(lambda *what: told.append(what), lambda: clock[0])
    for _ in range(FAILURES):
        assert one.allows()
        one.failed(one.start(), "deadline")
    return one, clock, told


def test_three_failures_in_a_row_open_it_and_an_answer_between_them_does_not():
    one = Breaker()
    for _ in range(5):
        one.failed(one.start(), "down")
        one.failed(one.start(), "down")
        one.answered()
    assert one.state == "closed" and one.allows()
    one, _, told = opened()
    assert (
        str(one) == "breaker open (deadline)"
        and not one.allows()
        and told == [("open", FAILURES, "deadline")]
    )


def test_one_trial_after_the_pause_closes_it_or_doubles_the_pause():
    one, clock, told = opened()
    pauses = []
    for _ in range(6):
        before = clock[0]
        while not one.allows():
            clock[0] += 0.25
        pauses.append(clock[0] - before)
        assert one.start() and one.state == "half-open" and not one.allows()  # one at a time
        one.failed(True, "deadline")
    assert pauses == [1, 2, 4, 8, 8, 8] and pauses[-1] == LONGEST_PAUSE_SECONDS
    clock[0] += 8
    one.start()
    one.answered()
    assert one.state == "closed" and told[-1] == ("closed", 0, "it answered")
    for _ in range(FAILURES):
        one.failed(one.start(), "down")
    clock[0] += 1
    assert one.allows()  # the pause is the first again


def test_late_failures_of_requests_sent_before_do_not_make_the_pause_longer():
    one, clock, _ = opened()
    clock[0] = 0.9
    one.failed(False, "deadline")
    clock[0] = 1.0
    assert one.start()
    one.failed(False, "deadline")
    assert one.state == "half-open"


def test_a_trial_that_was_given_up_leaves_the_next_one_free():
    one, clock, told = opened()
    clock[0] = 1.0
    one.dropped(one.start())
    assert one.state == "open" and one.allows() and len(told) == 1  # nothing new to tell


def test_a_device_that_is_found_again_is_asked_at_once_and_once():
    one, _, _ = opened()
    one.found_again()
    assert one.allows() and not one.start()
    one.failed(False, "deadline")
    assert one.state == "open" and not one.allows()


def tried(seconds, results, delay=0.05, saved=2.0):
    """(result, which attempts were started, which were cancelled, copies sent) of first_good."""
    started, cancelled, budget = [], [], hedge.Budget()
    budget._saved = saved

    def attempt(place):
        async def run():
            started.append(place)
            try:
                await asyncio.sleep(seconds[place])
            except asyncio.CancelledError:
                cancelled.append(place)
                raise
            return results[place]

        return run

    async def all_of_it():
        found = await hedge.first_good(
            [attempt(i) for i in range(len(seconds))], str.isupper, delay, budget
        )
        await asyncio.sleep(0)
        return found

    return asyncio.run(all_of_it()), started, cancelled, budget.sent


def test_a_fast_device_is_asked_alone():
    assert tried([0.0, 0.0], ["A", "B"]) == ("A", [0], [], 0)


def test_the_first_good_answer_counts_and_the_other_is_cancelled():
    assert tried([60.0, 0.0], ["A", "B"]) == ("B", [0, 1], [0], 1)
    assert tried([2.0, 60.0], ["A", "B"]) == ("A", [0, 1], [1], 1)


def test_a_bad_answer_moves_on_without_the_budget():
    assert tried([0.0, 0.0], ["a", "B"], saved=0.0) == ("B", [0, 1], [], 0)
    assert tried([2.0, 0.0], ["A", "b"]) == (
        "A",
        [0, 1],
        [],
        1,
    )  # a bad copy does not end the first
    assert tried([0.0, 0.0], ["a", "b"]) == ("b", [0, 1], [], 0)


def test_without_budget_there_is_no_second_copy():
    assert tried([0.1, 0.0], ["A", "B"], saved=0.0) == ("A", [0], [], 0)


def test_the_budget_is_a_tenth_of_the_requests():
    budget = hedge.Budget()
    taken = 0
    for _ in range(1000):
        budget.request()
        taken += budget.take()
    assert 99 <= taken <= 105 and taken == budget.sent


def test_the_delay_is_the_devices_95th_percentile_once_it_is_known():
    trips = hedge.RoundTrips()
    for _ in range(15):
        trips.add(0.01)
    assert trips.p95() is None and hedge.delay_seconds(None, 1.0) == 0.25
    for n in range(100):
        trips.add(n / 1000)  # the last 64: 36 to 99 ms
    assert trips.p95() == 0.096 and hedge.delay_seconds(0.096, 1.0) == 0.096
    assert (
        hedge.delay_seconds(0.0001, 1.0) == hedge.LEAST_DELAY_SECONDS
        and hedge.delay_seconds(9.0, 1.0) == 0.5
    )
