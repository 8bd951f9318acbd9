"""The estimate of milliseconds: what is counted, how costs are fitted, what a file may hold."""

import json

import numpy as np
import pytest

from edvit_tf.bench.calibrate import FITTED, LIST, calibration, calibration_text, probes
from edvit_tf.cli.main import main
from edvit_tf.errors import ConfigError
from edvit_tf.models import preset
from edvit_tf.models.vit.cost import macs_deployed
from edvit_tf.models.vit.operator_work import latency_terms
from edvit_tf.planning.latency import Calibration, Speed, read_calibration

NAN = float("nan")

# ms of one of each kind of work, of a made-up processor
COSTS = {
    "files": 0.05,
    "blocks": 0.01,
    "heads": 0.004,
    "dense_macs": 2e-8,
    "head_macs": 5e-8,
    "scores": 1e-6,
    "turned": 3e-7,
    "hidden": 2e-7,
    "stream": 1e-7,
    "pixels": 4e-8,
}


def made_speed(**changes) -> Speed:
    values = {
        "runtime": "tflite-runtime",
        "threads": 1,
        "target": "portable",
        "vector": 8,
        "ms_each": COSTS,
        "mean_error_percent": 2.0,
        "largest_error_percent": 5.0,
        "held_out": 8,
    }
    return Speed(**(values | changes))


def test_the_macs_counted_are_those_of_the_file():
    """With vectors of one float nothing is rounded up; the head's few MACs are left out."""
    for config, _ in probes():
        terms = latency_terms(config, 1)
        counted = terms["dense_macs"] + terms["head_macs"]
        assert counted == macs_deployed(config) - config.hidden_dim * config.num_classes


def test_twelve_narrow_heads_are_more_work_than_two_of_fewer_macs_less():
    base = preset("vit_base", (224, 224, 3), 10)
    narrow = base.pruned(2, 10, "keep")
    wide = base.pruned(2, 10, "merge")
    assert macs_deployed(narrow) < macs_deployed(wide)

    found = latency_terms(narrow, 16)
    other = latency_terms(wide, 16)
    assert found["heads"] == 6 * other["heads"]
    assert found["scores"] == 6 * other["scores"]
    assert found["head_macs"] > other["head_macs"]  # 10 columns cost as 16 do
    assert made_speed().milliseconds(narrow) > made_speed().milliseconds(wide)


def test_an_architecture_that_nobody_counted_has_no_estimate():
    assert made_speed().milliseconds(preset("vgg9", (32, 32, 3), 10)) is None


def made_folder(folder, times):
    """files.json of every probe, and times for it."""
    listed = [
        {"file": f"{n}.tflite", "config": config.to_dict(), "held_out": held, "target": "portable"}
        for n, (config, held) in enumerate(probes())
    ]
    (folder / LIST).write_text(json.dumps({"files": listed}))
    rows = [
        {"file": file["file"], "runtime": "tflite-runtime", "threads": 1, "ms": ms}
        for file, ms in zip(listed, times, strict=True)
    ]
    return {"processor": "a made-up processor", "rows": rows}


def test_costs_that_made_the_times_estimate_those_held_out(tmp_path):
    rng = np.random.default_rng(0)
    exact = [made_speed().milliseconds(config) for config, _ in probes()]
    times = made_folder(tmp_path, [ms * rng.uniform(0.99, 1.01) for ms in exact])

    found, judged = calibration(tmp_path, times)

    speed = found.speeds[0]
    assert speed.vector == 8
    assert speed.held_out == len(judged) == len(probes()) - len(FITTED)
    assert speed.largest_error_percent < 3
    assert min(speed.ms_each.values()) >= 0
    text = calibration_text(found, judged)
    assert "a made-up processor" in text and f"{speed.largest_error_percent:.1f} % at most" in text
    assert Calibration.from_dict(found.to_dict()) == found


