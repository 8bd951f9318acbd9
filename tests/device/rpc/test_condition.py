"""What a device says of its temperature and its board, and what is believed of it."""

import pytest

from edvit_tf.device.rpc.condition import REASONS, Condition, heard, said


@pytest.mark.parametrize(
    "condition",
    [
        Condition(),
        Condition(48.3),
        Condition(-4.5, {"under-voltage": True}),
        Condition(81.0, dict.fromkeys(REASONS, False), dict.fromkeys(REASONS, True)),
    ],
)
def test_what_is_said_is_heard_and_what_is_not_known_is_absent(condition):
    assert heard(said(condition)) == condition
    assert len(said(condition)) == sum(bool(part) for part in condition)


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "-inf", "1e308", "300", "-273.15", "warm", "", "8" * 10**6, "\x00"],
)
def test_what_is_no_temperature_of_a_board_is_left_out(text):
    assert heard({"temperature_c": text}).temperature_c is None


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("throttled:1,under-voltage:0", {"throttled": True, "under-voltage": False}),
        ("throttled:2", {}),
        ('throttled"} 1\nedvit_serving 0:1', {}),
        ("on fire:1,throttled:1", {"throttled": True}),
        ("xthrottled:1", {}),
        ("throttled:1" * 1000, {}),
    ],
)
def test_no_device_makes_up_a_reason(text, flags):
    assert heard({"throttled_now": text}).now == flags
    assert heard({"throttled_since_boot": text}).since_boot == flags
