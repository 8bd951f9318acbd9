"""VGG as NNFacet and EC-SNN have it: what it costs, how it is cut, and what a device runs."""

import json

import numpy as np
import pytest

from edvit_tf import models
from edvit_tf.config import PruneConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vgg import cost
from edvit_tf.models.vgg.presets import vgg_config
from edvit_tf.models.vgg.zeta import by_threshold, kept_by_threshold, over

TINY = vgg_config("vgg_smoke", (12, 9, 3), 5, input_mean=(90.0, 100.0, 110.0), input_std=(40.0,))
PLAIN = PruneConfig(score="apoz", repair=False)


@pytest.fixture(scope="module")
def weights():
    """Of TINY, with biases and statistics that are not those of the start."""
    from edvit_tf.models.weights import initial_weights

    rng = np.random.default_rng(0)
    found = {}
    for name, value in initial_weights(TINY, 0).items():
        moved = value + rng.normal(0, 0.1, value.shape)
        found[name] = (np.abs(moved) + 0.5 if "variance" in name else moved).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).integers(0, 256, (6, 12, 9, 3)).astype(np.uint8)


def said(config, weights, x):
    from edvit_tf.models.weights import from_weights

    answers = from_weights(config, weights)(x.astype(np.float32))
    return {name: np.asarray(value) for name, value in answers.items()}


@pytest.mark.parametrize(
    "preset, params, mib, mmacs",
    [("vgg16", 33_655_114, 128.4, 332), ("vgg9", 5_945_674, 22.7, 195)],
)
def test_the_bases_cost_what_the_published_nets_do(preset, params, mib, mmacs):
    config = vgg_config(preset, (32, 32, 3), 10)
    assert cost.params(config) == params
    assert round(cost.size_bytes(config) / 2**20, 1) == mib
    assert round(cost.macs(config) / 1e6) == mmacs


@pytest.mark.parametrize(
    "kept, mib, mmacs, features",
    [
        (50, 14.1, 78.7, 256),
        (35, 6.9, 38.7, 179),
        (25, 3.5, 19.9, 128),
        (20, 2.25, 13.9, 102),
        (10, 0.6, 6.2, 51),
    ],
)
def test_shares_of_vgg16_without_their_head(kept, mib, mmacs, features):
    small = vgg_config("vgg16", (32, 32, 3), 10).pruned(kept, 2)
    head = (small.feature_dim + 1) * 2
    assert small.feature_dim == features
    assert 4 * (cost.params(small) - head) / 2**20 == pytest.approx(mib, abs=0.06)
    assert (cost.macs(small) - small.feature_dim * 2) / 1e6 == pytest.approx(mmacs, abs=0.06)


def test_keras_counts_what_the_formula_does(weights):
    assert sum(value.size for value in weights.values()) == cost.params(TINY)
    small = TINY.pruned(1, 3)
    model = models.architecture(small).build(small)
    assert model.count_params() == cost.params(small)
    assert small.filters == (2, 3) and small.dense == ()


def test_a_config_comes_back_from_its_json_and_its_model():
    stored = json.loads(json.dumps(TINY.to_dict()))
    assert models.config_from_dict(stored) == TINY
    known = models.architecture("vgg")
    read = known.config_of(known.build(TINY))
    unshown = dict(shares=TINY.shares, min_filters=TINY.min_filters, fit_dense=TINY.fit_dense)
    assert read.replace(**unshown, input_std=(40.0,)).filters == TINY.filters
    assert (read.blocks, read.dense, read.image_shape) == (TINY.blocks, TINY.dense, (12, 9, 3))
    np.testing.assert_allclose(read.input_mean, TINY.input_mean, rtol=1e-6)


def test_what_cannot_be_is_told():
    with pytest.raises(ConfigError, match=r"\(16, 16, 3\).*5 pools.*at least 32"):
        vgg_config("vgg16", (16, 16, 3), 10)
    with pytest.raises(ConfigError, match=r"6 shares.*1 and the base's 4"):
        TINY.pruned(6, 3)
    with pytest.raises(ConfigError, match="patch_dropout is 0.5"):
        models.architecture("vgg").kept_patches(TINY, 0.5)
    with pytest.raises(ConfigError, match="zeta"):
        PruneConfig(zeta=56.0)


