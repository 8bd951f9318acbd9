"""results.json as types: older ones open, and what is wrong with one is a BundleError that names
the place.
"""

import copy
import json
import math
from pathlib import Path

import pytest

from edvit_tf.checked import digest
from edvit_tf.device.errors import BundleError
from edvit_tf.report.entries import Calibration, Milliseconds
from edvit_tf.report.results import read_results, recomputed_key, results_from_dict
from edvit_tf.report.typed import typed
from tests.support.made_figures import copies_figures, figures


def stored(folder: Path, results: dict) -> Path:
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_the_figures_are_what_was_written():
    results = results_from_dict(figures()[1])
    assert list(results.rivals) == ["single"] and results.rivals["single"].macs == 41_000
    assert results.sub_models[1].process.invoke_ms == Milliseconds(0.5, 1.0)
    assert results.fusion.tflite.recording == 0.7 and results.losses[0].missing == (0,)
    head = results.sub_models[0].stages[0]
    assert head.stage == "head" and head.accuracy["cut"].all == 0.3
    assert results.data.splits["test"].per_class["jazz"].windows == 100
    assert results.data.noun == "recording"


def test_results_of_older_versions_open(tmp_path):
    """Without what came later: losses, calibration, flavours, training MACs."""
    results = copy.deepcopy(figures()[1])
    for key in ("losses", "training_macs"):
        del results[key]
    for key in ("calibration", "validation_calibration", "temperature"):
        del results["fusion"][key]
    for key in ("tflite", "process", "file_bytes", "parity"):
        del results["base"][key]
    read = read_results(stored(tmp_path, results))
    assert read.losses == read.flavours == read.lost_devices == ()
    assert read.fusion.calibration is None and read.training_macs == {}
    assert read.base.accuracy == read.base.keras
    assert read.base.deployed_bytes == read.base.weight_bytes


def test_a_fleets_kind_and_its_copies_are_typed():
    results = copies_figures([0.6, 0.66, 0.7])[1]
    read = results_from_dict(results)
    assert (read.fleet.kind, read.fleet.asked, read.fleet.gap) == ("copies", "auto", 0.21)
    assert read.knows_all and read.members_samples == (4000, 4000, 4000)
    assert read.copies.most.devices == 3 and read.copies.views[2]["down"] == 7
    assert read.copies.validation[1].accuracy == pytest.approx(0.67)
    assert read.copies_beside is None  # they are the fleet

    # a version that knew class splits alone, and a run that has none of it
    old = results_from_dict(figures()[1] | {"fleet": None, "copies": None, "disagreement": None})
    assert old.fleet.kind == "classes" and old.copies is None and not old.knows_all


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda r: r.update(copies={"views": [], "test": [{"devices": 1}]}),
            "copies.test[0] lacks",
        ),
        (lambda r: r.update(fleet={"gap": "wide"}), "fleet.gap is 'wide'; it must be a number"),
        (lambda r: r.update(members_samples=[1.5]), "members_samples[0] is 1.5"),
        (lambda r: r.pop("parity"), "it lacks parity"),
        (lambda r: r["fusion"].pop("average"), "fusion lacks average"),
        (lambda r: r["sub_models"][1].update(macs="many"), "sub_models[1].macs is 'many'"),
        (lambda r: r["sub_models"][0].update(macs=True), "sub_models[0].macs is True"),
        (lambda r: r["base"].update(process=3), "base.process is 3; it must be an object"),
        (lambda r: r.update(labels="a, b"), "labels is 'a, b'; it must be a list"),
        (lambda r: r["single"]["tflite"].pop("window"), "rivals.single.tflite lacks window"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, words):
    results = copy.deepcopy(figures()[1])
    change(results)
    with pytest.raises(BundleError) as refused:
        read_results(stored(tmp_path, results))
    assert words in str(refused.value) and "Copy the bundle again" in str(refused.value)


def test_the_key_can_be_recomputed_from_what_a_bundle_was_made_from(tmp_path):
    """Fault (g): what the key digests lay in the work folder alone."""
    assert recomputed_key(tmp_path) is None  # a bundle of an older version
    description = {"config": {"seed": 3}, "base": None}
    (tmp_path / "run.json").write_text(json.dumps({"description": description}))
    results = figures()[1] | {"key": digest(description)}
    read = read_results(stored(tmp_path, results))
    assert read.key == recomputed_key(tmp_path)


def test_what_was_no_number_may_be_null_or_nan():
    for no_number in (None, float("nan")):
        read = typed(Calibration, {"ece": 0.1, "nll": no_number}, "calibration")
        assert read.ece == 0.1 and math.isnan(read.nll)
