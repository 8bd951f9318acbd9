"""Heads of fewer directions: exact where nothing is lost, best where something is."""

import numpy as np
import pytest
import tensorflow as tf

from edvit_tf.config import PruneConfig
from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.cuts import cut_attention
from edvit_tf.models.vit.low_rank import cut_to_directions
from edvit_tf.models.weights import initial_weights
from edvit_tf.pruning.stage import prune_stage

CONFIG = ViTConfig(
    image_shape=(16, 16, 1),
    patch_size=4,
    num_layers=2,
    hidden_dim=24,
    num_heads=3,
    head_dim=8,
    mlp_dim=32,
    num_classes=4,
)


def made(seed=0):
    """Weights with biases that are not zero, and inputs (24, 16, 16, 1)."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, value in initial_weights(CONFIG, seed).items():
        noise = rng.normal(0, 0.3, value.shape)
        weights[name] = (value + noise * name.endswith((".kernel", ".bias"))).astype(np.float32)
    x = rng.uniform(0, 255, (24, *CONFIG.image_shape)).astype(np.float32)
    return weights, x


def logits(config, weights, x):
    return vit.forward(config, vit.as_constants(weights), tf.constant(x)).numpy()


def all_heads(count=3):
    return [np.arange(count)] * CONFIG.num_layers


def test_as_many_directions_as_dims_change_nothing():
    weights, x = made()
    config, after = cut_to_directions(CONFIG, weights, all_heads(), 8, x, ridge=1e-4)
    assert config == CONFIG
    np.testing.assert_allclose(logits(config, after, x), logits(CONFIG, weights, x), atol=2e-4)


def test_heads_of_low_rank_lose_nothing_by_a_cut_to_that_rank():
    """Queries and keys of rank 3, values of rank 2, spread over all eight dims."""
    weights, x = made()
    rng = np.random.default_rng(1)
    for i in range(CONFIG.num_layers):
        for part, rank in (("key", 3), ("value", 2)):
            name = f"block_{i:02d}.attention.{part}"
            for head in range(3):
                own = slice(8 * head, 8 * head + 8)
                turn = rng.normal(size=(8, rank)) @ rng.normal(size=(rank, 8)) / 8
                for kind in ("kernel", "bias"):
                    value = weights[f"{name}.{kind}"]
                    value[..., own] = value[..., own] @ turn

    config, after = cut_to_directions(CONFIG, weights, all_heads(), 3, x, ridge=1e-6)

    assert config == CONFIG.replace(head_dim=3)
    assert after["block_00.attention.query.kernel"].shape == (24, 9)
    assert after["block_00.attention.output.kernel"].shape == (9, 24)
    np.testing.assert_allclose(logits(config, after, x), logits(CONFIG, weights, x), atol=2e-3)
    # dims as they stand lose much of it
    kept = [np.array([[8 * h, 8 * h + 1, 8 * h + 2] for h in range(3)])] * 2
    config, worse = cut_attention(CONFIG, weights, [(one, one) for one in kept])
    assert np.abs(logits(config, worse, x) - logits(CONFIG, weights, x)).max() > 0.05


def test_directions_are_nearer_than_any_dims():
    """The first block's attention: against every choice of the same dims in each head of one
    seed's draws.
    """
    weights, x = made()
    config, after = cut_to_directions(CONFIG, weights, all_heads(), 4, x, ridge=1e-4)

    def answers(of, its):
        constants = vit.as_constants(its)
        block = vit.block_weights(constants, 0)
        return vit.attention(of, block, vit.embed(of, constants, x)).numpy()

    exact = answers(CONFIG, weights)
    centred = exact - exact.mean(axis=(0, 1))
    error = ((answers(config, after) - exact) ** 2).sum() / (centred**2).sum()

    rng = np.random.default_rng(2)
    others = []
    for _ in range(30):
        kept = []
        for _ in range(2):
            dims = [8 * head + np.sort(rng.permutation(8)[:4]) for head in range(3)]
            kept.append((np.array(dims), np.array(dims)))
        narrow, cut = cut_attention(CONFIG, weights, kept)
        others.append(((answers(narrow, cut) - exact) ** 2).sum() / (centred**2).sum())
    assert error < min(others), (error, min(others))


def test_what_a_lost_head_added_on_the_mean_stays():
    weights, x = made()
    heads = [np.array([0, 2])] * 2
    config, after = cut_to_directions(CONFIG, weights, heads, 8, x, ridge=1e-6)
    assert (config.num_heads, config.head_dim) == (2, 8)

    constants = vit.as_constants(weights)
    tokens = vit.embed(CONFIG, constants, x)
    before = vit.attention(CONFIG, vit.block_weights(constants, 0), tokens).numpy()
    block = vit.block_weights(vit.as_constants(after), 0)
    now = vit.attention(config, block, tokens).numpy()
    np.testing.assert_allclose(now.mean(axis=(0, 1)), before.mean(axis=(0, 1)), atol=1e-4)


def test_keys_that_are_all_alike_say_nothing():
    weights, x = made()
    for i in range(CONFIG.num_layers):
        weights[f"block_{i:02d}.attention.key.kernel"][:, :8] = 0
    config, after = cut_to_directions(CONFIG, weights, all_heads(), 4, x)
    assert all(np.isfinite(value).all() for value in after.values())
    assert np.isfinite(logits(config, after, x)).all()


@pytest.mark.parametrize("heads", ["keep", "half", "whole", "merge"])
@pytest.mark.parametrize("attention", ["dims", "directions"])
def test_a_stage_by_every_choice(heads, attention):
    """Shapes are the target's, the repair helps on its own samples, and a second run is equal."""
    weights, x = made()
    target = CONFIG.pruned(1, 4, heads)
    target = CONFIG.replace(num_heads=target.num_heads, head_dim=target.head_dim)
    options = PruneConfig(heads=heads, attention=attention)

    done = prune_stage(CONFIG, weights, x, "attention", target, options)
    again = prune_stage(CONFIG, weights, x, "attention", target, options)

    assert done.config == target
    expected = logits(CONFIG, weights, x)
    errors = [
        np.square(logits(done.config, w, x) - expected).mean() for w in (done.cut, done.weights)
    ]
    assert errors[1] < errors[0]
    for name, value in done.weights.items():
        np.testing.assert_array_equal(value, again.weights[name])


def test_half_are_twice_as_many_heads_of_half_of_the_dims():
    wide = CONFIG.replace(num_heads=12, head_dim=64)
    found = {}
    for kept in range(1, 13):
        one = wide.pruned(kept, 4, "half")
        found[kept] = (one.num_heads, one.head_dim)
    assert found[1] == (2, 32) and found[2] == (4, 32) and found[5] == (10, 32)
    # as all heads stay from there on, it is what keep is
    for kept in range(6, 13):
        assert wide.pruned(kept, 4, "half") == wide.pruned(kept, 4, "keep")
