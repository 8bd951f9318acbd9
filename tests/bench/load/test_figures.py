"""Percentiles, failures, the generator's own lateness and the knee, of rows that are given."""

from edvit_tf.bench.load.drive import DEGRADED, NOT_SENT, OK, Row
from edvit_tf.bench.load.figures import figures, knee, spread


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
    assert round(found["answered_per_second"], 3) == round(91 / 9.4, 3)


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


def at_rate(rate, p99, answered=100, generator_s=False):
    return {
        "rate": rate,
        "requests": 100,
        "answered": answered,
        "latency_ms": {"p99": p99},
        "is_generator_s": generator_s,
    }


def test_the_knee_is_where_p99_leaves_or_answers_fail_or_the_generator_is_late():
    low = [at_rate(10, 20), at_rate(20, 50)]
    assert knee(low[:1]) is None
    assert knee(low) == {"carried": 20, "not_carried": None, "why": None}
    found = knee([at_rate(50, 70), *low])
    assert (found["carried"], found["not_carried"]) == (20, 50)
    assert found["why"] == "p99 is 70.0 ms, 3.5 times that at the lowest rate"
    assert knee([*low, at_rate(50, 30, answered=98)])["why"] == "98 of 100 were answered"
    assert knee([*low, at_rate(50, 30, generator_s=True)])["why"] == "the generator was late"
    # a rate above that happens to do well again is not carried: the rates are in order
    assert knee([*low, at_rate(50, 90), at_rate(80, 30)])["carried"] == 20
    # nothing was answered, so there is no p99 to look at
    nothing = {**at_rate(10, 0, answered=0), "latency_ms": {}}
    assert knee([nothing, at_rate(20, 5)])["carried"] is None
