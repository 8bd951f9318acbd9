"""Repairs and directions: exact where the kept units determine the removed ones, and nearer where
they do not.
"""

import numpy as np
import pytest

from edvit_tf.models.vit import rotation
from edvit_tf.models.vit.cuts import cut_attention, cut_ffn, kept_dims
from edvit_tf.models.vit.repair import repair, ridge_solution
from tests.support.tiny_vit import CONFIG, logits, random_inputs, random_weights

POOLS = ("cls", "cls_mean")


@pytest.fixture(scope="module")
def network():
    return random_weights(), random_inputs(count=24)


def test_ridge_solution_is_least_squares_and_shrinks_to_the_start():
    rng = np.random.default_rng(0)
    x, y, start = rng.normal(size=(50, 6)), rng.normal(size=(50, 3)), rng.normal(size=(6, 3))
    expected = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(ridge_solution(x.T @ x, x.T @ y, start, 1e-12), expected, rtol=1e-6)
    np.testing.assert_allclose(ridge_solution(x.T @ x, x.T @ y, start, 1e9), start, rtol=1e-6)


def test_ffn_units_that_others_determine_are_made_up_for_exactly(network):
    """Units 10..19 repeat units 0..9: cut away, half of the branch is missing; the repair doubles
    what is left.
    """
    weights, x = dict(network[0]), network[1]
    for i in range(2):
        for part in ("kernel", "bias"):
            expand = weights[f"block_{i:02d}.mlp.expand.{part}"].copy()
            expand[..., 10:] = expand[..., :10]
            weights[f"block_{i:02d}.mlp.expand.{part}"] = expand
    after = cut_ffn(CONFIG, weights, [np.arange(10)] * 2)
    whole = logits(CONFIG, weights, x)
    assert np.abs(logits(*after, x) - whole).max() > 0.1
    repaired = repair((CONFIG, weights), after, x, "ffn", ridge=1e-9)
    np.testing.assert_allclose(logits(after[0], repaired, x), whole, rtol=1e-2, atol=2e-3)


def test_v_dims_that_others_determine_are_made_up_for_exactly(network):
    weights, x = dict(network[0]), network[1]
    for i in range(2):
        for part in ("kernel", "bias"):
            value = weights[f"block_{i:02d}.attention.value.{part}"].copy()
            value[..., 2::4], value[..., 3::4] = value[..., 0::4], value[..., 1::4]
            weights[f"block_{i:02d}.attention.value.{part}"] = value
    small = np.array([[0, 1], [4, 5], [8, 9]])
    heads = [(small, small)] * 2
    for i in range(2):  # the q/k pairs that go are silent, so that only v is lost
        for part in ("kernel", "bias"):
            query = weights[f"block_{i:02d}.attention.query.{part}"].copy()
            query[..., 2::4] = query[..., 3::4] = 0
            weights[f"block_{i:02d}.attention.query.{part}"] = query
    after = cut_attention(CONFIG, weights, heads)
    whole = logits(CONFIG, weights, x)
    assert np.abs(logits(*after, x) - whole).max() > 0.1
    repaired = repair((CONFIG, weights), after, x, "attention", ridge=1e-9)
    np.testing.assert_allclose(logits(after[0], repaired, x), whole, rtol=1e-2, atol=2e-3)


def test_queries_carry_keys_that_others_determine_exactly(network):
    """Keys 2, 3 of each head are a mixture of keys 0, 1, and a constant, which no softmax sees."""
    from edvit_tf.models.vit.queries import repair_queries

    weights, x = dict(network[0]), network[1]
    mixture, rng = np.array([[0.5, -1.0], [2.0, 0.3]], np.float32), np.random.default_rng(5)
    for i in range(2):
        name = f"block_{i:02d}.attention.key"
        kernel, bias = weights[f"{name}.kernel"].copy(), weights[f"{name}.bias"].copy()
        for head in range(3):
            kernel[:, 4 * head + 2 : 4 * head + 4] = kernel[:, 4 * head : 4 * head + 2] @ mixture
            bias[4 * head + 2 : 4 * head + 4] = rng.normal(size=2)
        weights |= {f"{name}.kernel": kernel, f"{name}.bias": bias}
    scores = {
        f"block_{i:02d}.{part}": np.tile([4.0, 3.0, 2.0, 1.0], 3)
        for i in range(2)
        for part in ("qk", "v")
    }
    target = CONFIG.pruned(2, 4, "keep")
    kept = kept_dims(CONFIG, scores, target, "keep")
    all_v = [(qk, np.arange(12).reshape(3, 4)[:, :2]) for qk, _ in kept]
    for i in range(2):
        output = weights[f"block_{i:02d}.attention.output.kernel"].copy()
        output[2::4] = output[3::4] = (
            0  # the v dims that go are silent, so that only q/k pairs are lost
        )
        weights[f"block_{i:02d}.attention.output.kernel"] = output
    after = cut_attention(CONFIG, weights, all_v)
    whole = logits(CONFIG, weights, x)
    assert np.abs(logits(*after, x) - whole).max() > 0.05
    repaired = repair_queries((CONFIG, weights), after, kept, x, ridge=1e-9)
    np.testing.assert_allclose(logits(after[0], repaired, x), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "stage, options",
    [
        ("ffn", {}),
        ("attention", {"heads": "merge"}),
        ("attention", {"heads": "keep"}),
        ("attention", {"heads": "whole"}),
        ("residual", {"residual": "directions"}),
    ],
)
def test_a_repair_brings_the_answers_nearer_to_what_they_were(network, stage, options):
    """Logits of the cut model against the model before, on samples that the repair has not seen."""
    from edvit_tf.config import PruneConfig
    from edvit_tf.pruning.stage import prune_stage

    weights, _ = network
    calibration, unseen = random_inputs(count=64, seed=7), random_inputs(count=32, seed=8)
    options = PruneConfig(**options)
    done = prune_stage(
        CONFIG, weights, calibration, stage, CONFIG.pruned(2, 4, options.heads), options
    )
    whole = logits(CONFIG, weights, unseen)
    before, after = (
        np.square(logits(done.config, w, unseen) - whole).mean() for w in (done.cut, done.repaired)
    )
    assert after < 0.8 * before, (before, after)


