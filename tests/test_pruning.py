"""Scores and cuts: the plain forward equals Keras, masked equals sliced where it must, nothing is lost by a no-op."""

import numpy as np
import pytest

from edvit_tf.config import ViTConfig
from edvit_tf.pruning.prune import (
    cut,
    cut_attention,
    cut_ffn,
    cut_residual,
    group_head,
    head_groups,
    top,
    top_in_heads,
)

CONFIG = ViTConfig((16, 16, 1), patch_size=8, num_layers=2, hidden_dim=12, num_heads=3, head_dim=4, mlp_dim=20,
                   num_classes=4, input_mean=(100.0,), input_std=(50.0,))


@pytest.fixture(scope="module")
def network():
    """A tiny ViT with weights large enough that every unit matters, and inputs."""
    from edvit_tf.models.vit import build_vit, get_weights, set_weights

    rng = np.random.default_rng(0)
    model = build_vit(CONFIG)
    weights = {name: rng.normal(0.0, 0.4, w.shape).astype(np.float32) for name, w in get_weights(model).items()}
    set_weights(model, weights)
    x = rng.uniform(0, 255, (6, 16, 16, 1)).astype(np.float32)
    return model, weights, x


def logits(config, weights, x):
    from edvit_tf.models.vit import vit_from_weights

    return np.asarray(vit_from_weights(config, weights)(x)["logits"])


def test_plain_forward_equals_keras(network):
    from edvit_tf.pruning.forward import forward

    model, weights, x = network
    np.testing.assert_allclose(forward(CONFIG, weights, x), model(x)["logits"], rtol=2e-4, atol=2e-5)


def test_masked_equals_sliced_for_ffn_units(network):
    from edvit_tf.pruning.forward import forward

    _, weights, x = network
    keep = [np.array([0, 3, 5, 11, 19]), np.array([1, 2, 8, 9, 10])]
    masks = {f"block_{i:02d}.ffn": np.isin(np.arange(20), k).astype(np.float32) for i, k in enumerate(keep)}
    config, cut_weights = cut_ffn(CONFIG, weights, keep)
    assert config.mlp_dim == 5
    np.testing.assert_allclose(forward(CONFIG, weights, x, masks), logits(config, cut_weights, x), rtol=2e-4, atol=2e-5)


def test_masked_equals_sliced_for_v_dims_and_qk_pairs_when_heads_are_kept(network):
    """Half the dims of each head go; the narrower heads keep the old scale through W_q."""
    from edvit_tf.pruning.forward import forward

    _, weights, x = network
    kept = np.array([[0, 2], [4, 7], [9, 10]])
    mask = np.isin(np.arange(12), kept).astype(np.float32)
    masks = {f"block_{i:02d}.{part}": mask for i in range(2) for part in ("qk", "v")}
    config, cut_weights = cut_attention(CONFIG, weights, [(kept, kept)] * 2)
    config = config.replace(head_dim=2)
    for i in range(2):  # 1/sqrt(4) was the scale, 1/sqrt(2) is that of the narrower heads
        for part in ("kernel", "bias"):
            cut_weights[f"block_{i:02d}.attention.query.{part}"] = (
                cut_weights[f"block_{i:02d}.attention.query.{part}"] * np.float32(np.sqrt(2 / 4))
            )
    np.testing.assert_allclose(forward(CONFIG, weights, x, masks), logits(config, cut_weights, x), rtol=2e-4, atol=2e-5)


def test_merged_heads_against_numpy(network):
    """Three heads merge into one of full head_dim: softmax over the summed logits of the kept pairs."""
    _, weights, _ = network
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
    expected = (attention @ value[:, v[0]]) @ weights[f"{name}.output.kernel"][v[0]] + weights[f"{name}.output.bias"]

    q, k, value = (dense(cut_weights, part, tokens) for part in ("query", "key", "value"))
    scores = q @ k.T / np.sqrt(config.head_dim)
    attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense(cut_weights, "output", attention @ value), expected, rtol=1e-6)


def test_keeping_everything_changes_nothing(network):
    model, weights, x = network
    scores = {"residual": np.arange(12.0)}
    scores |= {f"block_{i:02d}.{part}": np.arange(12.0)[::-1] for i in range(2) for part in ("qk", "v")}
    scores |= {f"block_{i:02d}.ffn": np.arange(20.0) for i in range(2)}
    config, same = CONFIG, weights
    for stage in ("residual", "attention", "ffn"):
        config, same = cut(config, same, scores, stage, CONFIG)
    assert config == CONFIG
    np.testing.assert_array_equal(logits(config, same, x), np.asarray(model(x)["logits"]))


