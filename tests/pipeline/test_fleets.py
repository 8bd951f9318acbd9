"""Whole runs of fleets whose members all know all classes, and of a class split with views."""

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.view import AS_IT_IS
from edvit_tf.evaluation.evaluate import evaluate
from edvit_tf.pipeline.stage import Run
from tests.support.commands import run_device, run_host

RECIPE = ("tests/support/fleet_recipe.py", "--smoke", "--synthetic")


def results(bundle):
    return json.loads((bundle / "results.json").read_text())


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleets") / "copies"
    done = run_host(*RECIPE, "--fleet", "copies", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def joint(copies):
    out = copies.with_name("joint")
    work = copies.with_name("copies.work")
    made = ("--fleet", "joint", "--baselines", "single")
    done = run_host(*RECIPE, *made, "--out", out, "--reuse", work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[single.ffn] taken from" in done.stdout  # the one model of both
    return out


def test_copies_are_one_model_under_views_and_nothing_more_is_trained(copies):
    told = results(copies)
    bundle = open_bundle(copies)
    chosen = told["copies"]["views"]
    assert told["fleet"]["kind"] == told["fleet"]["asked"] == "copies"
    assert told["fleet"]["views"] == chosen == [entry.view.to_dict() for entry in bundle.sub_models]
    assert bundle.sub_models[0].view == AS_IT_IS and len(set(map(str, chosen))) == len(chosen)

    # every device holds the one model's file
    files = {bundle.files[entry.file].sha256 for entry in bundle.sub_models}
    assert len(files) == 1 and told["training_macs"]["fleet"] == told["training_macs"]["single"] > 0
    held = [name for entry in bundle.sub_models for name in entry.devices]
    assert sorted(held) == ["device-00", "device-01", "device-02"]
    assert all(entry.classes == tuple(range(10)) and not entry.other for entry in bundle.sub_models)
    assert not [p for p in copies.with_name("copies.work").iterdir() if "submodel" in p.name]


def test_what_copies_come_to_is_told_by_number_of_devices(copies):
    told = results(copies)
    curve = told["copies"]["test"]
    assert [row["devices"] for row in curve] == [1, 2, 3]
    # one device is the single model, all of them are the fleet
    assert curve[0]["tflite"] == told["single"]["tflite"]
    assert curve[-1]["tflite"] == told["fusion"]["average"]
    validated = [row["accuracy"] for row in told["copies"]["validation"]]
    assert len(validated) == 3 and validated[-1] == max(validated)
    assert told["fleet"]["gap"] == pytest.approx(
        told["base"]["validation"]["recording"] - told["fleet"]["single_validation"]
    )
    assert "copies" not in told["comparisons"] and "single" in told["comparisons"]
    assert told["fusion"]["kind"] == "average" and told["parity"]["fused"]["ok"]


def test_a_device_answers_by_its_view(copies):
    done = run_device("-m", "edvit_tf.device", copies, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert evaluate(copies)["accuracy"] == results(copies)["fusion"]["tflite"]


def test_a_fleet_trained_together_starts_from_the_one_model(copies, joint):
    told = results(joint)
    assert told["fleet"]["kind"] == "joint" and len(told["sub_models"]) == 3
    # of the same start, each has become another one
    weights = [
        np.load(joint.with_name("joint.work") / "together" / f"submodel-0{j}.npz") for j in range(3)
    ]
    one = [own["patch_embedding.kernel"] for own in weights]
    assert all(not np.array_equal(a, b) for a, b in pairwise(one))
    steps = told["sub_models"][0]["stages"]
    assert [step["stage"] for step in steps] == ["head", "residual", "attention", "ffn", "together"]
    spent = told["training_macs"]
    assert spent["fleet"] == spent["single"] + steps[-1]["history"]["macs"]
    assert told["members_samples"] == [sum(s["history"].get("samples", 0) for s in steps)] * 3
    assert not list(joint.with_name("joint.work").glob("*.checkpoint*"))


def test_a_joint_fleet_has_a_rival_that_was_trained_on_as_much(joint):
    told = results(joint)
    step, spent = told["equal"]["stages"][0], told["training_macs"]
    assert spent["equal"] == spent["fleet"] > spent["single"]
    together = told["sub_models"][0]["stages"][-1]["history"]
    assert step["history"]["samples"] == 3 * together["samples"]

    # it goes on from where the members start, as wide as they are
    work = joint.with_name("joint.work")
    one, on = (np.load(work / name / "weights.npz") for name in ("single.ffn", "equal"))
    assert {name: one[name].shape for name in one} == {name: on[name].shape for name in on}
    moved = np.abs(on["head.kernel"] - one["head.kernel"]).max()
    assert 0 < moved < np.abs(one["head.kernel"]).max()

    # measured and compared as the other rivals are
    assert told["equal"]["parity"]["ok"] and told["equal"]["tflite"]["recordings"] == 80
    assert {"p_value", "first_only"} <= set(told["comparisons"]["equal"])
    assert "equal" in told["turns"]["models"]
    done = run_host("-m", "edvit_tf.cli", "advise", joint)
    assert done.returncode == 0 and "one model, equal training" in done.stdout, done.stderr


def test_a_rival_of_equal_training_is_made_only_where_it_is_asked_for(copies):
    """Of a fleet with no training of its own, or where no single model was asked for, there is
    none.
    """
    assert "equal" not in results(copies)
    run = SimpleNamespace(kind="joint", config=SimpleNamespace(baselines=()))
    assert not Run.has_equal.func(run)


def test_a_fleet_that_was_measured_without_that_rival_is_published_without_it():
    """A work folder of an older version, whose bundle is asked for again."""
    config = SimpleNamespace(baselines=("single",))
    old = SimpleNamespace(has=lambda stage: stage == "measure", result=lambda stage: {"base": {}})
    run = SimpleNamespace(kind="joint", config=config, stages=old)
    assert not Run.has_equal.func(run)


def test_copies_stand_beside_a_fleet_that_is_trained(copies, joint):
    told, alone = results(joint), results(copies)
    for key in ("views", "test", "validation"):
        assert told["copies"][key] == alone["copies"][key]
    assert "copies" in told["comparisons"] and told["copies"]["tflite"]["recordings"] == 80
    assert len(told["losses"]) == 6 and 0 <= told["disagreement"] <= 1


def test_a_class_split_takes_views_where_the_fusion_is_better_by_them(copies):
    out = copies.with_name("classes")
    work = copies.with_name("copies.work")
    done = run_host(*RECIPE, "--views", "auto", "--out", out, "--reuse", work)
    assert done.returncode == 0, done.stdout + done.stderr
    told = results(out)
    tried = told["fusion"]["seen_on_validation"]
    assert told["fleet"]["kind"] == "classes" and set(tried) == {"plain", "views"}

    def worth(way):
        return tried[way]["accuracy"], -tried[way]["nll"]

    # both ways were trained, whichever is kept
    bundle = open_bundle(out)
    features = sum(bundle.manifest.fusion.widths)
    history = told["fusion"]["history"]
    asked = json.loads((out / "run.json").read_text())["description"]["config"]
    tower = math.ceil(asked["fusion_lambda"] * features) * (features + 10)
    assert history["macs"] == 2 * 3 * history["samples"] * tower > 0

    kept = told["fusion"]["seen"]
    assert worth(kept) == max(worth("plain"), worth("views"))
    given = [entry.view for entry in open_bundle(out).sub_models]
    assert (set(given) == {AS_IT_IS}) == (kept == "plain")
    assert len({len(sub["labels"]) for sub in told["sub_models"]} - {10}) > 0
    assert told["copies"]["tflite"]["recordings"] == 80
