"""What somebody may ask of Split-CNN and Split-SNN that is too small, too much, or nothing: a clear
error, or right.
"""

import types

import numpy as np
import pytest

from edvit_tf import models
from edvit_tf.config import DeviceSpec, PruneConfig
from edvit_tf.errors import ConfigError, PlanError
from tests.support.small_split import CNN


@pytest.mark.parametrize("preset", ["vgg_smoke", "snn_smoke"])
def test_one_filter_one_step_and_a_group_of_all_classes_make_a_file_that_says_what_keras_says(
    preset, tmp_path
):
    from edvit_tf.export.convert import convert
    from edvit_tf.export.process import run_in_process
    from edvit_tf.models.weights import from_weights, initial_weights

    small = models.preset(preset, (8, 8, 1), 3).replace(filters=(1, 1), dense=())
    if preset == "snn_smoke":
        small = small.replace(steps=1)
    known = models.architecture(small)
    weights = initial_weights(small, 0)
    for name in ("norm_00.beta", "norm_01.beta"):
        weights[name] += 1.3  # neurons that fire at some places
    config, weights = known.group_head(small, weights, (0, 1, 2))
    assert config.num_classes == 3  # no "other" beside all

    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    convert(*known.graph(config, weights, "input", "uint8"), tmp_path / "a.tflite", weights)
    np.save(tmp_path / "x.npy", x)
    said, _ = run_in_process(tmp_path / "a.tflite", tmp_path / "x.npy")
    expected = from_weights(config, weights)(x.astype(np.float32))
    assert said["features"].shape == (3, 4)
    for name in ("features", "logits"):
        np.testing.assert_allclose(said[name], expected[name], atol=1e-4)
    assert np.asarray(expected["logits"]).std(axis=0).max() > 0


@pytest.mark.parametrize("zeta", [-1.0, 200.5, float("nan"), float("inf")])
def test_a_zeta_that_is_no_percentage_is_refused(zeta):
    with pytest.raises(ConfigError, match=r"zeta is .*percentage of zeros, 0 to 200"):
        PruneConfig(score="apoz", zeta=zeta)


@pytest.mark.parametrize("model", ["vgg16", "snn16"])
def test_a_picture_smaller_than_the_pools_is_refused_before_anything_is_trained(model):
    from edvit_tf.device.model.image import ImageSpec
    from edvit_tf.pipeline.steps import base_config

    dataset = types.SimpleNamespace(spec=ImageSpec(28, 31, channels=1), labels=("a", "b"))
    with pytest.raises(ConfigError, match=r"\(28, 31, 1\).*5 pools.*at least 32, or the model one"):
        base_config(CNN.replace(model=model), dataset)


def test_a_budget_below_the_fewest_filters_says_what_they_take():
    from edvit_tf.planning.plan import plan

    base = models.preset("vgg16", (32, 32, 3), 10)
    least = models.architecture(base).file_bytes(base.pruned(1, 6))
    assert set(base.pruned(1, 6).filters) == {base.min_filters}
    groups, devices = [range(5), range(5, 10)], [DeviceSpec("a"), DeviceSpec("b")]
    found = plan(base, groups, devices, budget_bytes=2 * least)
    assert found.total_bytes == 2 * least
    with pytest.raises(PlanError, match="1 of 100 shares of its filters") as told:
        plan(base, groups, devices, budget_bytes=2 * least - 1)
    assert f"Give a budget of {2 * least} bytes or more" in str(told.value)
