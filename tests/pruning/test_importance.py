"""Scores against independent references: a loop that rebuilds and reruns the model, autodiff
written the slow way.
"""

import numpy as np
import pytest

from edvit_tf.config import SCORES
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.pruning.divergence import half_variance, kl_divergence
from tests.support.tiny_vit import CONFIG, logits, random_inputs, random_weights

STAGES = ("residual", "attention", "ffn")
POOLS = ("cls", "cls_mean")


@pytest.fixture(scope="module", params=POOLS)
def network(request):
    config = CONFIG.replace(pool=request.param)
    return config, random_weights(config), random_inputs(config)


def without(config: ViTConfig, weights: dict, name: str, unit: int) -> dict:
    """Weights of the model with one unit removed: zeros wherever it is written or read."""
    out = {key: value.copy() for key, value in weights.items()}
    block, _, part = name.partition(".")
    if name == "residual":
        for key in out:
            layer = key.rsplit(".", 1)[0]
            if layer in (
                "patch_embedding",
                "class_token",
                "position_embedding",
                "norm",
            ) or layer.endswith((".norm", "attention.output", "mlp.contract")):
                out[key][..., unit] = 0
    elif part == "qk":
        for kind in ("kernel", "bias"):
            out[f"{block}.attention.query.{kind}"][..., unit] = 0
    elif part == "v":
        out[f"{block}.attention.output.kernel"][unit] = 0
    else:
        out[f"{block}.mlp.contract.kernel"][unit] = 0
    return out


@pytest.mark.parametrize("stage", STAGES)
def test_exact_equals_a_loop_that_rebuilds_and_reruns_the_model(network, stage):
    from edvit_tf.pruning.importance import importance

    config, weights, x = network
    teacher = logits(config, weights, x).astype(np.float64)
    for name, scores in importance(config, weights, x, stage, "exact").items():
        looped = [
            kl_divergence(teacher, logits(config, without(config, weights, name, unit), x)).mean()
            for unit in range(0, len(scores), 3)
        ]
        np.testing.assert_allclose(
            scores[::3], looped, rtol=2e-3, atol=5e-8, err_msg=name
        )  # float32 logits


def test_exact_of_directions_equals_exact_of_channels_in_a_turned_model(network):
    """With the unit vectors as directions, in another order, the channels' scores come out in that
    order.
    """
    from edvit_tf.pruning.leave_one_out import exact

    config, weights, x = network
    order = np.random.default_rng(3).permutation(12)
    plain = exact(config, weights, x, "residual")["residual"]
    turned = exact(config, weights, x, "residual", basis=np.eye(12)[:, order])["residual"]
    np.testing.assert_allclose(turned, plain[order], rtol=2e-3, atol=5e-8)


def test_exact_of_some_units_only(network):
    from edvit_tf.pruning.leave_one_out import exact

    config, weights, x = network
    every = exact(config, weights, x, "ffn")
    some = exact(config, weights, x, "ffn", units={"block_01.ffn": np.array([3, 17])})
    assert set(some) == {"block_01.ffn"}
    np.testing.assert_allclose(
        some["block_01.ffn"][[3, 17]], every["block_01.ffn"][[3, 17]], rtol=2e-3, atol=5e-8
    )
    assert np.isnan(some["block_01.ffn"]).sum() == 18


@pytest.mark.parametrize("stage", STAGES)
def test_linearised_and_fisher_equal_autodiff_written_the_slow_way(network, stage):
    """One sample and one output at a time, every unit's slope from the Jacobian of a masked forward
    pass.
    """
    import tensorflow as tf

    from edvit_tf.models.vit.functions import forward, mask_shapes
    from edvit_tf.pruning.importance import importance

    config, weights, x = network
    shapes = mask_shapes(config, stage)
    linearised, fisher = ({name: [] for name in shapes} for _ in range(2))
    for sample in x:
        masks = {name: tf.ones(width) for name, width in shapes.items()}
        slopes = {name: [] for name in shapes}
        for row in range(config.num_classes):
            with tf.GradientTape() as tape:
                tape.watch(masks)
                z = forward(config, weights, sample[None], masks)[0]
                answer = z[row]
            for name, slope in tape.gradient(answer, masks).items():
                slopes[name].append(slope.numpy())
        z, p = z.numpy().astype(np.float64), tf.nn.softmax(z).numpy().astype(np.float64)
        for name in shapes:
            change = np.stack(slopes[name], axis=-1).astype(np.float64)  # (units, C)
            linearised[name].append(kl_divergence(z[None], z[None] - change))
            fisher[name].append((change**2 @ p - (change @ p) ** 2) / 2)
    for method, slow in (("linearised", linearised), ("fisher", fisher)):
        for name, fast in importance(config, weights, x, stage, method).items():
            np.testing.assert_allclose(
                fast, np.mean(slow[name], axis=0), rtol=2e-3, atol=1e-8, err_msg=name
            )


