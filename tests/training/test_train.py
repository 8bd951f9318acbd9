"""Resampling, targets, augmentation, fit and fusion."""

import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.training.augment import vary
from edvit_tf.training.batches import (
    batches,
    group_epoch,
    group_targets,
    own_epoch,
    repeated_epoch,
    weight_of_other,
    whole_epoch,
)
from edvit_tf.training.fuse import average
from tests.support.tiny_vit import toy


def test_group_epoch_takes_the_group_and_as_many_others_as_one_class():
    labels = np.repeat(np.arange(5), 40)
    indices = group_epoch(labels, (1, 3), 5, seed=7, epoch=0)
    drawn = np.bincount(labels[indices], minlength=5)
    assert drawn[1] == drawn[3] == 40
    assert drawn[[0, 2, 4]].sum() == 40 and drawn[[0, 2, 4]].min() >= 13
    assert len(set(indices.tolist())) == len(indices)
    again, other = group_epoch(labels, (1, 3), 5, 7, 0), group_epoch(labels, (1, 3), 5, 7, 1)
    assert (indices == again).all()
    assert set(other.tolist()) != set(indices.tolist())  # fresh negatives


@pytest.mark.parametrize(
    "weight, others", [(0.5, 20), (1.0, 40), (2.0, 80), (4.5, 180), (0.001, 1)]
)
def test_other_weighs_as_many_classes_as_asked(weight, others):
    labels = np.repeat(np.arange(5), 40)
    indices = group_epoch(labels, (1, 3), 5, seed=7, epoch=0, other_weight=weight)
    drawn = np.bincount(labels[indices], minlength=5)
    assert drawn[1] == drawn[3] == 40 and drawn[[0, 2, 4]].sum() == others
    assert drawn[[0, 2, 4]].max() - drawn[[0, 2, 4]].min() <= 1
    times = np.bincount(indices, minlength=200)[np.isin(labels, (0, 2, 4))]
    assert (
        times.max() - times.min() <= 1
    )  # each negative as often as the others: several times where there are few


def test_other_keeps_its_weight_where_a_class_is_small_or_empty():
    labels = np.array([0] * 12 + [1] * 2 + [2] * 12)
    drawn = np.bincount(labels[group_epoch(labels, (0,), 4, 0, 0)], minlength=4)
    assert drawn.tolist() == [
        12,
        4,
        4,
        0,
    ]  # class 3 has no samples; class 1 gives each of its two twice


def test_group_epoch_of_all_classes_has_no_negatives():
    labels = np.repeat(np.arange(3), 4)
    assert sorted(group_epoch(labels, (0, 1, 2), 3, 0, 0)) == list(range(12))


def test_an_epoch_of_all_samples_forgets_none_and_is_half_the_groups():
    labels = np.repeat(np.arange(5), 40)
    indices = whole_epoch(labels, (1, 3), seed=7, epoch=0)
    times = np.bincount(indices, minlength=200).reshape(5, 40)
    assert (times[[0, 2, 4]] == 1).all()
    assert times[[1, 3]].sum() == times[[0, 2, 4]].sum() == 120
    assert set(times[[1, 3]].ravel()) == {1, 2}  # as evenly as can be
    assert (indices == whole_epoch(labels, (1, 3), 7, 0)).all()
    assert (indices != whole_epoch(labels, (1, 3), 7, 1)).any()

    # a group of most classes is no smaller than it is, and one of all is an ordinary epoch
    assert sorted(whole_epoch(labels, (0, 1, 2, 3), 7, 0)) == list(range(200))
    assert sorted(whole_epoch(labels, (0, 1, 2, 3, 4), 7, 0)) == list(range(200))