def test_functions_are_the_keras_model_and_masks_are_cuts(weights, x):
    from edvit_tf.models.vgg.cuts import cut_filters
    from edvit_tf.models.vgg.functions import forward

    expected = said(TINY, weights, x)["logits"]
    np.testing.assert_allclose(forward(TINY, weights, x), expected, rtol=1e-4, atol=1e-4)

    keep = [np.array([0, 2, 5]), np.array([1, 3, 4, 11])]
    masks = {}
    for number, (kept, width) in enumerate(zip(keep, TINY.filters, strict=True)):
        masks[f"conv_{number:02d}"] = np.isin(np.arange(width), kept).astype(np.float32)
    small, cut = cut_filters(TINY, weights, keep)
    assert small.filters == (3, 4)
    np.testing.assert_allclose(
        said(small, cut, x)["logits"], forward(TINY, weights, x, masks), rtol=1e-4, atol=1e-4
    )


def test_a_group_head_is_the_product_of_the_dense_layers(weights, x):
    from edvit_tf.models.vgg.heads import group_head

    expected = said(TINY, weights, x)
    config, own = group_head(TINY, weights, (3, 1))
    answers = said(config, own, x)
    rest = expected["logits"][:, [0, 2, 4]].mean(axis=1)
    assert config.dense == () and config.num_classes == 3
    np.testing.assert_allclose(answers["features"], expected["features"])
    np.testing.assert_allclose(
        answers["logits"], np.column_stack([expected["logits"][:, [3, 1]], rest]), atol=1e-4
    )
    with pytest.raises(ValueError, match="distinct rows"):
        group_head(TINY, weights, (1, 1))


@pytest.mark.parametrize("widths", [(16, 8), (3, 7), (5,)])
def test_the_layers_of_a_fit_are_the_same_function(widths):
    from edvit_tf.models.vgg.heads import factors, fit_form, with_head

    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(12, 3)).astype(np.float32), np.float32([1, 2, 3])
    parts = factors(kernel, widths, 0)
    assert [part.shape[1] for part in parts] == [*widths, 3]
    np.testing.assert_allclose(np.linalg.multi_dot(parts), kernel, atol=1e-5)

    base = TINY.replace(image_shape=(4, 4, 3), fit_dense=widths)
    config, own = with_head(base, {"head.bias": bias}, kernel, bias)
    form, fitted, back = fit_form(config, own, 0)
    assert form.dense == widths and "dense_0.kernel" in fitted
    again = back(fitted)
    np.testing.assert_allclose(again["head.kernel"], kernel, atol=1e-5)
    np.testing.assert_array_equal(again["head.bias"], bias)
    assert list(again) == list(own)


def test_zeros_are_counted_over_all_places_whatever_the_chunk(weights, x, monkeypatch):
    from edvit_tf.models.vgg import functions

    maps = []
    functions.features(TINY, weights, x, {}, lambda number, seen: maps.append(np.asarray(seen)))
    monkeypatch.setattr(functions, "CHUNK", 4)
    found = functions.activity(TINY, weights, x, "filters")
    for number, seen in enumerate(maps):
        by_hand = (seen > 0).mean(axis=(0, 1, 2))
        np.testing.assert_allclose(found[f"conv_{number:02d}"], by_hand, rtol=1e-6)
    assert 0.05 < found["conv_01"].mean() < 0.95


def test_a_cut_keeps_the_most_active_and_is_exact_where_nothing_goes(weights, x):
    known = models.architecture("vgg")
    head, own = known.group_head(TINY, weights, (0, 1, 2, 3, 4))
    rng = np.random.default_rng(2)
    scores = {name: rng.random(n) for name, n in known.mask_shapes(head, "filters").items()}

    def score(c, w, basis=None):
        return scores

    whole = known.cut_stage(head, own, "filters", head, PLAIN, score, x)
    for name, value in own.items():
        np.testing.assert_array_equal(whole.weights[name], value)

    target = head.pruned(1, 5)
    done = known.cut_stage(head, own, "filters", target, PLAIN, score, x)
    best = np.sort(np.argsort(-scores["conv_00"])[:2])
    assert done.config == target
    np.testing.assert_array_equal(done.weights["conv_00.bias"], own["conv_00.bias"][best])
    assert known.repair_stage(done, "filters", PLAIN, x) == done.weights


