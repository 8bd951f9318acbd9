"""Sensors of their own."""

from pathlib import Path

from tests.support.own_process import passes_alone


def test_sensors_of_their_own():
    passes_alone(Path(__file__).with_name("sensors_in_their_process.py"))
