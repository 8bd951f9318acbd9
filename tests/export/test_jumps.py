"""The golden check of a spiking net: right on every processor, and wrong for every other file."""

import json
import shutil

import numpy as np
import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.golden import TOLERANCES, Limit, limit
from edvit_tf.device.model.manifest_checks import JUMPS_MOST
from edvit_tf.export.jumps import answers_of, jump_limit, moved
from edvit_tf.models.snn.config import snn_config
from edvit_tf.models.vgg.presets import vgg_config
from tests.support.commands import rewrite_manifest

CONFIG = snn_config("snn_smoke", (12, 9, 3), 3, input_std=(64.0,)).replace(dense=())
X = np.random.default_rng(1).integers(0, 256, (1, 12, 9, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def weights():
    """Of CONFIG, spiking often; neurons of the first filter have the potential 1 at every place."""
    from edvit_tf.models.weights import initial_weights

    found = {
        name: value + np.float32(1.2 if name.endswith("beta") else 0)
        for name, value in initial_weights(CONFIG, 0).items()
    }
    found["conv_00.kernel"][..., 0] = 0
    found["norm_00.beta"][0] = 4 / 3  # v = beta / tau at the first step
    return found


@pytest.mark.parametrize("flavour", ["float32", "float16", "int8"])
def test_weights_that_are_rounded_otherwise_are_right_and_other_weights_are_wrong(weights, flavour):
    found = jump_limit(CONFIG, weights, X, flavour)
    assert found == jump_limit(CONFIG, weights, X, flavour)
    assert TOLERANCES["float32"] <= found.largest <= JUMPS_MOST and found.jumps

    rng = np.random.default_rng(7)  # not those that it was measured by
    rounded = [moved(weights, flavour, rng) for _ in range(6)]
    others = []
    for name in ("conv_00.kernel", "conv_01.kernel", "head.kernel"):
        others.append({**weights, name: np.ascontiguousarray(weights[name][..., ::-1])})
        others.append({**weights, name: 0 * weights[name]})
    expected, *said = answers_of(CONFIG, [weights, *rounded, *others], X)

    errors = [found.error(one, expected) for one in said]
    assert max(errors[:6]) <= found.largest < min(errors[6:]), errors
    if flavour == "float32":
        # spikes flip, and the largest single error takes that for a wrong file
        assert max(Limit(1e-3).error(one, expected) for one in said[:6]) > 0.05


def test_a_net_without_spikes_is_held_to_its_largest_error():
    assert jump_limit(vgg_config("vgg_smoke", (12, 9, 3), 3), {}, X, "float32") is None


def test_the_manifest_says_it_and_is_checked(split_cnn_bundle, split_snn_bundle, tmp_path):
    assert limit(open_bundle(split_cnn_bundle), 0, "float32") == Limit(1e-3)
    bundle = open_bundle(split_snn_bundle)
    listed = json.loads((split_snn_bundle / "manifest.json").read_text())["sub_models"]
    for index, entry in enumerate(listed):
        told = entry["flavours"]["float32"]["golden_tolerance"]
        assert limit(bundle, index, "float32") == Limit(told, jumps=True)
    assert limit(bundle, None, "float32") == Limit(1e-3)

    for value in (0, 0.5, float("nan")):
        own = shutil.copytree(split_snn_bundle, tmp_path / str(value))

        def change(manifest, value=value):
            manifest["sub_models"][0]["flavours"]["float32"]["golden_tolerance"] = value

        rewrite_manifest(own, change)
        with pytest.raises(BundleError, match=r"golden_tolerance is .*0\.25 at most"):
            open_bundle(own)


def test_no_spikes_at_all_are_right_where_there_are_none():
    silent = {"features": np.zeros((1, 4), np.float32), "logits": np.ones((1, 2), np.float32)}
    one = {**silent, "features": np.float32([[0, 0, 0.2, 0]])}
    assert Limit(1e-3, jumps=True).error(silent, silent) == 0
    assert Limit(1e-3, jumps=True).error(one, silent) == np.inf
