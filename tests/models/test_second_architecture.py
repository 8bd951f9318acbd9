"""A second architecture goes the whole way of a ViT.

What it has to bring is in edvit_tf.models, and nowhere else is a model known closer.
"""

import importlib
import json
import pkgutil
import types

import numpy as np
import pytest

from edvit_tf import models
from edvit_tf.config import SCORES, DataConfig, DeviceSpec, PruneConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.planning.plan import Plan, plan
from tests.support.tiny_mlp import mlp_architecture


@pytest.fixture(scope="module", autouse=True)
def known():
    with mlp_architecture():
        yield


def test_each_architecture_brings_every_name_of_the_protocol():
    """Also after all of a package's modules are imported: none of them hides a function."""
    for name in ("vit", "vgg"):
        package = importlib.import_module(f"edvit_tf.models.{name}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name != "clustering_process":  # Keras 2: a process of its own
                importlib.import_module(f"{package.__name__}.{module.name}")
    for name in models.ARCHITECTURES:
        module = models.architecture(name)
        for what in models.PROTOCOL:
            assert not isinstance(getattr(module, what), types.ModuleType), (name, what)
        assert not module.SHORTCUTS or callable(module.removals)


@pytest.mark.parametrize(
    "name, shape", [("vit_smoke", (32, 32, 3)), ("vgg_smoke", (8, 8, 1)), ("mlp_tiny", (8, 8, 1))]
)
def test_a_config_comes_back_from_its_json(name, shape):
    config = models.preset(name, shape, 5)
    assert isinstance(config, models.ModelConfig)
    stored = json.loads(json.dumps(config.to_dict()))
    assert models.config_from_dict(stored) == config
    assert models.preset(name, shape, 5, input_std=(2.0,)).input_std == (2.0,)
    for kept in range(1, config.shares + 1):
        smaller = config.pruned(kept, 3)
        assert smaller.num_classes == 3 and smaller.feature_dim <= config.feature_dim
    with pytest.raises(ConfigError):
        config.pruned(config.shares + 1, 3)


def test_what_is_not_there_is_named_with_what_is():
    with pytest.raises(ConfigError, match="'rnn'.*vit, vgg.*mlp"):
        models.architecture("rnn")
    with pytest.raises(ConfigError, match="'mlp_huge'.*vit_base.*mlp_tiny"):
        models.preset("mlp_huge", (8, 8, 1), 5)
    with pytest.raises(ConfigError, match="'rnn'"):
        models.config_from_dict({"architecture": "rnn"})


def test_plans_of_before_there_were_architectures_are_read():
    base = models.preset("vit_smoke", (32, 32, 3), 4)
    planned = plan(base, [(0, 1), (2, 3)], [DeviceSpec("a"), DeviceSpec("b")])
    old = planned.to_dict()
    for sub in old["sub_models"]:
        sub["kept_heads"] = sub.pop("kept")
        del sub["config"]["architecture"]
    assert Plan.from_dict(old) == planned == Plan.from_dict(planned.to_dict())


@pytest.mark.parametrize("cut", ["hidden", "features"])
def test_all_scores_of_an_mlp_and_leave_one_out_by_masks(cut):
    from edvit_tf.models.weights import from_weights, initial_weights
    from edvit_tf.pruning.divergence import kl_divergence
    from edvit_tf.pruning.importance import importance

    config = models.preset("mlp_tiny", (8, 8, 1), 5)
    weights = initial_weights(config, 0)
    x = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 1)).astype(np.float32)
    scores = {
        name: importance(config, weights, x, cut, name)[cut] for name in SCORES if name != "apoz"
    }
    assert all((one >= 0).all() for one in scores.values())

    # by a loop over models whose unit writes nothing
    def logits(own):
        return np.asarray(from_weights(config, own)(x)["logits"], np.float64)

    for unit in (0, 7):
        gone = {name: value.copy() for name, value in weights.items()}
        gone["features.kernel" if cut == "hidden" else "head.kernel"][unit] = 0
        expected = kl_divergence(logits(weights), logits(gone)).mean()
        assert scores["exact"][unit] == pytest.approx(expected, rel=2e-3, abs=1e-7)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from edvit_tf.data import load
    from edvit_tf.pipeline.run import run

    training = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-3)
    config = RunConfig(
        name="mlp",
        data=DataConfig("mnist", (28, 28), {"synthetic_per_class": 12}, stand_in=True),
        model="mlp_tiny",
        base_training=training,
        stage_training=training,
        fusion_training=training,
        pruning=PruneConfig(score="linearised"),
        num_devices=2,
        calibration_samples=16,
    )
    dataset = load("mnist", image_size=(28, 28), synthetic="only", synthetic_per_class=12)
    out = tmp_path_factory.mktemp("mlp") / "mlp"
    return out, run(config, dataset, out)


def test_an_mlp_is_scored_cut_fitted_exported_measured_and_reported(finished):
    from edvit_tf.device.model.bundle import open_bundle

    out, results = finished
    assert results["base"]["config"]["architecture"] == "mlp"
    assert results["single"]["parity"]["ok"]
    assert all(one["ok"] for one in results["parity"].values())
    assert results["fusion"]["tflite"] == results["fusion"]["keras"]

    for sub in results["sub_models"]:
        assert [stage["stage"] for stage in sub["stages"]] == ["head", "hidden", "features"]
        widths = [(s["config"]["hidden_dim"], s["config"]["feature_dim"]) for s in sub["stages"]]
        assert widths == [(32, 16), (16, 16), (16, 8)]
        assert set(sub["stages"][-1]["accuracy"]) == {"before", "cut", "repair", "fit"}
        assert sub["kept_heads"] == 2

    bundle = open_bundle(out)
    assert bundle.labels and (out / "report.html").stat().st_size > 10_000
    assert "hidden" in (out / "README.md").read_text()


def test_its_bundle_answers_on_a_device_and_passes_the_audit(finished):
    from edvit_tf.report.audit import audit
    from tests.support.commands import run_python

    out, _ = finished
    assert audit(out)["reconciled"]
    done = run_python("-m", "edvit_tf.device", out, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
