"""Cuts: masked equals sliced where it must, merged heads equal a numpy reference, nothing is lost
by a no-op.
"""

import numpy as np
import pytest

from edvit_tf.config import PruneConfig
from edvit_tf.models.vit.cuts import (
    cut,
    cut_attention,
    cut_ffn,
    cut_residual,
    group_head,
    head_groups,
    kept_dims,
    top,
    top_in_heads,
)
from tests.support.tiny_vit import CONFIG, logits, random_inputs, random_weights

STAGES = ("residual", "attention", "ffn")


@pytest.fixture(scope="module")
def network():
    return random_weights(), random_inputs()


def scores_of(stage, seed=0):
    from edvit_tf.models.vit.functions import mask_shapes

    rng = np.random.default_rng(seed)
    return {name: rng.random(width) for name, width in mask_shapes(CONFIG, stage).items()}


def test_plain_forward_equals_keras(network):
    from edvit_tf.models.vit.functions import forward

    weights, x = network
    np.testing.assert_allclose(
        forward(CONFIG, weights, x), logits(CONFIG, weights, x), rtol=2e-4, atol=2e-5
    )


def test_masked_equals_sliced_for_ffn_units(network):
    from edvit_tf.models.vit.functions import forward

    weights, x = network
    keep = [np.array([0, 3, 5, 11, 19]), np.array([1, 2, 8, 9, 10])]
    masks = {
        f"block_{i:02d}.ffn": np.isin(np.arange(20), k).astype(np.float32)
        for i, k in enumerate(keep)
    }
    config, cut_weights = cut_ffn(CONFIG, weights, keep)
    assert config.mlp_dim == 5
    np.testing.assert_allclose(
        forward(CONFIG, weights, x, masks), logits(config, cut_weights, x), rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize("heads, kept_heads", [("keep", 2), ("whole", 2), ("whole", 1)])
def test_masked_equals_sliced_for_attention_when_the_heads_are_kept(network, heads, kept_heads):
    """Narrower heads keep the old scale (through the query); whole heads stay as they are."""
    from edvit_tf.models.vit.functions import forward

    weights, x = network
    scores, target = scores_of("attention"), CONFIG.pruned(kept_heads, 4, heads)
    kept = kept_dims(CONFIG, scores, target, heads)
    masks = {
        f"block_{i:02d}.{part}": np.isin(np.arange(12), dims).astype(np.float32)
        for i, both in enumerate(kept)
        for part, dims in zip(("qk", "v"), both, strict=True)
    }
    config, cut_weights = cut(CONFIG, weights, scores, "attention", target, heads)
    assert (config.num_heads, config.head_dim) == ((3, 2) if heads == "keep" else (kept_heads, 4))
    assert config.attention_dim < 12
    np.testing.assert_allclose(
        forward(CONFIG, weights, x, masks), logits(config, cut_weights, x), rtol=2e-4, atol=2e-5
    )


def test_a_masked_residual_channel_is_not_a_sliced_one(network):
    """Said in the docstring of `forward`: LayerNorm takes its statistics over the channels that are
    left.
    """
    from edvit_tf.models.vit.functions import forward

    weights, x = network
    keep = np.arange(11)
    mask = {"residual": (np.arange(12) < 11).astype(np.float32)}
    difference = forward(CONFIG, weights, x, mask).numpy() - logits(
        *cut_residual(CONFIG, weights, keep), x
    )
    assert np.abs(difference).max() > 1e-2


def test_merged_heads_against_numpy(network):
    """Three heads merge into one of full head_dim: softmax over the summed logits of the kept
    pairs.
    """
    weights, _ = network
    qk, v = np.array([[1, 4, 6, 11]]), np.array([[0, 5, 8, 9]])
    config, cut_weights = cut_attention(CONFIG, weights, [(qk, v)] * 2)
    assert (config.num_heads, config.head_dim) == (1, 4)
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(5, 12))
    name = "block_01.attention"

    def dense(w, part, y):
        return y @ w[f"{name}.{part}.kernel"] + w[f"{name}.{part}.bias"]

    q, k, value = (dense(weights, part, tokens) for part in ("query", "key", "value"))
    scores = sum(np.outer(q[:, i], k[:, i]) for i in qk[0]) / np.sqrt(4)
    attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = (attention @ value[:, v[0]]) @ weights[f"{name}.output.kernel"][v[0]] + weights[
        f"{name}.output.bias"
    ]

    q, k, value = (dense(cut_weights, part, tokens) for part in ("query", "key", "value"))
    scores = q @ k.T / np.sqrt(config.head_dim)
    attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense(cut_weights, "output", attention @ value), expected, rtol=1e-6)


def test_keeping_everything_changes_nothing(network):
    weights, x = network
    config, same = CONFIG, weights
    for stage in STAGES:
        config, same = cut(config, same, scores_of(stage), stage, CONFIG)
    assert config == CONFIG
    np.testing.assert_array_equal(logits(config, same, x), logits(CONFIG, weights, x))