@pytest.mark.parametrize(
    ("epoch", "weight", "own", "others", "expected"),
    [
        ("group", 1.0, 2, 8, 1.0),
        ("group", 1.5, 8, 2, 1.5),
        ("all", 1.0, 2, 8, 2.0),
        ("all", 9.0, 8, 2, 2.0),
    ],
)
def test_other_comes_as_often_as_it_is_said_to(epoch, weight, own, others, expected):
    train = TrainConfig(1, epoch=epoch, other_weight=weight)
    labels = np.repeat(np.arange(10), 40)
    drawn = labels[own_epoch(train, labels, tuple(range(own)), 10, 0, 0)]
    counts = np.bincount(drawn, minlength=10)
    assert counts[own:].sum() / counts[:own].mean() == pytest.approx(expected)
    assert weight_of_other(train, own, others) == expected


def test_repeated_epoch_is_as_long_as_asked_and_even():
    counts = np.bincount(repeated_epoch(10, 25, seed=1, epoch=0), minlength=10)
    assert counts.sum() == 25 and set(counts) == {2, 3}
    assert len(repeated_epoch(10, 7, 1, 0)) == 7 == len(set(repeated_epoch(10, 7, 1, 0)))


def test_group_targets_mix_labels_and_teacher_and_sum_to_one():
    teacher = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
    targets = group_targets(np.array([0, 2]), teacher, (1, 0), 3, distillation=0.25)
    np.testing.assert_allclose(targets, [[0.05, 0.925, 0.025], [0.025, 0.025, 0.95]], atol=1e-6)
    assert group_targets(np.array([0]), None, (0, 1, 2), 3).tolist() == [[1, 0, 0]]
    np.testing.assert_allclose(
        group_targets(np.array([0]), None, (0,), 4, label_smoothing=0.1),
        [[0.925, 0.075]],
        atol=1e-6,
    )


def test_batches_cover_an_epoch_and_have_one_shape():
    inputs = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    targets = np.eye(10, dtype=np.float32)
    stream = batches(inputs, (targets,), lambda epoch: np.arange(10), 4, "none", seed=0)
    got = [(x, y) for x, (y,) in (next(stream) for _ in range(3))]
    assert all(x.shape == (4, 1, 1, 1) and y.shape == (4, 10) for x, y in got)
    assert {int(v) for x, _ in got for v in x.ravel()} == set(range(10))
    assert all((x.ravel() == y.argmax(axis=1)).all() for x, y in got)  # rows stay together


def test_batches_leave_out_patches_by_the_seed():
    inputs = np.zeros((8, 4, 4, 1), np.uint8)
    (x, _), (again, _) = (
        next(batches(inputs, (np.eye(8),), lambda epoch: np.arange(8), 4, "none", 0, (3, 16)))
        for _ in range(2)
    )
    assert (
        x["input"].shape == (4, 4, 4, 1)
        and x["kept"].shape == (4, 3)
        and x["kept"].dtype == np.int32
    )
    assert all(len(set(row)) == 3 and min(row) >= 0 and max(row) < 16 for row in x["kept"].tolist())
    assert (
        len({tuple(row) for row in x["kept"].tolist()}) > 1 and (x["kept"] == again["kept"]).all()
    )


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_pairs_carry_the_share_of_both_targets(mix):
    from edvit_tf.training.augment import mixed

    values = np.array([0, 100, 200, 40], np.uint8)
    x = np.broadcast_to(values[:, None, None, None], (4, 20, 20, 1))
    shares = []
    for seed in range(20):
        (found, (targets,)) = mixed(
            x, (np.eye(4, dtype=np.float32),), mix, np.random.default_rng(seed)
        )
        assert found.dtype == np.uint8 and targets.dtype == np.float32
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(
            found.mean(axis=(1, 2, 3)), targets @ values, atol=0.51
        )  # what is seen is told
        shares.append(targets.max(axis=1).min())
        again = mixed(x, (np.eye(4, dtype=np.float32),), mix, np.random.default_rng(seed))[0]
        assert (found == again).all()
    assert min(shares) < 0.9 and (x[:, 0, 0, 0] == values).all()  # the batch itself is left alone


