"""Windows of several sensors, by a clock that is made up."""

import numpy as np
import pytest

from edvit_tf.watch.moments import Moments

RATE, WINDOW = 1000, 500  # Hz, samples
BLOCK = 50  # samples, 0.05 s


def sound(start: float, seconds: float) -> np.ndarray:
    """What a sensor hears from a time on: each sample is its own time, in samples."""
    return np.round(start * RATE) + np.arange(round(seconds * RATE), dtype=np.float32)


def played(moments: Moments, came: dict[str, list], until: float):
    """The windows of what comes, `came[sensor]` = [(when it comes, samples)], looked for each 10
    ms of the clock: [(when, moment)].
    """
    arrivals = sorted(
        ((at, name, block) for name, blocks in came.items() for at, block in blocks),
        key=lambda arrival: arrival[0],
    )
    found = []
    for now in np.arange(0, until, 0.01):
        while arrivals and arrivals[0][0] <= now:
            at, name, block = arrivals.pop(0)
            moments.heard(name, block, at)
        found += [(now, moment) for moment in moments.due(now)]
    return found


def steady(start: float, end: float, late: float = 0.0) -> list:
    """Blocks of 50 ms, each there `late` seconds after its last sample was heard."""
    count = round((end - start) * RATE / BLOCK)
    times = [start + place * BLOCK / RATE for place in range(count)]
    return [(at + BLOCK / RATE + late, sound(at, BLOCK / RATE)) for at in times]


def made(hop: int = WINDOW, tolerance: float = 0.1, **delays: float) -> Moments:
    return Moments(delays or {"a": 0.0, "b": 0.0}, RATE, WINDOW, hop, tolerance)


def apart(moment) -> float:
    """By how much the windows of two sensors lie apart, seconds."""
    a, b = moment.sounds["a"], moment.sounds["b"]
    assert len(a) == len(b) == WINDOW
    np.testing.assert_array_equal(np.diff(a), 1)  # without a hole
    return abs(float(a[0] - b[0])) / RATE


def test_sensors_of_one_time_give_windows_of_one_time_as_soon_as_they_are_there():
    found = played(made(), {"a": steady(0, 3), "b": steady(0, 3)}, 3.3)
    assert [moment.start_seconds for _, moment in found] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    assert all(apart(moment) == 0 for _, moment in found)
    for now, moment in found:
        assert now <= moment.start_seconds + 0.5 + 0.011


def test_windows_may_overlap():
    found = played(made(hop=125), {"a": steady(0, 2), "b": steady(0, 2)}, 2.05)
    assert [m.start_seconds for _, m in found] == pytest.approx(np.arange(13) * 0.125)
    assert all(apart(moment) == 0 for _, moment in found)


def test_one_that_begins_a_little_later_counts_from_its_first_sample_on():
    found = played(made(), {"a": steady(0, 2), "b": steady(0.05, 2)}, 2.05)
    assert [set(m.sounds) for _, m in found] == [{"a", "b"}] * 4
    assert [apart(m) for _, m in found] == [0.05, 0, 0, 0]


def test_one_that_begins_much_later_is_missing_until_then():
    found = played(made(), {"a": steady(0, 3), "b": steady(1.2, 3)}, 3.05)
    assert [set(m.sounds) for _, m in found] == [{"a"}] * 3 + [{"a", "b"}] * 3
    assert [apart(m) for _, m in found[3:]] == [0] * 3


def test_a_delay_that_is_known_is_taken_off():
    came = {"a": steady(0, 3), "b": steady(0, 3, late=0.4)}
    untold = played(made(), came, 3.6)
    assert [round(apart(m), 3) for _, m in untold if len(m.sounds) == 2] == pytest.approx([0.4] * 5)

    found = played(made(a=0.0, b=0.4), came, 3.6)
    assert len(found) == 6 and all(apart(m) == pytest.approx(0, abs=1e-6) for _, m in found)


def test_sound_that_is_held_up_is_missing_and_right_again_afterwards():
    b = steady(0, 4)
    b = [(2.5 if 1.2 < at < 2.5 else at, block) for at, block in b]  # nothing for 1.3 s, then all
    found = played(made(), {"a": steady(0, 4), "b": b}, 4.05)
    heard = ["b" in m.sounds for _, m in found]
    assert heard == [True, True, False, False, True, True, True, True]
    assert all(apart(m) == 0 for _, m in found if "b" in m.sounds)
    # none of them was waited for longer than the tolerance
    assert all(now <= m.start_seconds + 0.5 + 0.1 + 0.011 for now, m in found)


