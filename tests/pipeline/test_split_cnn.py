"""Split-CNN goes the whole way of a ViT: scored by its zeros, cut, fitted, exported, measured."""

import json

import numpy as np
import pytest

from edvit_tf import models
from edvit_tf.errors import ConfigError
from tests.support.small_split import CNN, FIT, write


@pytest.fixture
def finished(split_cnn_bundle):
    return split_cnn_bundle, json.loads((split_cnn_bundle / "results.json").read_text())


def test_it_is_cut_fitted_exported_and_agrees_with_keras(finished):
    out, results = finished
    assert results["base"]["config"]["architecture"] == "vgg"
    assert results["base"]["parity"]["ok"] and results["single"]["parity"]["ok"]
    assert all(one["ok"] for one in results["parity"].values())
    assert results["fusion"]["tflite"] == results["fusion"]["keras"]
    for sub in results["sub_models"]:
        assert [stage["stage"] for stage in sub["stages"]] == ["head", "filters"]
        assert sub["stages"][-1]["config"]["filters"] == [4, 6]
        assert sub["kept_heads"] == 2

    card = (out / "README.md").read_text()
    assert "VGG" in card and "| filt | F |" in card
    assert (out / "report.html").stat().st_size > 10_000


def test_a_device_sends_the_flattened_maps_and_one_matrix_reads_them(finished):
    from edvit_tf.device.model.bundle import open_bundle
    from tests.support.tflite_count import operators

    bundle = open_bundle(finished[0])
    assert tuple(bundle.fusion.widths) == (7 * 7 * 6,) * 2
    assert bundle.fusion.kind == "deep_linear"
    found = operators(finished[0] / "fusion.tflite")
    assert found["FULLY_CONNECTED"] == 2  # presence to features, and the one matrix
    size = (finished[0] / "fusion.tflite").stat().st_size
    assert size < 4 * (588 * 10 + 10 + 2 * 588) + 8192


def test_its_bundle_answers_on_a_device_and_passes_the_audit(finished):
    from edvit_tf.report.audit import audit
    from tests.support.commands import run_python

    assert audit(finished[0])["reconciled"]
    done = run_python("-m", "edvit_tf.device", finished[0], "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_layers_of_its_fusion_are_one_matrix():
    from edvit_tf.export.fusion import KINDS

    made_of = KINDS["deep_linear"]((5, 7), ((0, 1), (2,)), 3, 0.5)
    deep = made_of.to_fit()
    rng = np.random.default_rng(0)
    for layer in deep.layers:
        layer.set_weights([rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    inputs = {"features": rng.normal(size=(4, 12)), "present": np.float32([[1, 1]] * 3 + [[0, 1]])}
    narrow = made_of.fitted(deep)
    np.testing.assert_allclose(narrow(inputs), deep(inputs), atol=1e-6)
    assert sum(w.size for w in narrow.get_weights()) == made_of.params
    matrices = sum(w.size for w in deep.get_weights() if w.ndim == 2)
    assert matrices == made_of.macs and made_of.hidden == (768, 384, 6)


def test_a_plan_says_shares_and_not_heads():
    from edvit_tf.config import DeviceSpec
    from edvit_tf.errors import PlanError
    from edvit_tf.planning.plan import plan

    base = models.preset("vgg9", (32, 32, 3), 10)
    small = [DeviceSpec(f"pi-{i}", memory_bytes=1_500_000) for i in range(2)]
    found = plan(base, [range(5), range(5, 10)], small)
    sizes = [sub.size_bytes for sub in found.sub_models]
    assert min(sizes) > 1_400_000 and max(sizes) <= 1_500_000
    with pytest.raises(PlanError, match="1 of 100 shares of its filters"):
        plan(base, [range(5), range(5, 10)], small, budget_bytes=1000)


def test_a_threshold_plans_and_cuts_the_same_filters_to_the_letter(tmp_path):
    """Zeros are counted once for the plan and once for the cut: of the same samples."""
    letter = CNN.pruning.replace(zeta=55.0, their_way=True)
    config = CNN.replace(pruning=letter, baselines=(), name="letter")
    results = write(tmp_path / "letter", config)
    manifest = json.loads((tmp_path / "letter" / "manifest.json").read_text())
    for sub, planned in zip(results["sub_models"], manifest["sub_models"], strict=True):
        assert sub["stages"][-1]["config"] == planned["config"]
        assert planned["config"]["filters"] != [8, 12] and planned["config"]["zeta"] == 55.0


def test_a_threshold_where_none_can_be_is_refused():
    from edvit_tf.pipeline.thresholds import check_threshold

    config = CNN.replace(pruning=CNN.pruning.replace(zeta=56.0))
    with pytest.raises(ConfigError, match="Vision Transformer has none"):
        check_threshold(config, models.preset("vit_smoke", (32, 32, 3), 5))
    with pytest.raises(ConfigError, match="shared_training"):
        base = models.preset("vgg_smoke", (28, 28, 1), 5)
        check_threshold(config.replace(shared_training=FIT), base)
