"""Members that are trained together and start from cuts of the base, not from the one model."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from edvit_tf.config import RunConfig
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.starts import starts
from edvit_tf.pipeline.store import Stages
from tests.support.commands import run_host

RECIPE = ("tests/support/fleet_recipe.py", "--smoke", "--synthetic")
NAMES = ("submodel-00", "submodel-01", "submodel-02")
UNITS = "block_00.mlp.expand.kernel"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("starts") / "units"
    done = run_host(*RECIPE, "--fleet", "joint", "--fleet-start", "units", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def weights_of(folder):
    return [dict(np.load(folder / f"{name}.npz")) for name in NAMES]


def test_dealt_members_start_from_other_units_and_are_trained_from_there(bundle):
    work = bundle.with_name("units.work")
    start, end = weights_of(work / "starts"), weights_of(work / "together")
    for one, other in combinations(start, 2):
        assert (one[UNITS] != other[UNITS]).any()
        np.testing.assert_array_equal(one["class_token.token"], other["class_token.token"])
    for before, after in zip(start, end, strict=True):
        assert {n: v.shape for n, v in before.items()} == {n: v.shape for n, v in after.items()}
        # where it was, less what one epoch moves it by
        moved = np.abs(after[UNITS] - before[UNITS]).max()
        assert 0 < moved < np.abs(before[UNITS]).max()


def test_what_the_one_model_was_trained_for_is_not_theirs(bundle):
    told = json.loads((bundle / "results.json").read_text())
    assert told["fleet"]["start"] == "units" and told["fleet"]["kind"] == "joint"
    for sub, samples in zip(told["sub_models"], told["members_samples"], strict=True):
        assert [step["stage"] for step in sub["stages"]] == ["together"]
        assert samples == sub["stages"][0]["history"]["samples"]
    assert told["training_macs"]["fleet"] == told["sub_models"][0]["stages"][0]["history"]["macs"]


def test_of_one_cut_all_members_start_alike(bundle, tmp_path):
    stages = Stages(bundle.with_name("units.work"), "")
    config = RunConfig.from_dict(json.loads((bundle / "manifest.json").read_text())["run"])
    told = starts(replace(Run(stages, config), config=config.replace(fleet_start="cut")), tmp_path)
    assert told["groups"] == [list(range(10))]
    one, *others = weights_of(tmp_path)
    for other in others:
        assert all((one[name] == other[name]).all() for name in one)
    dealt = weights_of(bundle.with_name("units.work") / "starts")
    assert all((one[UNITS] != own[UNITS]).any() for own in dealt)
