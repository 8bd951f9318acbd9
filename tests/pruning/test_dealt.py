"""Cuts that are dealt out between the members of a fleet."""

import numpy as np
import pytest

from edvit_tf.config import HEADS, PruneConfig
from edvit_tf.models.vit.cuts import kept_dims
from edvit_tf.pruning.dealt import SHARED, _dealt_masks, dealt_cuts, dealt_scores
from edvit_tf.pruning.stage import prune_stage
from tests.support.tiny_vit import CONFIG, logits, random_inputs, random_weights

OPTIONS = PruneConfig(heads="keep")
GROUPS = [(0, 1), (2,), (3,)]


def kept(scores, count):
    return [set(np.argsort(-own, kind="stable")[:count].tolist()) for own in scores]


def test_members_that_want_the_same_choose_in_turn():
    same = np.array([4.0, 3.0, 2.0, 1.0])
    assert kept(dealt_scores([same, same], shared=0), 2) == [{0, 3}, {1, 2}]

    # what is best on average is everybody's
    for units in kept(dealt_scores([same, same], shared=1), 2):
        assert 0 in units and len(units) == 2

    # different wishes are granted
    wishes = [np.array([9.0, 1, 1, 5]), np.array([1.0, 9, 5, 1])]
    assert kept(dealt_scores(wishes, shared=0), 2) == [{0, 3}, {1, 2}]


@pytest.mark.parametrize("count", [1, 4, 7, 20])
def test_however_many_are_kept_each_unit_is_kept_about_as_often(count):
    rng = np.random.default_rng(0)
    scores = [rng.random(20) for _ in range(5)]
    found = dealt_scores(scores, shared=0)
    assert all(sorted(own) == list(range(1, 21)) for own in found)
    times = np.bincount([unit for units in kept(found, count) for unit in units], minlength=20)
    assert times.sum() == 5 * count and times.max() <= -(-5 * count // 20) + 1


@pytest.fixture(scope="module")
def base():
    weights = random_weights()
    inputs = [random_inputs(seed=seed, count=8) for seed in range(3)]
    return weights, inputs, random_inputs(count=24)


def test_members_keep_other_units_of_one_stream(base):
    weights, inputs, mending = base
    target = CONFIG.pruned(1, CONFIG.num_classes, "keep")
    members = dealt_cuts(CONFIG, weights, target, GROUPS, inputs, OPTIONS, mending=mending)

    assert len(members) == 3
    for own in members:
        assert logits(target, own, mending).shape == (24, 4)
        # the stream is one for all
        np.testing.assert_array_equal(own["class_token.token"], members[0]["class_token.token"])
    for name in ("block_00.mlp.expand.kernel", "block_01.attention.value.kernel"):
        assert (members[0][name] != members[1][name]).any(), name
        assert (members[1][name] != members[2][name]).any(), name


def test_what_is_as_wide_as_before_is_left_as_it_is(base):
    weights, inputs, mending = base
    members = dealt_cuts(CONFIG, weights, CONFIG, GROUPS, inputs, OPTIONS, mending=mending)
    for own in members:
        for name, value in weights.items():
            np.testing.assert_array_equal(own[name], value)


@pytest.mark.parametrize("heads", HEADS)
def test_one_member_of_all_classes_has_the_cut_of_one_model(base, heads):
    weights, _, mending = base
    target = CONFIG.pruned(1, CONFIG.num_classes, heads)
    options = OPTIONS.replace(heads=heads)
    every = [tuple(range(CONFIG.num_classes))]
    (one,) = dealt_cuts(CONFIG, weights, target, every, [mending], options, mending=mending)

    config, plain = CONFIG, weights
    for stage in ("residual", "attention", "ffn"):
        done = prune_stage(config, plain, mending, stage, target, options)
        config, plain = done.config, done.weights
    for name, value in plain.items():
        np.testing.assert_allclose(one[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_other_architectures_are_dealt_too():
    from tests.support import tiny_mlp

    rng = np.random.default_rng(0)
    with tiny_mlp.mlp_architecture():
        config = tiny_mlp.Config((4, 4, 1), 16, 8, 4)
        shapes = {"hidden": (16, 16), "features": (16, 8), "head": (8, 4)}
        weights = {}
        for layer, shape in shapes.items():
            weights[f"{layer}.kernel"] = rng.normal(size=shape).astype(np.float32)
            weights[f"{layer}.bias"] = rng.normal(size=shape[1]).astype(np.float32)
        x = rng.uniform(0, 255, (12, 4, 4, 1)).astype(np.float32)
        target = config.pruned(1, 4)
        members = dealt_cuts(config, weights, target, GROUPS, [x] * 3, OPTIONS, mending=x)
    kernels = [own["hidden.kernel"] for own in members]
    assert all(own.shape == (16, 4) for own in kernels)
    assert (kernels[0] != kernels[1]).any()


def test_where_heads_are_merged_units_are_dealt_by_the_run_that_becomes_one(base):
    weights, inputs, mending = base
    target = CONFIG.pruned(1, CONFIG.num_classes, "merge")
    assert (target.num_heads, target.head_dim) == (1, CONFIG.head_dim)
    options = OPTIONS.replace(heads="merge")
    members = dealt_cuts(CONFIG, weights, target, GROUPS, inputs, options, mending=mending)
    for own in members:
        assert logits(target, own, mending).shape == (24, 4)
        assert own["block_00.attention.value.kernel"].shape == (target.hidden_dim, 4)
    for part in ("query", "value"):
        name = f"block_00.attention.{part}.kernel"
        columns = [{column.tobytes() for column in own[name].T} for own in members]
        assert set.intersection(*columns) and len(set(map(frozenset, columns))) == 3, part


def test_the_strongest_of_merged_heads_are_everybodys_wherever_they_are():
    """All that counts is in one of three heads: of each head the same share would leave it out."""
    config = CONFIG.replace(num_heads=3, head_dim=8)
    target = config.pruned(1, config.num_classes, "merge")
    rng = np.random.default_rng(0)
    names = [f"block_{i:02d}.{part}" for i in range(2) for part in ("qk", "v")]
    scores = [{name: rng.random(24) + 9 * (np.arange(24) < 4) for name in names} for _ in GROUPS]
    dealt = _dealt_masks(config, target, "attention", scores, "merge")
    cut = [kept_dims(config, own, target, "merge") for own in dealt]
    for block, name in ((0, "block_00.qk"), (1, "block_01.qk")):
        of_all = [set(own[block][0].ravel().tolist()) for own in cut]
        mean = np.mean([own[name] / own[name].sum() for own in scores], axis=0)
        best = set(np.argsort(-mean)[: int(SHARED * target.head_dim)].tolist())
        assert best and best <= set.intersection(*of_all)
        assert len(set(map(frozenset, of_all))) == len(GROUPS)
