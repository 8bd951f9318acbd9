"""What is said of the one model that was trained as much as a joint fleet, from made-up figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.device.model.manifest import manifest_from_dict
from edvit_tf.evaluation.predictions import Predictions
from edvit_tf.report.advice import advice
from edvit_tf.report.advised import advice_text
from edvit_tf.report.compared import compared
from edvit_tf.report.page import write_report
from edvit_tf.report.results import results_from_dict
from edvit_tf.report.tables import stages_table
from edvit_tf.report.verdict import verdict
from tests.support.made_figures import accuracy, figures


@pytest.fixture
def made(tmp_path):
    """made(share, named): manifest, results and a folder of a joint fleet that is right on 140 of
    200 recordings, its one model on 120, and the one of equal training on those `named`.
    """

    def of(share: float, named: range) -> tuple[dict, dict, Path]:
        manifest, results = figures(0.7, 0.6)
        for sub in results["sub_models"]:
            sub["labels"] = results["labels"]
        results["fleet"] = {"kind": "joint", "start": "model"}
        step = results["single"]["stages"][-1] | {"stage": "equal", "history": {"samples": 900}}
        results["equal"] = results["single"] | {"tflite": accuracy(share), "stages": [step]}
        results["training_macs"] = {"fleet": 3_000, "single": 1_000, "equal": 3_000}
        results["stage_seconds"] |= {"equal": 40.0}
        if "turns" in results:
            results["turns"]["models"]["equal"] = results["turns"]["models"]["single"]

        right = {"fused": range(140), "single": range(120), "equal": named, "base": range(160)}
        stored = Predictions(np.zeros(200, int), np.arange(200))
        for name, own in right.items():
            answers = np.tile([0.0, 1.0], (200, 1))
            answers[list(own)] = [1.0, 0.0]
            stored.add(name, answers)
        stored.store(tmp_path, None)
        return manifest, results, tmp_path

    return of


def test_a_joint_fleet_is_weighed_against_one_model_of_equal_training(made):
    """It is better than the one model, but not than the same trained as much: that is taken."""
    manifest, results, folder = made(0.69, range(2, 140))
    read = results_from_dict(results)
    found = advice(manifest_from_dict(manifest), read, folder)
    assert found.recommended.key == "equal" and found.recommended.training.macs == 3_000
    assert found.recommended.training.seconds >= 40
    assert found.sentence.startswith("Take one model trained as much as the joint fleet, on each")
    said = " ".join(found.reasons)
    assert "It cannot be told apart from the joint fleet, and is simpler" in said
    assert "each of the 3 devices answers for itself" in said

    # beside the others, in words and in tables
    rows = compared(manifest_from_dict(manifest).fusion, read)
    assert "trained as much as the fleet reaches 69.0 %" in " ".join(verdict(read, rows))
    assert "one model, equal training" in advice_text(found, read)
    assert "equal                   trained on:" in stages_table(read)

    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "one model, equal training" in page and "as many samples as all members together" in page


def test_a_joint_fleet_that_is_better_than_equal_training_is_taken(made):
    manifest, results, folder = made(0.6, range(120))
    found = advice(manifest_from_dict(manifest), results_from_dict(results), folder)
    assert found.recommended.key == "joint"
    assert "It is better than one model of equal training: +10.0 points" in " ".join(found.reasons)


@pytest.mark.parametrize("start, seconds", [("model", 18.0), ("units", 7.0)])
def test_members_from_cuts_have_not_the_single_models_training(made, start, seconds):
    manifest, results, folder = made(0.6, range(120))
    results["fleet"]["start"] = start
    results["stage_seconds"] = {"single.ffn": 11.0, "together": 7.0, "equal": 40.0}
    found = advice(manifest_from_dict(manifest), results_from_dict(results), folder)
    training = {row.way.key: row.way.training.seconds for row in found.rows}
    assert training["joint"] == seconds and training["equal"] == 40 + seconds - 7