@pytest.mark.parametrize("augment", ["shift", "shift_flip", "mask"])
def test_vary_is_deterministic_and_changes_the_batch(augment):
    x = np.random.default_rng(0).uniform(0, 255, (8, 20, 20, 1)).astype(np.float32)
    one, two = (vary(x.copy(), augment, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == x.shape and (one == two).all() and not (one == x).all()


def test_average_spreads_other_evenly_over_the_rest():
    logits = [np.log(np.array([[0.6, 0.4]])), np.log(np.array([[0.1, 0.2, 0.7]]))]
    expected = np.mean([[0.6, 0.2, 0.2], [0.7, 0.1, 0.2]], axis=0)
    np.testing.assert_allclose(average(logits, [(0,), (1, 2)], 3), [expected])
    np.testing.assert_allclose(average([logits[0], None], [(0,), (1, 2)], 3), [[0.6, 0.2, 0.2]])
    with pytest.raises(ValueError, match="all sub-models are missing"):
        average([None, None], [(0,), (1, 2)], 3)


def test_fit_learns_and_the_same_seed_gives_the_same_weights():
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import from_weights, initial_weights
    from edvit_tf.training.train import fit, predict

    x, labels = toy()
    vit = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    start = initial_weights(vit, seed=1)
    targets = np.eye(2, dtype=np.float32)[labels]
    trained = []
    for epochs in (6, 2, 6):  # the fit between must leave no trace in the compiled model
        train = TrainConfig(epochs=epochs, batch_size=16, learning_rate=2e-3)
        weights, history = fit(
            vit,
            start,
            x,
            targets,
            train,
            seed=5,
            epoch_indices=lambda e: np.random.default_rng(e).permutation(160),
        )
        trained.append(weights)
    assert history["loss"][-1] < history["loss"][0]
    assert all((trained[0][name] == trained[2][name]).all() for name in start)
    assert any((trained[0][name] != trained[1][name]).any() for name in start)
    unseen, truth = toy(1)
    out = predict(vit, weights, unseen, batch_size=64)
    assert (out["logits"].argmax(axis=1) == truth).mean() > 0.95
    model = from_weights(vit, weights)
    np.testing.assert_allclose(
        out["logits"][:5], model(unseen[:5].astype(np.float32))["logits"], rtol=1e-4, atol=1e-5
    )


def test_patches_that_are_kept_in_order_and_all_change_nothing():
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import set_weights
    from tests.support.tiny_vit import CONFIG, random_inputs, random_weights

    weights, x = random_weights(), random_inputs()
    whole, some = build_vit(CONFIG), build_vit(CONFIG, kept_patches=CONFIG.num_patches)
    for model in (whole, some):
        set_weights(model, weights)
    kept = np.tile(np.arange(CONFIG.num_patches, dtype=np.int32), (len(x), 1))
    expected = np.asarray(whole(x)["logits"])
    np.testing.assert_allclose(
        some({"input": x, "kept": kept})["logits"], expected, rtol=1e-4, atol=1e-5
    )
    fewer = build_vit(CONFIG, kept_patches=CONFIG.num_patches - 1)
    set_weights(fewer, weights)
    out = np.asarray(fewer({"input": x, "kept": kept[:, 1:]})["logits"])
    assert np.abs(out - expected).max() > 1e-2
    x[:, :8, :8] += 50.0  # patch 0, which nobody looks at
    np.testing.assert_allclose(
        fewer({"input": x, "kept": kept[:, 1:]})["logits"], out, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "option",
    [
        {"feature_distillation": 1.0},
        {"patch_dropout": 0.5},
        {"ema": 0.9},
        {"mix": "cutmix"},
        {"precision": "bfloat16"},
        {"optimizer": "muon"},
    ],
)
def test_every_option_of_a_fit_learns_and_repeats_itself(option):
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import fit, predict

    x, labels = toy()
    vit = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    targets = np.eye(2, dtype=np.float32)[labels]
    features = np.stack(
        [labels, labels * 2.0, np.random.default_rng(3).normal(size=160)], axis=1
    ).astype(np.float32)
    start, results = initial_weights(vit, 1), []
    for options in (option, option, {}):
        train = TrainConfig(epochs=6, batch_size=16, learning_rate=2e-3, **options)
        results.append(
            fit(
                vit,
                start,
                x,
                targets,
                train,
                seed=5,
                features=features,
                epoch_indices=lambda e: np.random.default_rng(e).permutation(160),
            )[0]
        )
    assert all((results[0][name] == results[1][name]).all() for name in start)
    assert any(
        (results[0][name] != results[2][name]).any() for name in start
    )  # the option does something
    unseen, truth = toy(1)
    assert (predict(vit, results[0], unseen)["logits"].argmax(axis=1) == truth).mean() > 0.9


def test_muon_moves_the_blocks_matrices_by_orthogonal_steps_and_the_rest_by_adamws():
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import fit

    x, labels = toy()
    vit = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    start, ends = initial_weights(vit, 1), {}
    for name in ("muon", "adamw"):
        train = TrainConfig(
            epochs=1,
            batch_size=160,
            learning_rate=1e-3,
            optimizer=name,
            weight_decay=0.0,
            warmup_fraction=0.0,
        )
        ends[name] = fit(
            vit,
            start,
            x,
            np.eye(2, dtype=np.float32)[labels],
            train,
            seed=5,
            epoch_indices=lambda e: np.arange(160),
        )[0]
    matrices = [name for name in start if name.startswith("block_") and name.endswith(".kernel")]
    assert len(matrices) == 6 * vit.num_layers
    for name in start:
        step = ends["muon"][name] - start[name]
        if (
            name in matrices
        ):  # the root mean square of AdamW's step is about 0.2 of the rate (Liu et al. 2025)
            values = np.linalg.svd(step / (0.2e-3 * max(step.shape) ** 0.5), compute_uv=False)
            assert 0.5 < values[1] <= values[0] < 1.3, (
                name,
                values,
            )  # AdamW's largest: five times the width's root
        elif not name.endswith("key.bias"):  # that of the keys has no gradient but rounding
            np.testing.assert_allclose(
                ends["muon"][name], ends["adamw"][name], rtol=0, atol=1e-4, err_msg=name
            )


def test_features_of_the_base_are_learnt_through_a_linear_map():
    """The loss falls below that of the labels alone only if the map and the model move towards the
    features.
    """
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import fit, linear_map, predict, standardised

    x, labels = toy()
    vit = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    tilt = np.random.default_rng(2).uniform(0, 40, 160)  # a feature that the labels do not ask for
    x[:, :, 8:] += tilt[:, None, None, None].astype(np.uint8)
    goal = standardised(tilt[:, None].astype(np.float32))

    def distance(weights):
        mine = predict(vit, weights, x)["features"]
        kernel, bias = linear_map(mine, goal)
        return np.square(mine @ kernel + bias - goal).mean()

    start = initial_weights(vit, 1)
    left = []
    for weight in (0.0, 3.0):
        train = TrainConfig(
            epochs=12, batch_size=16, learning_rate=2e-3, feature_distillation=weight
        )
        left.append(
            distance(
                fit(
                    vit,
                    start,
                    x,
                    np.eye(2, dtype=np.float32)[labels],
                    train,
                    seed=5,
                    features=goal,
                    epoch_indices=lambda e: np.random.default_rng(e).permutation(160),
                )[0]
            )
        )
    assert left[1] < 0.8 * left[0], left


def test_linear_map_finds_the_map():
    from edvit_tf.training.train import linear_map

    rng = np.random.default_rng(0)
    x, kernel = rng.normal(2.0, 1.0, (500, 4)), rng.normal(size=(4, 3))
    found, bias = linear_map(x, x @ kernel + 1.5, ridge=1e-9)
    np.testing.assert_allclose(found, kernel, atol=1e-4)
    np.testing.assert_allclose(bias, np.full(3, 1.5), atol=1e-4)


def test_learning_rate_warms_up_and_falls_to_zero():
    from edvit_tf.training.optimizers import learning_rate

    cosine = [learning_rate(TrainConfig(1, learning_rate=1.0), s, 100) for s in range(101)]
    assert (
        cosine[0] == pytest.approx(0.1) and max(cosine) == cosine[10] == 1.0 and cosine[100] < 1e-6
    )
    assert cosine[55] == pytest.approx(0.5)
    paper = TrainConfig(1, learning_rate=1.0, optimizer="adam")
    assert [learning_rate(paper, s, 100) for s in (0, 100)] == pytest.approx([1.0, 0.1])


def test_fit_head_improves_a_bad_other_row():
    from edvit_tf.training.train import fit_head

    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(int)
    kernel, bias = fit_head(
        features,
        np.eye(2, dtype=np.float32)[labels],
        np.zeros((6, 2), np.float32),
        np.zeros(2, np.float32),
    )
    assert ((features @ kernel + bias).argmax(axis=1) == labels).mean() > 0.95


def test_fit_head_takes_the_steps_of_keras_adam():
    import keras
    import tensorflow as tf

    from edvit_tf.training.train import fit_head

    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)).astype(np.float32)
    y = rng.dirichlet(np.ones(3), 50).astype(np.float32)
    kernel, bias = rng.normal(size=(6, 3)).astype(np.float32), np.zeros(3, np.float32)

    variables = [keras.Variable(kernel), keras.Variable(bias)]
    adam = keras.optimizers.Adam(1e-2)
    for _ in range(10):
        with tf.GradientTape() as tape:
            logits = tf.matmul(x, variables[0].value) + variables[1].value
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, [v.value for v in variables])
        adam.apply_gradients(zip(gradients, variables, strict=True))

    before = kernel.copy()
    found = fit_head(x, y, kernel, bias, steps=10, rate=1e-2)
    for mine, expected in zip(found, variables, strict=True):
        np.testing.assert_allclose(mine, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert (kernel == before).all()  # what was given is left alone


def test_fusion_learns_and_survives_a_missing_sub_model():
    from edvit_tf.training.fuse import build_fusion, fit_fusion

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 600)
    features = rng.normal(0, 0.3, (600, 12)).astype(np.float32)
    features[np.arange(600), labels] += 2  # sub-model 0 and sub-model 1 both know the class
    features[np.arange(600), 6 + labels] += 2
    model = build_fusion((6, 6), 4)
    assert model.get_layer("tower.hidden").units == 6
    fit_fusion(
        model,
        features,
        labels,
        TrainConfig(epochs=20, batch_size=32, learning_rate=5e-3),
        0.3,
        seed=0,
    )
    for present in ([1.0, 1.0], [1.0, 0.0]):
        p = np.asarray(
            model({"features": features, "present": np.tile(np.float32(present), (600, 1))})
        )
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        assert (p.argmax(axis=1) == labels).mean() > 0.9
    spoiled = features.copy()
    spoiled[:, 6:] = 1e3  # what a missing sub-model would say does not matter
    one = model({"features": spoiled, "present": np.tile(np.float32([1, 0]), (600, 1))})
    two = model({"features": features, "present": np.tile(np.float32([1, 0]), (600, 1))})
    np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


def test_a_fit_lets_go_of_its_data():
    """Ten fits in one process held ten memory maps and ten copies of the base's features: 11 GB."""
    import gc
    import time
    import weakref

    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import fit

    x, labels = toy()
    vit = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    gone = weakref.ref(x)

    class Rows:  # as the pipeline's: what says which rows an epoch sees holds the data too
        def __init__(self, held):
            self.x = held

        def of(self, epoch):
            return np.arange(len(self.x))[:160]

    fit(
        vit,
        initial_weights(vit, 1),
        x,
        np.eye(2, dtype=np.float32)[labels],
        TrainConfig(epochs=2, batch_size=16),
        seed=5,
        epoch_indices=Rows(x).of,
    )
    del x
    for _ in range(50):
        gc.collect()
        if gone() is None:
            return
        time.sleep(0.1)
    raise AssertionError("the inputs of a finished fit are still held")
