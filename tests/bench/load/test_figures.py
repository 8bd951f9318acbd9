"""Percentiles, failures, the generator's own lateness and the knee, of rows that are given."""

from edvit_tf.bench.load.drive import DEGRADED, NOT_SENT, OK, Row
from edvit_tf.bench.load.figures import figures, is_told, knee, spread


def row(place, took, code=OK, waited=0.0, late=0.0):
    at = place / 10
    sent = None if code == NOT_SENT else at + late + waited
    return Row(place, at, at + late, waited > 0, sent, at + late + waited + took, code)


def test_a_percentile_is_a_value_that_was_measured():
    found = spread([n / 1000 for n in range(1, 1001)])
    assert [round(value, 6) for value in found.values()] == [500, 900, 950, 990, 999, 1000]
    assert spread([0.25]) == dict.fromkeys(found, 250.0)
    assert spread([]) == {}


def test_who_has_no_answer_is_counted_by_its_code_and_in_no_percentile():
    rows = [row(n, 0.02) for n in range(90)]
    rows += [row(90, 0.03, DEGRADED), row(91, 0.001, "RESOURCE_EXHAUSTED")]
    rows += [row(92, 5.0, "DEADLINE_EXCEEDED"), row(93, 1.0, NOT_SENT)]
    found = figures(rows, 10, 9.4)
    assert (found["requests"], found["answered"], found["degraded"]) == (94, 91, 1)
    assert found["failed"] == {"DEADLINE_EXCEEDED": 1, NOT_SENT: 1, "RESOURCE_EXHAUSTED": 1}
    assert round(found["latency_ms"]["max"], 6) == 30
    assert round(found["answered_per_second"], 3) == round(91 / 9.4, 3)  # all came in time


def test_the_time_from_the_intended_moment_has_the_wait_for_a_place():
    rows = [row(n, 0.02, waited=0.4 if n >= 50 else 0.0) for n in range(100)]
    found = figures(rows, 10, 10)
    assert round(found["latency_ms"]["p90"]) == 420 and round(found["latency_ms"]["p50"]) == 20
    assert round(found["sent_latency_ms"]["max"]) == 20
    assert found["waited_for_place"] == 50 and not found["is_generator_s"]


def test_a_late_generator_owns_its_figures():
    rows = [row(n, 0.02, late=0.02 if n < 2 else 0.0) for n in range(100)]
    found = figures(rows, 10, 10)
    assert found["is_generator_s"] and found["late"] == 2 and round(found["late_ms"]["max"]) == 20
    in_time = [row(n, 0.02) for n in range(100, 200)]
    assert not figures([*rows, *in_time], 10, 20)["is_generator_s"]  # two of 200 are no rule


def at_rate(rate, p99, answered=100, generator_s=False, growth=0.0):
    return {
        "rate": rate,
        "requests": 100,
        "answered": answered,
        "latency_ms": {"p99": p99},
        "growth_ms": growth,
        "is_generator_s": generator_s,
    }


def test_the_knee_is_where_p99_leaves_or_answers_fail_or_the_generator_is_late():
    low = [at_rate(10, 20), at_rate(20, 50)]
    assert knee(low[:1], 10) is None
    assert knee(low, 10) == {"carried": 20, "not_carried": None, "why": None}
    found = knee([at_rate(50, 70), *low], 10)
    assert (found["carried"], found["not_carried"]) == (20, 50)
    assert found["why"] == "p99 is 70.0 ms, 3.5 times that at the lowest rate"
    assert knee([*low, at_rate(50, 30, answered=98)], 10)["why"] == "98 of 100 were answered"
    assert knee([*low, at_rate(50, 30, generator_s=True)], 10)["why"] == "the generator was late"
    # a rate above that happens to do well again is not carried: the rates are in order
    assert knee([*low, at_rate(50, 90), at_rate(80, 30)], 10)["carried"] == 20
    # nothing was answered, so there is no p99 to look at
    nothing = {**at_rate(10, 0, answered=0), "latency_ms": {}}
    assert knee([nothing, at_rate(20, 5)], 10)["carried"] is None


def queued(rate, capacity, seconds, warm_up=0.0):
    """The rows of a server that does so many a second, one after the other, and of no deadline."""
    rows, free = [], 0.0
    for place in range(int(rate * (warm_up + seconds))):
        at = place / rate
        free = max(free, at) + 1 / capacity
        rows.append(Row(place, at, at, False, at, free, OK))
    return figures(rows, rate, seconds, warm_up)


def test_a_fleet_that_falls_behind_at_the_lowest_rate_carries_nothing():
    for warm_up in (0.0, 2.0, 10.0):
        over = [queued(rate, 70, 10, warm_up) for rate in (100, 110)]
        assert all(each["answered"] == each["requests"] for each in over)
        found = knee(over, 10)
        assert found["carried"] is None and "more arrive than are answered" in found["why"]
        found = knee([queued(rate, 70, 10, warm_up) for rate in (30, 60, 80)], 10)
        assert (found["carried"], found["not_carried"]) == (60, 80)


def test_answers_a_second_are_those_that_came_in_them():
    assert abs(queued(100, 70, 10)["answered_per_second"] - 70) < 0.2
    # those that are asked for to warm up, and come later, keep the place of those that come late
    assert abs(queued(100, 70, 10, warm_up=2.0)["answered_per_second"] - 70) < 0.2
    assert abs(queued(50, 70, 10, warm_up=2.0)["answered_per_second"] - 50) < 0.2


def test_a_percentile_of_too_few_is_not_told():
    assert not is_told(99.9, 999) and is_told(99.9, 1000)
    assert not is_told(99, 99) and is_told(99, 100) and is_told(50, 2)
