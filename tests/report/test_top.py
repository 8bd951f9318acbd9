"""The verdict in three lines, and the units that its figures are said in."""

import math

import pytest

from edvit_tf.device.model.manifest import manifest_from_dict
from edvit_tf.report import units
from edvit_tf.report.compared import compared
from edvit_tf.report.results import results_from_dict
from edvit_tf.report.top import Line, top_lines
from tests.support.made_figures import accuracy, figures


def lines_of(manifest: dict, results: dict) -> tuple[Line, ...]:
    read = results_from_dict(results)
    return top_lines(read, compared(manifest_from_dict(manifest).fusion, read))


def test_three_lines_say_accuracy_cost_and_loss_each_with_its_interval():
    manifest, results = figures(0.7, 0.6)
    right, cost, lost = lines_of(manifest, results)
    assert right.figure == "70.0 %" and right.state == "better"
    assert right.gist == "+10.0 points against one model on one device (60.0 %): better."
    assert right.said.startswith("95 % interval +0.") and "63.3 to 75.9 % right" in right.said
    assert cost.figure == "40 KB, 0.60 ms" and "(95 % within 1.2 ms)" in cost.said
    assert cost.gist == "One model 41 KB, 0.60 ms; the unsplit base 160 KB, 2.0 ms."
    assert lost.name == "A lost sub-model" and lost.figure == "\u221230.0 points"
    assert lost.gist == "At worst \u221230.0 points, without submodel-00."
    assert lost.said.startswith(
        "95 % interval \u221238.8 to \u221220.4; the figure is the mean of 2"
    )


def test_a_device_is_lost_where_the_run_measured_devices_and_the_worst_is_named():
    manifest, results = figures(0.7, 0.6)
    paired = {"recordings": 200, "difference": -0.1, "low": -0.15, "high": -0.04}
    results["lost_devices"] = [
        {"device": "pi-0", "missing": [0], "tflite": accuracy(0.6), "paired": paired},
        {"device": "pi-1", "missing": [], "tflite": accuracy(0.7)},
    ]
    lost = lines_of(manifest, results)[2]
    assert lost.figure == "\u22125.0 points" and "the mean of 2 devices" in lost.said
    assert lost.gist == "At worst \u221210.0 points, without pi-0."
    assert "95 % interval \u221215.0 to \u22124.0" in lost.said
    assert "With one model on each device a lost one changes nothing" in lost.said


def test_without_a_single_model_the_base_is_compared_and_one_device_has_no_other():
    right, cost, lost = lines_of(*figures(0.7, count=1))
    assert "against the unsplit base (80.0 %)" in right.gist and right.state == "worse"
    assert "ne model" not in cost.gist and lost.figure == "No answer"


@pytest.mark.parametrize("share", [math.nan, math.inf])
def test_what_is_no_number_is_said_and_breaks_nothing(share):
    manifest, results = figures()
    results["fusion"]["tflite"]["recording"] = share
    results["fusion"]["process"]["invoke_ms"]["median"] = share
    right, cost, _ = lines_of(manifest, results)
    assert f"{share}" in right.figure and f"{share} ms" in cost.figure


def test_quantities_are_said_as_people_say_them():
    said = [units.size(n) for n in (0, 999, 1000, 78_412, 999_600, 9_970_000, math.inf)]
    assert said == ["0 B", "999 B", "1.0 KB", "78 KB", "1.0 MB", "10 MB", "inf B"]
    said = [units.milliseconds(ms) for ms in (0.0036, 0.0371, 0.134, 1.349, 34.02, 1234)]
    assert said == ["0.004 ms", "0.04 ms", "0.13 ms", "1.3 ms", "34 ms", "1.2 s"]
    said = [units.seconds(s) for s in (0.04, 42, 119, 186, 7100, 8640, math.nan)]
    assert said == ["0.04 s", "42 s", "119 s", "3.1 min", "118 min", "2.4 h", "nan s"]
    assert [units.macs(n) for n in (900, 30_721_408, 1.0728e9)] == ["900", "30.7 M", "1.07 G"]
    assert units.size(2_570_084, 3) == "2.57 MB" and units.milliseconds(0.0371, 3) == "0.0371 ms"