def test_one_kept_filter_works(weights, x):
    known = models.architecture("vgg")
    head, own = known.group_head(TINY, weights, (2,))
    target = head.replace(filters=(1, 1))
    scores = {"conv_00": np.arange(8.0), "conv_01": np.arange(12.0)}
    done = known.cut_stage(head, own, "filters", target, PLAIN, lambda c, w: scores, x)
    answers = said(done.config, done.weights, x)
    assert answers["features"].shape == (6, 3 * 2 * 1) and answers["logits"].shape == (6, 2)
    np.testing.assert_array_equal(
        done.weights["conv_01.kernel"][..., 0, 0], own["conv_01.kernel"][..., 7, 11]
    )


def test_the_threshold_to_the_letter():
    """At zeta 56 conv 1 drops what has more than 55 % zeros, in the order of its index."""
    activity = 1 - np.array([0.9, 0.555, 0.55, 0.1, 0.8, 0.7])
    assert list(over(activity, 56, 1)) == [True, True, False, False, True, True]
    assert list(kept_by_threshold(activity, 56, 1, 1)) == [2, 3]
    # the floor keeps the last ones, though 0 and 1 are no worse than 4 and 5
    assert list(kept_by_threshold(activity, 56, 1, 4)) == [2, 3, 4, 5]
    assert list(kept_by_threshold(activity, 56, 1, 9)) == list(range(6))


def test_the_letter_starts_biases_norms_and_head_anew(weights, x):
    known = models.architecture("vgg")
    head, own = known.group_head(TINY.replace(min_filters=3), weights, (0, 1, 2, 3, 4))
    scores = {"conv_00": np.linspace(0.9, 0.1, 8), "conv_01": np.linspace(0.1, 0.9, 12)}
    target = by_threshold(head, scores, 5, 50.0)
    letter = PLAIN.replace(zeta=50.0, their_way=True)
    done = known.cut_stage(head, own, "filters", target, letter, lambda c, w: scores, x)
    kept = kept_by_threshold(scores["conv_00"], 50.0, 0, 3)
    assert done.config == target and target.filters[0] == len(kept)
    np.testing.assert_array_equal(done.weights["conv_00.kernel"], own["conv_00.kernel"][..., kept])
    assert not done.weights["conv_01.bias"].any() and (done.weights["norm_01.gamma"] == 1).all()
    assert not np.array_equal(done.weights["head.kernel"], own["head.kernel"][: target.feature_dim])


def test_the_threshold_of_a_devices_bytes():
    base = vgg_config("vgg9", (32, 32, 3), 10)
    rng = np.random.default_rng(0)
    activity = {f"conv_{i:02d}": rng.random(n) for i, n in enumerate(base.filters)}
    most = int(2.45 * 2**20)
    found = by_threshold(base, activity, 2, 100.0, most)
    assert cost.file_bytes(found) <= most and found.zeta < 100 and found.num_classes == 2
    over_it = by_threshold(base, activity, 2, found.zeta + 0.02)
    assert cost.file_bytes(over_it) > most or over_it.filters == found.filters
    assert by_threshold(base, activity, 2, 56.0).zeta == 56.0
    assert by_threshold(base, activity, 2, 56.0, 1000) is None


@pytest.mark.parametrize("flavour", ["float32", "float16", "int8"])
def test_a_file_has_builtins_alone_and_no_more_bytes_than_planned(weights, flavour, tmp_path):
    from edvit_tf.export.convert import convert
    from tests.support.tflite_count import operators

    known = models.architecture("vgg")
    config, own = known.group_head(TINY, weights, (0, 3))
    file = tmp_path / "a.tflite"
    convert(*known.graph(config, own, "input", "uint8"), file, own, flavour)
    size = file.stat().st_size
    assert size <= known.file_bytes(config, flavour) < size + 8192
    if flavour == "float32":
        found = operators(file)
        assert found["CONV_2D"] == 2 and found["MAX_POOL_2D"] == 2 and found["RELU"] == 0
        assert found["FULLY_CONNECTED"] == 1 and found["MUL"] == 0