def test_samples_that_are_lost_shift_nothing_for_long():
    b = [(at, block) for at, block in steady(0, 12) if not 2 < at <= 3]  # a second is not there
    found = played(made(), {"a": steady(0, 12), "b": b}, 12.05)
    assert len(found) == 24
    # what cannot be placed is missing and not wrong: never further off than what was lost
    late = [m for _, m in found if m.start_seconds >= 2 + 1 + 5 + 0.5]
    assert len(late) >= 6 and all(apart(m) == 0 for m in late)
    between = [m for _, m in found if 3 <= m.start_seconds < 6.5]
    assert all("b" not in m.sounds for m in between)


@pytest.mark.parametrize("speed", [0.998, 1.002])
def test_a_sensor_whose_clock_runs_fast_or_slow_stays_beside_the_others(speed):
    a = steady(0, 120)
    b = [(at / speed, block) for at, block in steady(0, 120 * speed)]
    found = played(made(), {"a": a, "b": b}, 119)
    # without a look at the clock it would be 0.24 s off at the end
    off = [
        abs((m.sounds["b"][0] / speed - m.sounds["a"][0]) / RATE)
        for _, m in found
        if "b" in m.sounds
    ]
    assert len(off) == len(found) == 237 and max(off) < 0.05


def test_a_sensor_that_was_away_begins_anew():
    moments = made()
    first = played(moments, {"a": steady(0, 1), "b": steady(0, 1)}, 1.01)
    moments.begin("b")
    again = [(at, block) for at, block in steady(1.7, 4)]
    found = []
    rest = sorted(
        [(at, "a", x) for at, x in steady(1, 4)] + [(at, "b", x) for at, x in again],
        key=lambda arrival: arrival[0],
    )
    for at, name, block in rest:
        moments.heard(name, block, at)
        found += moments.due(at)
    assert len(first) == 2 and [set(m.sounds) for m in found][:2] == [{"a"}, {"a"}]
    assert [apart(m) for m in found[2:]] == [0] * (len(found) - 2) and len(found) >= 5


def test_a_silent_sensor_is_waited_for_so_long_and_no_longer():
    found = played(made(), {"a": steady(0, 2)}, 2.2)
    assert [set(m.sounds) for _, m in found] == [{"a"}] * 4
    waits = [now - m.start_seconds - 0.5 for now, m in found]
    assert min(waits) >= 0.099 and max(waits) <= 0.111


def test_windows_without_any_sound_are_left_out_and_the_time_goes_on():
    came = {"a": steady(0, 1) + steady(10, 11), "b": steady(0, 1) + steady(10, 11)}
    moments = made()
    found = played(moments, {name: blocks[:20] for name, blocks in came.items()}, 9.9)
    for name in came:
        moments.begin(name)
    for at, name, block in sorted(
        [(at, name, block) for name, blocks in came.items() for at, block in blocks[20:]],
        key=lambda arrival: arrival[0],
    ):
        moments.heard(name, block, at)
        found += [(at, moment) for moment in moments.due(at)]
    assert [m.start_seconds for _, m in found] == pytest.approx([0, 0.5, 10, 10.5])


def test_nothing_grows_and_a_huge_block_is_cut():
    moments = made()
    moments.heard("a", sound(0, 500), 500.0)
    for now in np.arange(500, 560, 0.05):
        moments.heard("a", sound(now, 0.05), now)
    track = moments._tracks["a"]
    assert len(track._kept) <= WINDOW + 2 * RATE and len(track._arrivals) <= 110


def test_it_is_over_when_all_are_and_the_last_window_was_given():
    moments = made(b=0.3)
    assert not moments.is_over(0.0)
    found = played(moments, {"b": steady(0, 1, late=0.3)}, 1.35)
    assert len(found) == 2 and not moments.is_over(100.0)
    moments.over("b")
    assert not moments.is_over(1.35) and moments.is_over(1.8)
    assert list(moments.due(10.0)) == []