def test_a_repair_of_cut_channels_brings_the_stream_nearer_to_what_it_was(network):
    """Tokens after the last block against those of the model before, on the channels that
    stayed.
    """
    from edvit_tf.models.vit import functions as vit
    from edvit_tf.models.vit.cuts import cut_residual

    def tokens(config, weights, x):
        x = vit.embed(config, weights, x)
        for i in range(config.num_layers):
            x = x + vit.attention(config, vit.block_weights(weights, i), x)
            x = x + vit.mlp(config, vit.block_weights(weights, i), x)
        return x.numpy()

    weights, keep = network[0], np.arange(0, 12, 2)
    calibration, unseen = random_inputs(count=64, seed=7), random_inputs(count=32, seed=8)
    config, small = cut_residual(CONFIG, weights, keep)
    repaired = repair(
        (CONFIG, weights), (config, small), calibration, "residual", spread=np.eye(12)[:, keep]
    )
    whole = tokens(CONFIG, weights, unseen)[..., keep]
    before, after = (np.square(tokens(config, w, unseen) - whole).mean() for w in (small, repaired))
    assert after < 0.5 * before, (before, after)


def test_a_repair_does_not_depend_on_the_batch_size(network):
    weights, x = network
    after = cut_ffn(CONFIG, weights, [np.arange(8)] * 2)
    one, all_of_them = (repair((CONFIG, weights), after, x, "ffn", batch_size=b) for b in (5, 24))
    for name in one:
        np.testing.assert_allclose(one[name], all_of_them[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pool", POOLS)
def test_folded_norms_are_the_same_function(pool):
    config = CONFIG.replace(pool=pool)
    weights, x = random_weights(config), random_inputs()
    folded = rotation.fold_norms(config, weights)
    assert all((value == 1).all() for name, value in folded.items() if name.endswith("gamma"))
    assert abs(folded["block_01.mlp.contract.kernel"].sum(axis=-1)).max() < 1e-5
    np.testing.assert_allclose(
        logits(config, folded, x), logits(config, weights, x), rtol=1e-4, atol=1e-5
    )


def test_all_directions_change_nothing(network):
    """d - 1 directions in d channels: LayerNorm's own freedom, so the turned model answers as
    before.
    """
    weights, x = network
    folded = rotation.fold_norms(CONFIG, weights)
    basis = rotation.principal_basis(CONFIG, folded, x)
    np.testing.assert_allclose(basis.T @ basis, np.eye(11), atol=1e-9)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-9)
    config, turned, spread = rotation.cut_directions(CONFIG, folded, basis)
    assert config.hidden_dim == 12 and spread.shape == (12, 12)
    np.testing.assert_allclose(
        logits(config, turned, x), logits(CONFIG, weights, x), rtol=1e-3, atol=1e-4
    )


def test_a_stream_that_fills_few_directions_is_cut_without_loss():
    """All writers put the stream into 5 directions: 6 channels of 12 carry it exactly, no channel
    subset could.
    """
    weights, x = dict(random_weights()), random_inputs(count=24)
    rng = np.random.default_rng(2)
    centred = rng.normal(size=(12, 5)) - rng.normal(size=(12, 5)).mean(axis=0)
    centred -= centred.mean(axis=0)
    plane = np.linalg.qr(centred)[0]
    folded = rotation.fold_norms(CONFIG, weights)
    for name in folded:
        if (
            name.rsplit(".", 1)[0] in ("patch_embedding", "class_token", "position_embedding")
            or ".output." in name
            or (".contract." in name)
        ):
            folded[name] = (folded[name] @ plane @ plane.T).astype(np.float32)
    basis = rotation.principal_basis(CONFIG, folded, x)
    config, small, _ = rotation.cut_directions(CONFIG, folded, basis[:, :5])
    assert config.hidden_dim == 6
    np.testing.assert_allclose(
        logits(config, small, x), logits(CONFIG, folded, x), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("width", [2, 3, 8, 17])
def test_zero_sum_basis(width):
    basis = rotation.zero_sum_basis(width)
    np.testing.assert_allclose(basis.T @ basis, np.eye(width - 1), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)
