"""The Keras model: parameter counts, .keras files, reading a configuration back."""

import numpy as np
import pytest

from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.presets import PRESETS, vit_config
from tests.support.commands import run_python


@pytest.mark.parametrize(
    "preset, shape, classes, count",
    [
        ("vit_tiny", (224, 224, 3), 1000, 5_717_416),
        ("vit_small", (224, 224, 3), 1000, 22_050_664),
        ("vit_base", (224, 224, 3), 1000, 86_567_656),
        ("vit_cpu", (64, 64, 1), 10, 1_806_922),
    ],
)
def test_parameter_counts(preset, shape, classes, count):
    from edvit_tf.models.vit.cost import params
    from edvit_tf.models.vit.keras_model import build_vit

    config = vit_config(preset, shape, classes)
    assert build_vit(config).count_params() == params(config) == count


def test_vit_large_counts_by_formula_alone():
    from edvit_tf.models.vit.cost import params

    assert params(vit_config("vit_large", (224, 224, 3), 1000)) == 304_326_632


def test_unknown_preset_lists_the_choices():
    with pytest.raises(ConfigError, match="vit_huge.*" + ", ".join(PRESETS)):
        vit_config("vit_huge", (224, 224, 3), 10)


@pytest.mark.parametrize("pool", ["cls", "cls_mean"])
def test_config_of_is_the_inverse_of_build_vit(pool):
    from edvit_tf.models.vit.keras_model import build_vit, config_of

    config = vit_config(
        "vit_smoke",
        (32, 48, 3),
        7,
        pool=pool,
        input_mean=(10.0, 20.0, 30.0),
        input_std=(2.0, 4.0, 8.0),
        head_dim=5,
        mlp_dim=33,
    )
    model = build_vit(config)
    assert config_of(model) == config
    out = model(np.zeros((2, 32, 48, 3)))
    assert out["features"].shape == (2, 48 * (2 if pool == "cls_mean" else 1)) and out[
        "logits"
    ].shape == (2, 7)


def test_the_input_is_normalised_inside():
    """A shifted and scaled input under a shifted and scaled normalisation gives the same logits."""
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import from_weights, get_weights

    config = vit_config(
        "vit_smoke", (32, 32, 3), 4, input_mean=(0.0, 0.0, 0.0), input_std=(1.0, 1.0, 1.0)
    )
    weights = get_weights(build_vit(config))
    moved = config.replace(input_mean=(5.0, 6.0, 7.0), input_std=(2.0, 3.0, 4.0))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    shifted = x * np.float32([2, 3, 4]) + np.float32([5, 6, 7])
    np.testing.assert_allclose(
        from_weights(moved, weights)(shifted)["logits"],
        from_weights(config, weights)(x)["logits"],
        rtol=1e-3,
        atol=1e-5,
    )


def test_set_weights_refuses_what_does_not_fit():
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import get_weights, set_weights

    model = build_vit(vit_config("vit_smoke", (32, 32, 1), 4))
    weights = get_weights(model)
    with pytest.raises(ConfigError, match="head.bias has shape .3,.*4"):
        set_weights(model, {**weights, "head.bias": np.zeros(3, np.float32)})
    with pytest.raises(ConfigError, match="extra"):
        set_weights(model, {**weights, "extra": np.zeros(3, np.float32)})


def test_keras_file_opens_in_a_fresh_process(tmp_path):
    from edvit_tf.models.vit.keras_model import build_vit

    model = build_vit(vit_config("vit_smoke", (32, 32, 1), 4))
    model.save(tmp_path / "m.keras")
    expected = np.asarray(model(np.full((1, 32, 32, 1), 7.0))["logits"]).ravel().tolist()
    code = (
        "import keras, numpy, edvit_tf.models.vit.keras_model; m = keras.models.load_model(r'%s'); "
        "m.summary(); "
        "print('LOGITS', numpy.asarray(m(numpy.full((1, 32, 32, 1), "
        "7.0))['logits']).ravel().tolist())"
    )
    done = run_python("-c", code % (tmp_path / "m.keras"))
    assert done.returncode == 0, done.stderr
    assert "block_01.mlp.expand" in done.stdout  # the summary is the size audit
    printed = done.stdout.split("LOGITS ")[1].strip("[] \n").split(",")
    np.testing.assert_allclose([float(v) for v in printed], expected, rtol=1e-5)


def test_load_base_refuses_other_files_and_shapes(tmp_path):
    import keras

    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.vit.pretrained import load_base
    from edvit_tf.models.weights import get_weights

    config = vit_config("vit_smoke", (32, 32, 1), 4)
    model = build_vit(config)
    model.save(tmp_path / "base.keras")
    loaded = load_base(tmp_path / "base.keras", config)
    assert loaded.config == config and not loaded.new_head
    assert all((loaded.weights[k] == v).all() for k, v in get_weights(model).items())
    with pytest.raises(ConfigError, match="num_classes 4; the data need 5"):
        load_base(tmp_path / "base.keras", config.replace(num_classes=5))
    with pytest.raises(ConfigError, match="not a .keras file"):
        load_base(tmp_path / "nothing.h5", config)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(ConfigError, match="not a ViT of edvit_tf"):
        load_base(tmp_path / "other.keras", config)
