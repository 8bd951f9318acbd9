"""Deployment graphs and files: against Keras, in processes without TensorFlow."""

import json

import numpy as np
import pytest

from edvit_tf.errors import ExportError
from edvit_tf.export.parity import compare
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.presets import vit_config


def _export(config, path, input_name, target="portable"):
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.deployed import graph
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import get_weights, set_weights

    model, rng = build_vit(config), np.random.default_rng(0)
    weights = {
        n: (w + rng.normal(0, 0.1, w.shape)).astype(np.float32)
        for n, w in get_weights(model).items()
    }
    set_weights(model, weights)
    dtype = {"image": "uint8", "mel": "float32"}[input_name]
    size = convert(*graph(config, weights, input_name, dtype, target), path, weights)
    return model, weights, size


@pytest.mark.parametrize("target, bound", [("portable", 1e-3), ("litert", 1e-5)])
@pytest.mark.parametrize(
    "input_name, channels, pool", [("image", 3, "cls"), ("mel", 1, "cls"), ("image", 3, "cls_mean")]
)
def test_file_equals_keras_in_a_process_without_tensorflow(
    tmp_path, input_name, channels, pool, target, bound
):
    from edvit_tf.export.process import run_in_process

    config = ViTConfig(
        (32, 24, channels),
        patch_size=8,
        num_layers=3,
        hidden_dim=20,
        num_heads=3,
        head_dim=8,
        mlp_dim=28,
        num_classes=4,
        pool=pool,
        input_mean=(90.0,),
        input_std=(40.0,),
    )  # h * hd is not d
    model, _, size = _export(config, tmp_path / "m.tflite", input_name, target)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (9, 32, 24, channels)).astype(
        np.uint8 if input_name == "image" else np.float32
    )
    outputs, report = run_in_process(tmp_path / "m.tflite", {input_name: x})
    keras_outputs = {name: np.asarray(value) for name, value in model(x.astype(np.float32)).items()}
    figures = compare(keras_outputs, outputs, top="logits", target=target)
    assert figures["ok"] and figures["max_relative_error"] < bound and figures["samples"] == 9
    assert report["tensorflow_loaded"] is False and report["samples"] == 9
    assert size == (tmp_path / "m.tflite").stat().st_size
    assert 10 << 20 < report["peak_rss_bytes"] < 500 << 20


def test_the_papers_two_head_sub_model_is_9_6_mib(tmp_path):
    """Section 5: ViT-Base, 2 of 12 heads kept, 10 classes: 9.55 MiB of weights; the paper says
    9.6.
    """
    config = vit_config("vit_base", (224, 224, 3), 10).pruned(2, 10)
    _, weights, size = _export(config, tmp_path / "m.tflite", "image")
    assert 4 * sum(w.size for w in weights.values()) / 2**20 == pytest.approx(9.55, abs=0.005)
    assert size / 2**20 == pytest.approx(9.6, rel=0.025)


def test_fusion_graph_equals_keras_and_ignores_missing_features(tmp_path):
    from edvit_tf.export.convert import convert
    from edvit_tf.export.fusion_graphs import fusion_graph
    from edvit_tf.export.process import run_in_process
    from edvit_tf.models.weights import get_weights
    from edvit_tf.training.fuse import build_fusion

    model = build_fusion((5, 3), 4)
    weights = get_weights(model)
    convert(*fusion_graph(weights, (5, 3)), tmp_path / "f.tflite", weights)
    rng = np.random.default_rng(0)
    inputs = {
        "features": rng.normal(size=(6, 8)).astype(np.float32),
        "present": np.float32([[1, 1], [1, 0], [0, 1]] * 2),
    }
    outputs, _ = run_in_process(tmp_path / "f.tflite", inputs)
    np.testing.assert_allclose(
        outputs["probabilities"], np.asarray(model(inputs)), rtol=1e-4, atol=1e-6
    )
    inputs["features"][1, 5:] = 1e6
    again, _ = run_in_process(tmp_path / "f.tflite", inputs)
    np.testing.assert_array_equal(again["probabilities"][1], outputs["probabilities"][1])


def test_a_file_that_lost_weights_is_refused(tmp_path):
    import tensorflow as tf

    from edvit_tf.export.convert import convert

    signature = [tf.TensorSpec((1, 4), tf.float32, name="x")]
    with pytest.raises(ExportError, match="fewer than its weights"):
        convert(
            lambda x: {"y": x * 2.0},
            signature,
            tmp_path / "m.tflite",
            {"kernel": np.zeros((500, 500), np.float32)},
        )
    assert not (tmp_path / "m.tflite").exists()


def test_operators_beyond_the_builtins_are_refused(tmp_path):
    import tensorflow as tf

    from edvit_tf.export.convert import convert

    signature = [tf.TensorSpec((4, 4), tf.float32, name="x")]
    with pytest.raises(ExportError, match="builtin operators alone"):
        convert(lambda x: {"y": tf.linalg.inv(x)}, signature, tmp_path / "m.tflite", {})


def test_the_process_says_why_it_failed(tmp_path):
    from edvit_tf.export.process import run_in_process

    (tmp_path / "bad.tflite").write_bytes(b"not a model")
    with pytest.raises(ExportError, match="bad.tflite ended with 1: error: .*cannot load"):
        run_in_process(tmp_path / "bad.tflite", {"x": np.zeros((1, 2), np.float32)})


def test_a_bundle_is_whole_and_says_what_is_in_it(smoke_bundle):
    from edvit_tf.device.model.bundle import open_bundle, verified_path

    bundle = open_bundle(smoke_bundle)
    for name in bundle.files:
        verified_path(bundle, name)
    present = {p.name for p in smoke_bundle.iterdir()}
    assert present == set(bundle.files) | {
        "manifest.json",
        "results.json",
        "predictions.npz",
        "mistakes.json",
        "run.json",
        "report.html",
        "README.md",
    }
    assert (smoke_bundle / "labels.txt").read_text().split() == bundle.labels
    assert sorted(c for s in bundle.sub_models for c in s.classes) == list(range(10))
    assert bundle.manifest.data["synthetic"] is True
    assert "synthetic stand-in" in (smoke_bundle / "README.md").read_text()
    splits = json.loads((smoke_bundle / "splits.json").read_text())
    assert set(splits) == {"train", "validation", "test", "learnt_contents"}
    for sub in bundle.sub_models:
        assert sub.weight_bytes == 4 * sub.params < bundle.files[sub.file].bytes * 1.05
        assert sub.config["num_classes"] == len(sub.classes) + 1