@pytest.mark.parametrize(
    "kept_heads, options",
    [
        (1, PruneConfig()),
        (2, PruneConfig()),
        (3, PruneConfig()),
        (2, PruneConfig(residual="channels", repair=False)),
        (1, PruneConfig(residual="channels", rounds=3)),
        (2, PruneConfig(residual="scored_directions", score="fisher")),
        (1, PruneConfig(heads="keep")),
        (2, PruneConfig(heads="whole", score="magnitude")),
        (2, PruneConfig(score="exact", repair=False)),
        (2, PruneConfig(score="random")),
    ],
    ids=str,
)
def test_three_stages_give_an_ordinary_vit_of_the_target(network, kept_heads, options, tmp_path):
    import keras

    from edvit_tf.models.vit.keras_model import config_of
    from edvit_tf.models.weights import from_weights
    from edvit_tf.pruning.stage import prune_stage

    weights, x = network
    target = CONFIG.pruned(kept_heads, 3, options.heads)
    config, cut_weights = group_head(CONFIG, weights, (1, 3))
    for stage in STAGES:
        done = prune_stage(config, cut_weights, x, stage, target, options, seed=1)
        config, cut_weights = done.config, done.weights
        assert (done.repaired is not None) == (
            options.repair and kept_heads < 3
        )  # all heads kept: nothing to repair
    assert config == target
    model = from_weights(config, cut_weights)
    model.save(tmp_path / "cut.keras")
    again = keras.models.load_model(tmp_path / "cut.keras")
    answers = np.asarray(again(x)["logits"])
    assert (
        config_of(again).replace(input_mean=(100.0,), input_std=(50.0,)) == target
        and np.isfinite(answers).all()
    )
    np.testing.assert_allclose(answers, np.asarray(model(x)["logits"]), rtol=1e-5, atol=1e-6)


def test_the_single_head_of_a_vit_and_every_number_of_heads(network):
    weights, x = network
    for kept in (1, 2, 3):
        config, small = cut(
            CONFIG, weights, scores_of("attention"), "attention", CONFIG.pruned(kept, 4)
        )
        assert config.num_heads == kept and config.head_dim == 4
        assert np.isfinite(logits(config, small, x)).all()


def test_residual_cut_slices_every_reader_and_writer(network):
    weights, x = network
    config, cut_weights = cut_residual(CONFIG, weights, np.array([1, 4, 5, 10]))
    assert config.hidden_dim == 4
    assert np.isfinite(logits(config, cut_weights, x)).all()
    np.testing.assert_array_equal(
        cut_weights["block_00.mlp.contract.bias"],
        weights["block_00.mlp.contract.bias"][[1, 4, 5, 10]],
    )
    np.testing.assert_array_equal(cut_weights["head.kernel"], weights["head.kernel"][[1, 4, 5, 10]])


def test_group_head_takes_rows_and_the_mean_of_the_rest(network):
    weights, _ = network
    config, out = group_head(CONFIG, weights, (3, 0))
    assert config.num_classes == 3
    np.testing.assert_array_equal(out["head.kernel"][:, :2], weights["head.kernel"][:, [3, 0]])
    np.testing.assert_allclose(out["head.bias"][2], weights["head.bias"][[1, 2]].mean(), rtol=1e-6)
    config, out = group_head(CONFIG, weights, (0, 1, 2, 3))
    assert config == CONFIG and out["head.kernel"].shape == (12, 4)  # N = 1 has no "other"
    with pytest.raises(ValueError, match="distinct rows"):
        group_head(CONFIG, weights, (0, 9))


def test_group_head_of_a_base_that_reads_the_mean_too_keeps_the_class_tokens_half():
    both = CONFIG.replace(pool="cls_mean")
    weights = random_weights(both)
    config, out = group_head(both, weights, (2, 1))
    assert config.pool == "cls" and out["head.kernel"].shape == (12, 3)
    np.testing.assert_array_equal(out["head.kernel"][:, 0], weights["head.kernel"][:12, 2])


@pytest.mark.parametrize(
    "heads, kept, sizes",
    [(12, 3, [4, 4, 4]), (12, 5, [3, 3, 2, 2, 2]), (6, 6, [1] * 6), (7, 1, [7])],
)
def test_head_groups(heads, kept, sizes):
    assert [len(g) for g in head_groups(heads, kept)] == sizes


def test_whole_heads_are_those_of_the_highest_scores():
    scores = {
        f"block_{i:02d}.{part}": np.repeat([0.1, 3.0, 2.0], 4)
        for i in range(2)
        for part in ("qk", "v")
    }
    for qk, v in kept_dims(CONFIG, scores, CONFIG.pruned(2, 4), "whole"):
        assert qk.tolist() == v.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_top_keeps_the_highest_in_order():
    assert top(np.array([0.1, 5.0, 0.1, 2.0]), 3).tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="keep between 1"):
        top(np.ones(3), 4)
    kept = top_in_heads(
        np.array([0, 9, 8, 0, 7, 0, 0, 6.0]), [np.array([0, 1]), np.array([2, 3])], 2, 2
    )
    assert kept.tolist() == [[1, 2], [4, 7]]


def test_a_choice_of_heads_that_does_not_fit_the_target_is_refused():
    with pytest.raises(ValueError, match="'third'.*merge, whole, half, keep"):
        kept_dims(CONFIG, scores_of("attention"), CONFIG.pruned(2, 4), "third")
    with pytest.raises(ValueError, match="'keep' needs 3 of 4"):
        kept_dims(CONFIG, scores_of("attention"), CONFIG.pruned(2, 4), "keep")
