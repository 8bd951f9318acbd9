"""Temperature and throttling from the files of a device's kernel to the aggregator's pages."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.aggregator_process import aggregator, all_ready, infer, wait_ready
from tests.support.fleet_process import get, health, metric
from tests.support.worker_process import wait_for, worker

X = np.zeros((1, 16, 16, 1), np.uint8)
SYSTEM = """
import pathlib
from edvit_tf.device.worker import power, power_watch
power.SYSTEM = pathlib.Path({system!r})
power._VCGENCMD_SECONDS = 120.0
power_watch.READ_SECONDS = 0.05
"""  # a prelude: another /sys, read often


def put(system: Path, path: str, text: str) -> None:
    file = system / path
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def warm(system: Path, degrees: float, flags: str) -> None:
    put(system, "class/thermal/thermal_zone0/type", "cpu-thermal\n")
    put(system, "class/thermal/thermal_zone0/temp", f"{degrees * 1000:.0f}\n")
    put(system, "devices/platform/soc/soc:firmware/get_throttled", f"{flags}\n")


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(aggregator, the worker that tells, its /sys): a second device tells nothing."""
    folder = tmp_path_factory.mktemp("conditions")
    system = folder / "sys"
    warm(system, 48.3, "0")
    mute, tells = SYSTEM.format(system=str(folder / "none")), SYSTEM.format(system=str(system))
    with (
        worker(
            tiny_bundle,
            folder,
            *("--insecure", "--submodel", "0", "--metrics", "127.0.0.1:0"),
            prelude=tells,
        ) as first,
        worker(tiny_bundle, folder, "--insecure", "--submodel", "1", prelude=mute) as second,
        aggregator(
            tiny_bundle,
            folder,
            [first.address, second.address],
            *("--metrics", "127.0.0.1:0", "--min-submodels", "1"),
        ) as one,
        one.channel() as channel,
    ):
        wait_ready(channel)
        wait_for(lambda: all_ready(one, 2))
        yield one, first, second, system


def test_each_device_s_temperature_and_flags_stand_in_the_metrics(fleet):
    one, first, second, system = fleet
    warm(system, 48.3, "50000")
    name = "edvit_device_temperature_celsius"
    wait_for(lambda: metric(one, name, device=first.address) == 48.3)
    wait_for(lambda: metric(one, "edvit_device_throttled", when="since boot") == 2)
    assert metric(one, "edvit_device_throttled", when="now") == 0
    assert metric(first, "edvit_temperature_celsius", type="cpu-thermal") == 48.3
    assert metric(first, "edvit_throttled", reason="under-voltage", when="since boot") == 1

    # of a device that does not tell there is no sample at all, not a 0
    lines = [line for line in get(one, "/metrics").splitlines() if second.address in line]
    assert lines and not any("temperature" in line or "throttled" in line for line in lines)


def test_a_hot_device_that_is_held_back_is_an_alert(fleet):
    one, first, second, system = fleet
    warm(system, 84.6, "50005")
    wait_for(lambda: metric(one, "edvit_device_throttled", when="now") == 2)
    devices = {device["device"]: device for device in health(one)["devices"]}
    told = devices[first.address]
    assert (told["temperature_c"], told["throttled"]) == (84.6, ["under-voltage", "throttled"])
    assert told["throttled_since_boot"] == ["under-voltage", "throttled"]
    assert devices[second.address]["temperature_c"] is None
    assert devices[second.address]["throttled"] is None

    state = json.loads(get(one, "/live/state"))
    alerts = state["fleet"]["alerts"]
    assert f"{first.address} is hot: 85 °C; a heat sink or a fan keeps its clock." in alerts
    assert f"{first.address} is held back by its board: under-voltage, throttled." in alerts

    warm(system, 50.0, "0")
    wait_for(lambda: not json.loads(get(one, "/live/state"))["fleet"]["alerts"])


def test_answers_do_not_wait_for_a_firmware_that_does_not_answer(tiny_bundle, tmp_path):
    """A vcgencmd that stands still until somebody lets it go on."""
    go, program = tmp_path / "go", tmp_path / "vcgencmd"
    program.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/asked\nwhile [ ! -e {go} ]; do sleep 0.1; done\n"
        "echo throttled=0x4\n"
    )
    program.chmod(0o755)
    with (
        worker(
            tiny_bundle,
            tmp_path,
            *("--insecure", "--metrics", "127.0.0.1:0"),
            prelude=SYSTEM.format(system=str(tmp_path / "none")),
            PATH=f"{tmp_path}:{os.environ['PATH']}",
        ) as one,
        one.channel() as channel,
    ):
        wait_for((tmp_path / "asked").exists)
        for _ in range(3):
            infer(channel, X, timeout=60, model="submodel-00")
        assert "edvit_throttled{" not in get(one, "/metrics")

        go.touch()
        wait_for(lambda: metric(one, "edvit_throttled", reason="throttled", when="now") == 1)


def test_a_device_that_is_away_has_no_temperature(fleet):
    one, first, _, system = fleet
    warm(system, 60.0, "0")
    name = "edvit_device_temperature_celsius"
    wait_for(lambda: metric(one, name, device=first.address) == 60.0)
    first.process.kill()
    wait_for(lambda: f"{name}{{" not in get(one, "/metrics"))
    assert "edvit_device_throttled{" not in get(one, "/metrics")