@pytest.mark.parametrize("method", ["linearised", "fisher"])
def test_slopes_do_not_depend_on_the_batch_size(network, method):
    from edvit_tf.pruning.importance import importance

    config, weights, x = network
    one, four, six = (
        importance(config, weights, x, "attention", method, batch_size=b) for b in (1, 4, 6)
    )
    for name in one:
        np.testing.assert_allclose(one[name], six[name], rtol=1e-3, atol=1e-8)
        np.testing.assert_allclose(four[name], six[name], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("stage", STAGES)
def test_exact_does_not_depend_on_the_batch_sizes(network, stage):
    from edvit_tf.pruning.leave_one_out import exact

    config, weights, x = network
    small, large = (
        exact(config, weights, x, stage, sample_batch=b, rows=r) for b, r in ((1, 1), (4, 64))
    )
    for name in small:
        np.testing.assert_allclose(small[name], large[name], rtol=2e-3, atol=5e-8)


def test_the_same_scores_twice(network):
    from edvit_tf.pruning.importance import importance

    config, weights, x = network
    for method in SCORES:
        if method == "apoz":  # a GELU has no zeros to count
            continue
        for stage in STAGES:
            first, second = (
                importance(config, weights, x, stage, method, seed=4) for _ in range(2)
            )
            for name in first:
                np.testing.assert_array_equal(first[name], second[name])


def test_all_stages_in_one_pass_equal_one_at_a_time(network):
    from edvit_tf.pruning.importance import importance
    from edvit_tf.pruning.slopes import from_slopes

    config, weights, x = network
    together = from_slopes(config, weights, x)["fisher"]
    for stage in STAGES:
        for name, scores in importance(config, weights, x, stage, "fisher").items():
            np.testing.assert_allclose(together[name], scores, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("stage, least", [("ffn", 0.9), ("attention", 0.7), ("residual", 0.6)])
def test_linearised_and_fisher_rank_like_leave_one_out(stage, least):
    from scipy.stats import spearmanr

    from edvit_tf.pruning.importance import importance

    weights, x = random_weights(), random_inputs()
    exact = importance(CONFIG, weights, x, stage, "exact")
    for method in ("linearised", "fisher"):
        scores = importance(CONFIG, weights, x, stage, method)
        agreement = np.mean([spearmanr(scores[name], exact[name]).statistic for name in exact])
        assert agreement > least, (method, agreement)


def test_magnitude_is_the_norm_of_what_writes_and_reads():
    from edvit_tf.pruning.importance import importance

    weights, none = random_weights(), random_inputs(count=0)
    ffn = importance(CONFIG, weights, none, "ffn", "magnitude")["block_01.ffn"]
    name = "block_01.mlp"
    assert ffn[7] == pytest.approx(
        np.linalg.norm(weights[f"{name}.expand.kernel"][:, 7])
        * np.linalg.norm(weights[f"{name}.contract.kernel"][7])
    )
    zeroed = without(CONFIG, weights, "block_00.v", 5)
    assert importance(CONFIG, zeroed, none, "attention", "magnitude")["block_00.v"][5] == 0
    zeroed = without(CONFIG, weights, "residual", 5)
    residual = importance(CONFIG, zeroed, none, "residual", "magnitude")["residual"]
    assert residual[5] == 0 and (np.delete(residual, 5) > 0).all()


def test_half_variance_is_kl_to_second_order():
    rng = np.random.default_rng(0)
    z, change = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    for step in (1e-2, 1e-3):
        np.testing.assert_allclose(
            half_variance(z, step * change), kl_divergence(z, z - step * change), rtol=20 * step
        )


def test_bad_requests_are_refused():
    from edvit_tf.pruning.importance import importance

    weights = random_weights()
    with pytest.raises(ConfigError, match="'taylor'.*linearised, fisher, exact, magnitude, random"):
        importance(CONFIG, weights, random_inputs(), "ffn", "taylor")
    with pytest.raises(ValueError, match="no calibration samples"):
        importance(CONFIG, weights, random_inputs(count=0), "ffn")
    for method in SCORES:
        with pytest.raises(ValueError, match="'mlp'.*residual, attention, ffn"):
            importance(CONFIG, weights, random_inputs(), "mlp", method)


MANY = CONFIG.replace(num_classes=60)


def scores_of(x, **options):
    from edvit_tf.pruning.slopes import from_slopes

    weights = random_weights(MANY)
    return from_slopes(MANY, weights, x, ("ffn", "attention"), **options)


def test_of_many_classes_the_scores_are_an_estimate_that_ranks_units_as_all_passes_do():
    from scipy.stats import spearmanr

    x = random_inputs(MANY, count=48)
    truth = scores_of(x, exact_classes=60)["fisher"]
    found = scores_of(x, seed=3)["linearised"]
    for name, units in truth.items():
        assert not np.array_equal(units, found[name])
        assert spearmanr(units, found[name]).statistic > 0.9, name
        # without a bias: of all units together the errors nearly cancel
        assert found[name].sum() == pytest.approx(units.sum(), rel=0.1), name


def test_the_draws_follow_the_seed_and_not_the_batches():
    x = random_inputs(MANY, count=6)
    one = scores_of(x, seed=1)["fisher"]
    for name, units in scores_of(x, seed=1, batch_size=4)["fisher"].items():
        np.testing.assert_allclose(units, one[name], rtol=1e-4)
    other = scores_of(x, seed=2)["fisher"]
    assert all(not np.array_equal(units, other[name]) for name, units in one.items())


def test_up_to_a_number_of_classes_the_draws_change_nothing():
    from edvit_tf.pruning.slopes import DRAWS, EXACT_CLASSES, backward_passes, from_slopes

    assert backward_passes(EXACT_CLASSES) == EXACT_CLASSES
    assert backward_passes(EXACT_CLASSES + 1) == DRAWS
    config = CONFIG.replace(num_classes=EXACT_CLASSES)
    weights, x = random_weights(config), random_inputs(config, count=3)
    one = from_slopes(config, weights, x, ("ffn",), seed=1)
    every = from_slopes(config, weights, x, ("ffn",), seed=2, exact_classes=1000)
    for kind, scores in one.items():
        for name, units in scores.items():
            np.testing.assert_array_equal(units, every[kind][name])