def test_three_stages_give_the_target(network):
    from edvit_tf.pruning.importance import linearised

    _, weights, x = network
    target = CONFIG.pruned(2, 3)
    config, cut_weights = group_head(CONFIG, weights, (1, 3))
    for stage in ("residual", "attention", "ffn"):
        scores = linearised(config, cut_weights, x, stage)
        config, cut_weights = cut(config, cut_weights, scores, stage, target)
    assert config == target
    assert logits(config, cut_weights, x).shape == (6, 3)


def test_residual_cut_slices_every_reader_and_writer(network):
    _, weights, x = network
    config, cut_weights = cut_residual(CONFIG, weights, np.array([1, 4, 5, 10]))
    assert config.hidden_dim == 4
    assert np.isfinite(logits(config, cut_weights, x)).all()
    np.testing.assert_array_equal(cut_weights["block_00.mlp.contract.bias"],
                                  weights["block_00.mlp.contract.bias"][[1, 4, 5, 10]])
    np.testing.assert_array_equal(cut_weights["head.kernel"], weights["head.kernel"][[1, 4, 5, 10]])


def test_linearised_scores_equal_finite_differences(network):
    """Scores rebuilt the slow way: each unit's slope by a central difference of the masked forward, one at a time."""
    from edvit_tf.pruning.forward import forward, mask_shapes
    from edvit_tf.pruning.importance import kl_divergence, linearised

    _, weights, x = network
    doubles = {name: value.astype(np.float32) for name, value in weights.items()}
    for stage in ("residual", "attention", "ffn"):
        scores = linearised(CONFIG, weights, x, stage, batch_size=4)
        for name, width in mask_shapes(CONFIG, stage).items():
            z = np.asarray(forward(CONFIG, doubles, x), np.float64)
            for unit in range(0, width, 5):
                step = 1e-2
                up, down = np.ones(width, np.float32), np.ones(width, np.float32)
                up[unit] += step
                down[unit] -= step
                slope = (np.asarray(forward(CONFIG, doubles, x, {name: up}), np.float64)
                         - np.asarray(forward(CONFIG, doubles, x, {name: down}), np.float64)) / (2 * step)
                expected = kl_divergence(z, z - slope).mean()
                assert scores[name][unit] == pytest.approx(expected, rel=0.02, abs=2e-6), (name, unit)


def test_linearised_scores_do_not_depend_on_the_batch_size(network):
    from edvit_tf.pruning.importance import linearised

    _, weights, x = network
    one, all_six = (linearised(CONFIG, weights, x, "attention", batch_size=b) for b in (1, 6))
    for name in one:
        np.testing.assert_allclose(one[name], all_six[name], rtol=1e-3, atol=1e-8)


def test_linearised_ranks_like_leave_one_out(network):
    """The yardstick of section 4: the exact KL of removing each FFN unit, Spearman above 0.9."""
    from scipy.stats import spearmanr

    from edvit_tf.pruning.forward import forward
    from edvit_tf.pruning.importance import kl_divergence, linearised

    _, weights, x = network
    scores = linearised(CONFIG, weights, x, "ffn")["block_01.ffn"]
    z = np.asarray(forward(CONFIG, weights, x), np.float64)
    exact = []
    for unit in range(20):
        mask = np.ones(20, np.float32)
        mask[unit] = 0
        masked = np.asarray(forward(CONFIG, weights, x, {"block_01.ffn": mask}), np.float64)
        exact.append(kl_divergence(z, masked).mean())
    assert spearmanr(scores, exact).statistic > 0.9


def test_group_head_takes_rows_and_the_mean_of_the_rest(network):
    _, weights, _ = network
    config, out = group_head(CONFIG, weights, (3, 0))
    assert config.num_classes == 3
    np.testing.assert_array_equal(out["head.kernel"][:, :2], weights["head.kernel"][:, [3, 0]])
    np.testing.assert_allclose(out["head.bias"][2], weights["head.bias"][[1, 2]].mean(), rtol=1e-6)
    config, out = group_head(CONFIG, weights, (0, 1, 2, 3))
    assert config == CONFIG and out["head.kernel"].shape == (12, 4)  # N = 1 has no "other"
    with pytest.raises(ValueError, match="distinct rows"):
        group_head(CONFIG, weights, (0, 9))


@pytest.mark.parametrize(
    "heads, kept, sizes", [(12, 3, [4, 4, 4]), (12, 5, [3, 3, 2, 2, 2]), (6, 6, [1] * 6), (7, 1, [7])]
)
def test_head_groups(heads, kept, sizes):
    assert [len(g) for g in head_groups(heads, kept)] == sizes


def test_top_keeps_the_highest_in_order():
    assert top(np.array([0.1, 5.0, 0.1, 2.0]), 3).tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="keep between 1"):
        top(np.ones(3), 4)
    kept = top_in_heads(np.array([0, 9, 8, 0, 7, 0, 0, 6.0]), [np.array([0, 1]), np.array([2, 3])], 2)
    assert kept.tolist() == [[1, 2], [4, 7]]
