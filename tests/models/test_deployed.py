"""The deployment graph's forms: folded weights against plain arithmetic, GELU, and which operators
a file holds.
"""

import numpy as np
import pytest
from scipy.special import erf

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

CONFIG = ViTConfig(
    (32, 24, 3),
    patch_size=8,
    num_layers=3,
    hidden_dim=20,
    num_heads=3,
    head_dim=8,
    mlp_dim=28,
    num_classes=4,
    input_mean=(90.0, 100.0, 110.0),
    input_std=(40.0, 50.0, 60.0),
)


def random_weights(config):
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import get_weights

    rng = np.random.default_rng(0)
    return {
        n: (w + rng.normal(0, 0.1, w.shape)).astype(np.float32)
        for n, w in get_weights(build_vit(config)).items()
    }


def test_folding_leaves_the_function_as_it_is():
    """The folded graph in float64 numpy against Keras: patches, blocks, head, all tokens."""
    from edvit_tf.models.vit.fold import fold
    from edvit_tf.models.weights import from_weights

    weights = random_weights(CONFIG)
    w = {name: value.astype(np.float64) for name, value in fold(CONFIG, weights).items()}
    x = np.random.default_rng(1).integers(0, 256, (2, 32, 24, 3)).astype(np.float64)
    cells = x.reshape(2, 4, 8, 3, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 12, -1)
    z = cells @ w["patch_embedding.kernel"].reshape(-1, 20) + w["position_embedding.embedding"]
    z = np.concatenate([np.repeat(w["class_token.token"][None], 2, axis=0), z], axis=1)

    def norm(value):
        return value / np.sqrt((value**2).mean(-1, keepdims=True) + CONFIG.layer_norm_epsilon)

    def dense(value, name):
        return value @ w[f"{name}.kernel"] + w[f"{name}.bias"]

    for i in range(3):
        np.testing.assert_allclose(z.mean(-1), 0, atol=1e-6)  # centred before every norm
        block, y = f"block_{i:02d}", norm(z)
        q, k, v = (
            dense(y, f"{block}.attention.{part}").reshape(2, 13, 3, 8).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(2, 3))
        y = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(2, 13, 24)
        z = z + dense(y, f"{block}.attention.output")
        y = dense(norm(z), f"{block}.mlp.expand")
        z = z + dense(y * (1 + erf(y / np.sqrt(2))) / 2, f"{block}.mlp.contract")
    features = norm(z[:, 0]) * w["norm.gamma"] + w["norm.beta"]
    expected = from_weights(CONFIG, weights)(x.astype(np.float32))
    np.testing.assert_allclose(features, expected["features"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dense(features, "head"), expected["logits"], rtol=1e-5, atol=1e-5)


def test_the_sigmoid_form_of_gelu_errs_by_2_6e_5_at_most():
    from edvit_tf.models.vit.gelu import SCALE, scaled_gelu

    x = np.linspace(-12, 12, 200_001)
    got = scaled_gelu((x * SCALE).astype(np.float32)).numpy() / SCALE
    error = np.abs(got - x * (1 + erf(x / np.sqrt(2))) / 2).max()
    assert 1e-5 < error < 2.6e-5
    assert scaled_gelu(np.float32([-1e4, 1e4])).numpy() == pytest.approx([0, 1e4])


@pytest.mark.parametrize("target, gelu", [("portable", 0), ("litert", 3)])
def test_files_hold_the_operators_that_the_runtimes_delegate(tmp_path, target, gelu):
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.deployed import graph
    from tests.support.tflite_count import operators

    weights = random_weights(CONFIG)
    convert(*graph(CONFIG, weights, "image", "uint8", target), tmp_path / "m.tflite", weights)
    found = operators(tmp_path / "m.tflite")
    assert found["GELU"] == gelu and found["LOGISTIC"] == 3 - gelu
    assert not {"SUM", "POW", "ERF"} & set(found)
    assert found["BATCH_MATMUL"] == 6 and found["CONV_2D"] == 1
    norms = (
        7 if target == "litert" else 0
    )  # means and reciprocal roots as such; tflite-runtime delegates neither
    assert found["MEAN"] == found["RSQRT"] == norms and found["SQRT"] == found["DIV"] == 7 - norms
    assert found["FULLY_CONNECTED"] == 3 * 6 + 1 + (
        7 - norms
    )  # projections, head, means of the norms


def test_an_unknown_target_is_named():
    from edvit_tf.models.vit.deployed import graph

    with pytest.raises(ValueError, match="target is 'coral'.*portable, litert"):
        graph(CONFIG, random_weights(CONFIG), "image", "uint8", "coral")
    training = TrainConfig(epochs=1)
    with pytest.raises(ConfigError, match="target.*portable, litert"):
        RunConfig(
            "x",
            DataConfig("mnist", (28, 28)),
            "vit_mini",
            training,
            training,
            training,
            target="coral",
        )
