"""A run that chooses its fusion, fitted on augmented copies of the training inputs too."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import ConfigError
from edvit_tf.export.fusion import AS_GOOD, CHOSEN_FROM
from edvit_tf.models.weights import get_weights, load_keras
from edvit_tf.pipeline.fusion_choice import choose, left_out
from edvit_tf.training.batches import Varied
from tests.support.commands import run_host

RECIPE = """
import sys
from edvit_tf.cli.recipe import main
from tests.support import fleet_recipe
fit = fleet_recipe.SMOKE["stage_training"].replace(augment="shift")
smoke = {**fleet_recipe.SMOKE, "stage_training": fit}
if "joint" in sys.argv[-1]:
    smoke |= {"fusion": "auto", "joint_training": fit, "fusion_lambda": 0.05}
small = fleet_recipe.small
raise SystemExit(main("x", small["CONFIG"], smoke=smoke, paper=small["PAPER"]))
"""


def test_the_smallest_fusion_that_is_as_good_as_the_best_is_in_the_bundle(tmp_path):
    out = tmp_path / "auto"
    options = ("--smoke", "--synthetic", "--fusion", "auto", "--fusion-augment", "2")
    done = run_host("-c", RECIPE, *options, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr

    told = json.loads((out / "results.json").read_text())["fusion"]
    kinds = told["kinds_on_validation"]
    assert told["asked"] == "auto" and set(kinds) == set(CHOSEN_FROM)
    best = max(one["accuracy"] for one in kinds.values())
    as_good = [k for k in kinds if kinds[k]["accuracy"] >= best - AS_GOOD - 1e-9]
    assert told["kind"] == min(as_good, key=lambda kind: kinds[kind]["size_bytes"])
    assert f"fusion: {told['kind']}, of average" in done.stdout

    bundle = open_bundle(out)
    assert bundle.fusion.kind == told["kind"]
    files = [bundle.files[entry.file].bytes for entry in bundle.sub_models]
    assert bundle.files[bundle.fusion.file].bytes < min(files)

    # the inputs as they are, and two copies that are varied
    work = out.with_name("auto.work")
    features = np.load(work / "features" / "train.plain.npy")
    once, *copies = np.split(features, 3)
    assert all(not np.allclose(once, copy) for copy in copies)
    assert not np.allclose(*copies)


def test_a_joint_training_is_one_to_choose_from_where_the_run_has_one(tmp_path):
    out = tmp_path / "with joint"
    options = ("--smoke", "--synthetic", "--fusion", "auto", "--out", out)
    done = run_host("-c", RECIPE, *options)
    assert done.returncode == 0, done.stdout + done.stderr

    told = json.loads((out / "results.json").read_text())["fusion"]
    kinds = told["kinds_on_validation"]
    assert set(kinds) == {*CHOSEN_FROM, "joint"} and told["left_out"] == {}
    best = max(one["accuracy"] for one in kinds.values())
    assert kinds[told["kind"]]["accuracy"] >= best - AS_GOOD - 1e-9 and told["reason"]
    assert told["joint"]["samples"] > 0 and ", joint " in done.stdout
    assert "joint" in (out / "report.html").read_text()
    # what is deployed is what was chosen: the frozen members', or those that were trained together
    work = out.with_name("with joint.work")
    frozen = np.load(work / "submodel-00.group" / "weights.npz")["head.kernel"]
    together = np.load(work / "joint" / "submodel-00.npz")["head.kernel"]
    assert (frozen != together).any()
    deployed = get_weights(load_keras(out / "submodel-00.keras"))["head.kernel"]
    np.testing.assert_array_equal(deployed, together if told["kind"] == "joint" else frozen)


def choice(kind, right, joint=False):
    """`choose` for sub-models of a megabyte and kinds of growing size."""
    run = SimpleNamespace(kind=kind, sub_models=[SimpleNamespace(size_bytes=1 << 20)])
    sizes = {name: SimpleNamespace(size_bytes=i) for i, name in enumerate(right)}
    return choose(run, sizes, {name: np.array(named) for name, named in right.items()})


def test_members_of_all_classes_are_averaged_unless_another_gains_more_than_chance():
    half = [True, False] * 20
    luck = [True] * 3 + half[3:]
    lead = [True] * 16 + half[16:]
    assert choice("copies", {"linear": luck, "average": half})[0] == "average"
    kind, reason = choice("copies", {"linear": lead, "average": half})
    assert kind == "linear" and "+20.0 points over the average" in reason
    assert choice("copies", {"linear": half, "average": half})[0] == "average"
    # a class split has no such standard
    assert choice("classes", {"average": half, "linear": luck})[0] == "linear"


@pytest.mark.parametrize(
    "kind, words", [("copies", "copies of one model"), ("joint", "trained together already")]
)
def test_why_joint_is_not_tried_is_said(kind, words):
    config = SimpleNamespace(fusion="auto", training_budget=None, joint_training=None)
    run = SimpleNamespace(kind=kind, config=config, tries_joint=False)
    assert words in left_out(run)["joint"]
    assert left_out(SimpleNamespace(config=config, tries_joint=True)) == {}
    split = SimpleNamespace(kind="classes", config=config, tries_joint=False)
    assert left_out(split) == {}
    config.training_budget = "4e"
    assert "budget of 4e has no epoch for it" in left_out(split)["joint"]
    config.joint_training = TrainConfig(1)
    assert "more bytes than a device's file" in left_out(split)["joint"]


@pytest.mark.parametrize("augment", ["shift_flip", "mask"])
def test_a_varied_copy_is_the_same_whenever_it_is_read(augment):
    inputs = np.arange(10 * 64, dtype=np.float32).reshape(10, 8, 8, 1)
    one = Varied(inputs, augment, seed=3, copy=0, batch_size=4)
    read = [one[start : start + 4] for start in (0, 4, 8)]
    assert [len(part) for part in read] == [4, 4, 2] and len(one) == 10
    for start, part in zip((0, 4, 8), read, strict=True):
        np.testing.assert_array_equal(part, Varied(inputs, augment, 3, 0, 4)[start : start + 4])
        assert (part != inputs[start : start + 4]).any()
        assert (part != Varied(inputs, augment, 3, 1, 4)[start : start + 4]).any()
    np.testing.assert_array_equal(inputs.ravel(), np.arange(640))  # left as they are


def test_pictures_varied_by_keras_cv_are_the_same_for_who_reads_them_again():
    """As sub-models do, one after the other, from one array."""
    inputs = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    one = Varied(inputs, "randaugment", seed=3, copy=0, batch_size=4)
    first, again = ([one[start : start + 4] for start in (0, 4)] for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_copies_that_would_be_the_inputs_themselves_are_refused():
    from edvit_tf.config import DataConfig, RunConfig

    fit = TrainConfig(1)
    run = RunConfig("r", DataConfig("mnist", (28, 28)), "vit_smoke", fit, fit, fit)
    with pytest.raises(ConfigError, match="fusion_views is 1; .*augment = .none"):
        run.replace(fusion_views=1)
    with pytest.raises(ConfigError, match="it must be 0 or more"):
        run.replace(fusion_views=-1)
    assert (
        run.replace(stage_training=fit.replace(augment="shift"), fusion_views=2).fusion_views == 2
    )
