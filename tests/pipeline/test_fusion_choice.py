"""A run that chooses its fusion, fitted on augmented copies of the training inputs too."""

import json

import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import ConfigError
from edvit_tf.export.fusion import AS_GOOD, CHOSEN_FROM
from edvit_tf.training.batches import Varied
from tests.support.commands import run_host

RECIPE = """
from edvit_tf.cli.recipe import main
from tests.support import fleet_recipe
fit = fleet_recipe.SMOKE["stage_training"].replace(augment="shift")
smoke = {**fleet_recipe.SMOKE, "stage_training": fit}
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
