"""Weights on few values a matrix, by tensorflow-model-optimization in a process of its own."""

import numpy as np
import pytest

from edvit_tf.errors import ExportError
from edvit_tf.models.vit.config import ViTConfig

CONFIG = ViTConfig(
    (16, 16, 3),
    patch_size=4,
    num_layers=2,
    hidden_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=64,
    num_classes=4,
    input_mean=(120.0, 110.0, 100.0),
    input_std=(60.0, 50.0, 40.0),
)


@pytest.fixture(scope="module")
def model():
    """Weights, inputs, and the model's own answers."""
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import predict

    rng = np.random.default_rng(0)
    weights = {
        n: (w + rng.normal(0, 0.05, w.shape)).astype(np.float32)
        for n, w in initial_weights(CONFIG, 0).items()
    }
    x = rng.integers(0, 256, (64, *CONFIG.image_shape), np.uint8)
    return weights, x, predict(CONFIG, weights, x)


def test_each_large_matrix_holds_so_many_values_and_training_brings_the_answers_back(model):
    from edvit_tf.models.vit.clustering import MIN_VALUES, cluster
    from edvit_tf.training.train import predict

    weights, x, outputs = model
    errors = []
    for epochs in (0, 4):
        clustered, report = cluster(
            CONFIG, weights, x, outputs, clusters=8, epochs=epochs, learning_rate=1e-3
        )
        assert (
            set(clustered) == set(weights)
            and len(report["loss"]) == epochs
            and report["twin_error"] < 1e-5
        )
        for name, value in clustered.items():
            assert value.shape == weights[name].shape
            if name.endswith("kernel") and value.size >= MIN_VALUES:
                assert len(np.unique(value)) <= 8, name
            elif epochs == 0:
                np.testing.assert_array_equal(value, weights[name])
        found = predict(CONFIG, clustered, x)
        errors.append(float(np.square(found["features"] - outputs["features"]).mean()))
    assert 0 < errors[1] < errors[0]


def test_answers_that_are_not_the_models_are_refused(model):
    from edvit_tf.models.vit.clustering import cluster

    weights, x, outputs = model
    with pytest.raises(ExportError, match="the twin answers .* off the model"):
        cluster(
            CONFIG, weights, x, {**outputs, "logits": outputs["logits"] + 1}, clusters=8, epochs=0
        )


def test_the_study_weighs_and_asks_a_bundle(smoke_bundle, tmp_path, capsys):
    import json

    from edvit_tf.cli.main import main
    from edvit_tf.device.model.runtime import installed_runtimes

    if "ai-edge-litert" not in installed_runtimes():
        pytest.skip("ai-edge-litert is not installed")
    command = [
        "study",
        "clusters",
        str(smoke_bundle),
        "--clusters",
        "8",
        "--epochs",
        "0",
        "--samples",
        "16",
        "--out",
        str(tmp_path / "rows.jsonl"),
        "--json",
    ]
    assert main(command) == 0
    first = capsys.readouterr().out
    rows = {(row["clusters"], row["flavour"]): row for row in json.loads(first)}
    assert set(rows) == {(k, flavour) for k in (None, 8) for flavour in ("float32", "int8")}
    for flavour in ("float32", "int8"):
        assert rows[8, flavour]["compressed_bytes"] < rows[None, flavour]["compressed_bytes"]
    assert rows[8, "float32"]["link_seconds"] == pytest.approx(
        rows[8, "float32"]["compressed_bytes"] * 8 / 2e6
    )
    assert all(0 <= row["accuracy"] <= 1 for row in rows.values())
    assert (
        main(command) == 0 and capsys.readouterr().out == first
    )  # finished rows are not measured again