def test_fitted_and_held_out_widths_have_none_in_common():
    fitted = {config for config, held in probes() if not held}
    held_out = {config for config, held in probes() if held}
    assert fitted and held_out and not fitted & held_out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("processor"), "processor"),
        (lambda t: t["rows"].pop(0), "the fit needs all"),
        (lambda t: t["rows"][0].update(file="other.tflite"), "other.tflite"),
        (lambda t: t["rows"][0].update(ms="soon"), "soon"),
        # of the fit, and of what is held out
        *((lambda t, ms=ms: t["rows"][0].update(ms=ms), "no time") for ms in (0, -1.0, NAN)),
        (lambda t: t["rows"][-1].update(ms=0), "no time"),
        (lambda t: t["rows"][0].update(ms=10**400), "too large"),
        (lambda t: t.update(rows=3), "int"),
    ],
)
def test_times_of_something_else_are_refused(tmp_path, change, says):
    times = made_folder(tmp_path, [1.0] * len(probes()))
    change(times)
    with pytest.raises(ConfigError, match=says):
        calibration(tmp_path, times)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", "list"),
        ("{}", "processor"),
        ('{"processor": "x", "speeds": []}', "one at least"),
        ('{"processor": "x", "speeds": [], "format": 9}', "reads 1"),
        ("[" * 100_000, "no calibration"),
    ],
)
def test_a_file_that_is_no_calibration(tmp_path, text, says):
    path = tmp_path / "pi.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_calibration(path)
    assert "edvit bench calibrate" in str(caught.value)


def test_costs_below_zero_are_refused():
    with pytest.raises(ConfigError, match="ms_each"):
        made_speed(ms_each=COSTS | {"heads": -1.0})
    with pytest.raises(ConfigError, match="ms_each"):
        made_speed(ms_each=COSTS | {"heads": NAN})


def test_a_processor_that_takes_no_time_or_whose_error_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="ms_each.*above 0"):
        made_speed(ms_each=dict.fromkeys(COSTS, 0.0))
    for error in (NAN, float("inf"), -1.0):
        with pytest.raises(ConfigError, match="largest_error_percent.*finite"):
            made_speed(largest_error_percent=error)


@pytest.mark.parametrize("content", [None, "[]", "{", "[" * 100_000])
def test_a_folder_that_lists_no_files_is_said(tmp_path, content):
    times = made_folder(tmp_path, [1.0] * len(probes()))
    (tmp_path / LIST).unlink()
    if content is not None:
        (tmp_path / LIST).write_text(content)
    with pytest.raises(ConfigError, match="no times of the files of"):
        calibration(tmp_path, times)


def test_a_calibration_without_a_kind_of_work_says_so():
    costs = {name: cost for name, cost in COSTS.items() if name != "scores"}
    with pytest.raises(ConfigError, match=r"scores.*calibrate"):
        made_speed(ms_each=costs).milliseconds(preset("vit_base", (224, 224, 3), 10))


def test_a_plan_shows_milliseconds_beside_macs(tmp_path, capsys):
    path = tmp_path / "pi.json"
    path.write_text(json.dumps(Calibration("a made-up Pi", (made_speed(),)).to_dict()))

    assert main(["plan", "--devices", "10", "--latency", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["latency"]
    assert told["processor"] == "a made-up Pi"
    found = told["estimates"][0]
    base = preset("vit_base", (224, 224, 3), 10)
    assert found["base_ms"] == pytest.approx(made_speed().milliseconds(base))
    assert len(found["devices"]) == 10
    part = made_speed().milliseconds(base.pruned(2, 2, "merge"))
    assert found["devices"][0][1] == pytest.approx(part, rel=1e-3)

    assert main(["plan", "--devices", "10", "--latency", str(path)]) == 0
    text = capsys.readouterr().out
    assert "a made-up Pi" in text and "5 % at most" in " ".join(text.split())


def test_a_plan_of_another_architecture_says_that_it_has_none(tmp_path, capsys):
    path = tmp_path / "pi.json"
    path.write_text(json.dumps(Calibration("a made-up Pi", (made_speed(),)).to_dict()))
    words = ["plan", "--model", "vgg9", "--image-size", "32", "--devices", "2"]
    assert main([*words, "--latency", str(path)]) == 0
    assert "nobody has counted" in capsys.readouterr().out
