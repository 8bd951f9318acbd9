"""Joint training of sub-models and fusion, and the stacked models that it runs."""

import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from tests.support.tiny_vit import toy


def test_joint_training_improves_the_fused_answer_and_keeps_the_sub_models_logits_valid():
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import get_weights, initial_weights
    from edvit_tf.training.fuse import build_fusion
    from edvit_tf.training.joint import fit_joint
    from edvit_tf.training.train import predict

    x, labels = toy()
    eye = np.eye(2, dtype=np.float32)[labels]
    groups = [eye, eye[:, ::-1].copy()]  # one class and "other" each
    configs = [vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)] * 2
    start = [initial_weights(configs[0], seed) for seed in (1, 2)]
    width = configs[0].hidden_dim
    runs = []
    for options in (
        {},
        {},
        {"precision": "bfloat16"},
        {"patch_dropout": 0.25, "feature_distillation": 1.0},
    ):
        fusion = build_fusion((width, width), 2)
        values = np.random.default_rng(0)
        fusion.set_weights([values.normal(0, 0.1, w.shape) for w in fusion.get_weights()])
        train = TrainConfig(epochs=6, batch_size=16, learning_rate=2e-3, **options)
        weights, history = fit_joint(
            configs,
            start,
            fusion,
            x,
            eye,
            groups,
            train,
            0.2,
            seed=5,
            features=eye,
            epoch_indices=lambda e: np.random.default_rng(e).permutation(160),
        )
        runs.append((weights, get_weights(fusion)))
        unseen, truth = toy(1)
        out = [predict(configs[0], w, unseen) for w in weights]
        assert (out[0]["logits"].argmax(axis=1) == truth).mean() > 0.9
        assert (out[1]["logits"].argmax(axis=1) == 1 - truth).mean() > 0.9
        p = fusion(
            {
                "features": np.concatenate([o["features"] for o in out], axis=1),
                "present": np.ones((len(truth), 2), np.float32),
            }
        )
        assert (np.asarray(p).argmax(axis=1) == truth).mean() > 0.9 and history[
            "samples"
        ] == 6 * 160
        assert history["precision"] == options.get("precision", "float32")
    (one, fused), (two, fused_two), (rounded, _) = runs[:3]
    assert all((one[j]["head.kernel"] != rounded[j]["head.kernel"]).any() for j in range(2))
    assert all((one[j][name] == two[j][name]).all() for j in range(2) for name in start[0])
    assert all((fused[name] == fused_two[name]).all() for name in fused)


@pytest.mark.parametrize(
    ("kept", "dtype", "rtol", "atol"),
    [(None, "float32", 1e-3, 1e-4), (2, "float32", 1e-3, 1e-4), (2, "bfloat16", 0.1, 0.1)],
)
def test_stacked_models_answer_as_keras_ones(kept, dtype, rtol, atol):
    import tensorflow as tf

    from edvit_tf.models.vit import stacked_features
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import set_weights
    from edvit_tf.training.stacks import stack
    from tests.support.tiny_vit import CONFIG, random_inputs, random_weights

    weights, x = [random_weights(seed=seed) for seed in (0, 1, 2)], random_inputs()
    places = (
        None
        if kept is None
        else np.array([[0, 3], [1, 2], [0, 1], [2, 3], [0, 2], [1, 3]], np.int32)
    )
    found = stacked_features(
        CONFIG,
        {n: tf.cast(v, dtype) for n, v in stack(weights).items()},
        x,
        None if kept is None else tf.constant(places),
    )
    model = build_vit(CONFIG, kept_patches=kept)
    for own, values in zip(weights, found, strict=True):
        set_weights(model, own)
        expected = model(x if kept is None else {"input": x, "kept": places})["features"]
        np.testing.assert_allclose(values, expected, rtol=rtol, atol=atol)


def test_joint_training_takes_sub_models_of_different_widths_and_heads():
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.fuse import build_fusion
    from edvit_tf.training.joint import fit_joint

    x, labels = toy()
    eye = np.eye(2, dtype=np.float32)[labels]
    wide = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    configs = [wide, wide.replace(hidden_dim=wide.hidden_dim // 2), wide.replace(num_classes=3)]
    start = [initial_weights(config, 1) for config in configs]
    three = np.concatenate([eye, 0 * eye[:, :1]], axis=1)
    fusion = build_fusion(tuple(config.hidden_dim for config in configs), 2)
    weights, _ = fit_joint(
        configs,
        start,
        fusion,
        x,
        eye,
        [eye, eye, three],
        TrainConfig(epochs=1, batch_size=16),
        0.0,
        seed=5,
        epoch_indices=lambda e: np.arange(160),
    )
    for before, after in zip(start, weights, strict=True):
        assert list(before) == list(after) and all(
            before[n].shape == after[n].shape for n in before
        )
        assert any((before[n] != after[n]).any() for n in before)