def test_the_file_says_what_keras_says(weights, x, tmp_path):
    from edvit_tf.export.convert import convert
    from edvit_tf.export.process import run_in_process

    known = models.architecture("vgg")
    file, inputs = tmp_path / "a.tflite", tmp_path / "x.npy"
    np.save(inputs, x)
    convert(*known.graph(TINY, weights, "input", "uint8"), file, weights)
    out, _ = run_in_process(file, inputs)
    for name, value in said(TINY, weights, x).items():
        np.testing.assert_allclose(out[name], value, rtol=1e-4, atol=1e-4)


def test_a_fit_is_the_same_for_its_seed_and_trains_the_layers_in_the_heads_place(x):
    from edvit_tf.config import TrainConfig
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import fit

    config = TINY.replace(dense=(), num_classes=2)
    start = initial_weights(config, 3)
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]]
    training = TrainConfig(epochs=10, batch_size=6, learning_rate=1e-3, weight_decay=0.0)

    def fitted(seed):
        return fit(
            config, start, x, targets, training, epoch_indices=lambda e: np.arange(6), seed=seed
        )

    (first, history), (second, _), (third, _) = fitted(1), fitted(1), fitted(2)
    assert history["loss"][-1] < history["loss"][0]
    assert list(first) == list(start) and "dense_0.kernel" not in first
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    # dropout draws by the seed
    assert not np.array_equal(first["head.kernel"], third["head.kernel"])
    assert not np.array_equal(first["norm_00.moving_mean"], start["norm_00.moving_mean"])


def test_stacked_models_are_the_single_ones(weights, x):
    import tensorflow as tf

    known = models.architecture("vgg")
    two = [weights, {name: value * np.float32(0.9) for name, value in weights.items()}]
    whole = {name: np.stack([w[name] for w in two]) for name in weights if "head" not in name}
    expected = [said(TINY, own, x)["features"] for own in two]
    tensors = {name: tf.constant(value) for name, value in whole.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        found = known.stacked_features(TINY, tensors, tf.constant(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    slopes = tape.gradient(found, tensors)
    assert not np.asarray(slopes["norm_00.moving_mean"]).any()
    assert np.asarray(slopes["conv_00.kernel"]).any()


def test_a_vit_has_no_zeros_to_count():
    from edvit_tf.pruning.importance import importance

    config = models.preset("vit_smoke", (16, 16, 3), 3)
    with pytest.raises(ConfigError, match="apoz.*Vision Transformer has none"):
        importance(config, {}, np.zeros((1, 16, 16, 3)), "ffn", "apoz")


def test_the_fixed_epoch_is_ec_snns_resampling():
    from edvit_tf.training.batches import fixed_epoch

    labels = np.repeat(np.arange(10), 5000)
    rows = fixed_epoch(labels, (3,), 10, seed=0, epoch=0)
    counts = np.bincount(labels[rows], minlength=10)
    assert counts[3] == 5000 and (np.delete(counts, 3) == 499).all()
    again = fixed_epoch(labels, (3,), 10, seed=0, epoch=1)
    assert set(rows) == set(again) and list(rows) != list(again)
    assert len(fixed_epoch(labels, tuple(range(10)), 10, 0, 0)) == 50_000


def test_a_base_begins_with_small_logits():
    """Dropout of one half before each Dense layer multiplies their variance by two, three times."""
    from edvit_tf.models.weights import initial_weights

    config = vgg_config("vgg_smoke", (8, 8, 1), 10, dense=(512, 512))
    weights = initial_weights(config, 0)
    for name, read in (("dense_0", 48), ("dense_1", 512), ("head", 512)):
        deviation = weights[f"{name}.kernel"].std()
        assert deviation == pytest.approx((1 / (3 * read)) ** 0.5, rel=0.05), name
    assert not np.array_equal(weights["dense_1.kernel"][:, :10], weights["head.kernel"])
