"""The fused steps against Keras's optimizers, option by option."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from edvit_tf.training.optimizers import forget, optimizer, orthogonalised, stock_optimizer

SHAPES = {
    "block_00.mlp.expand/kernel": (6, 10),
    "block_00.mlp.contract/kernel": (10, 6),
    "block_00.attention.key/kernel": (6, 6),
    "block_00.mlp.expand/bias": (10,),
    "patch_embedding/kernel": (2, 2, 1, 6),
    "position_embedding/embedding": (1, 5, 6),
    "norm/gamma": (6,),
    "head/kernel": (6, 3),
    "feature_map/kernel": (6, 4),
}
DECAY = 0.05


def made_variables() -> list[keras.Variable]:
    rng = np.random.default_rng(0)
    made = []
    for path, shape in SHAPES.items():
        layer, name = path.split("/")
        with keras.name_scope(layer):
            made.append(keras.Variable(rng.normal(size=shape).astype(np.float32), name=name))
    return made


def stepped(chosen: keras.optimizers.Optimizer, variables: list, steps: int = 4) -> list:
    """Their values after some steps, with another rate and other gradients in each."""

    @tf.function
    def step(*gradients):
        chosen.apply_gradients(zip(gradients, variables, strict=True))

    rng = np.random.default_rng(1)
    for number in range(steps):
        chosen.learning_rate = 0.01 / (number + 1)
        # Some above norm 1, which is clipped, some below.
        sizes = rng.uniform(0.01, 1.0, len(variables))
        gradients = [
            tf.constant(rng.normal(0, size, v.shape), tf.float32)
            for v, size in zip(variables, sizes, strict=True)
        ]
        step(*gradients)
    chosen.finalize_variable_values(variables)
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("name", ["adamw", "adam", "muon"])
def test_a_fused_step_is_keras_step(name, ema):
    ours, theirs = made_variables(), made_variables()
    assert [v.path for v in ours] == list(SHAPES)
    chosen = optimizer(name, 0.0 if name == "adam" else DECAY, ema)
    chosen.build(ours)
    reference = stock_optimizer(name, DECAY, ema)
    reference.build(theirs)

    start = [v.numpy() for v in ours]
    found, expected = stepped(chosen, ours), stepped(reference, theirs)
    for path, before, mine, theirs_ in zip(SHAPES, start, found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs_, rtol=2e-6, atol=2e-6, err_msg=path)
        assert np.abs(mine - before).max() > 1e-3, path


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_is_forgotten_leaves_no_trace(name):
    variables = made_variables()
    start = [v.numpy() for v in variables]
    chosen = optimizer(name, DECAY, 0.9)
    chosen.build(variables)
    results = []
    for _ in range(2):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        forget(chosen)
        results.append(stepped(chosen, variables))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_models_side_by_side_step_as_each_would_alone(name):
    """A joint training's stacks: one model's large gradient shortens no other's, and each has its
    own orthogonal step.
    """
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4, 6)).astype(np.float32)
    gradients = (rng.normal(size=(5, 3, 4, 6)) * np.array([0.01, 1, 50])[:, None, None]).astype(
        np.float32
    )

    def after(values: np.ndarray, given: np.ndarray, stacked: bool) -> np.ndarray:
        variable = keras.Variable(values, name="0:block_00.mlp.expand.kernel")
        chosen = optimizer(name, DECAY)
        if stacked:
            chosen.stacked = frozenset({id(variable)})
        chosen.build([variable])
        chosen.learning_rate = 1e-2
        for gradient in given:
            chosen.apply_gradients([(tf.constant(gradient), variable)])
        return variable.numpy()

    together = after(start, gradients, stacked=True)
    for j in range(3):
        alone = after(start[j], gradients[:, j], stacked=False)
        np.testing.assert_allclose(together[j], alone, rtol=1e-5, atol=1e-6)
    assert np.abs(after(start, gradients, stacked=False) - together).max() > 1e-4


def test_muon_leaves_heads_maps_and_embeddings_of_a_joint_training_to_adamw():
    names = {
        "0:block_00.mlp.expand.kernel": (2, 4, 6),
        "0:block_00.mlp.expand.bias": (2, 4),
        "0:patch_embedding.kernel": (2, 2, 2, 1, 4),
        "0:norm.gamma": (2, 4),
        "10:head.kernel": (4, 3),
        "feature_map.kernel": (4, 3),
    }
    variables = [keras.Variable(np.zeros(shape), name=name) for name, shape in names.items()]
    chosen = optimizer("muon", DECAY)
    chosen.stacked = frozenset(id(v) for v in variables if v.name.startswith("0:"))
    taken = [v.name for v in variables if chosen._is_muons(v)]
    assert taken == ["0:block_00.mlp.expand.kernel"]


def test_what_is_decayed_goes_by_a_variables_own_name_in_every_training():
    """The kernel of the patches is a matrix; the embedding of the positions is none."""
    for name in ("adamw", "muon"):
        chosen = optimizer(name, DECAY)
        for own, decayed in (
            ("patch_embedding.kernel", True),
            ("head.kernel", True),
            ("position_embedding.embedding", False),
            ("class_token.token", False),
            ("norm.gamma", False),
            ("block_00.mlp.expand.bias", False),
        ):
            layer, _, last = own.rpartition(".")
            with keras.name_scope(layer):
                of_a_fit = keras.Variable(np.zeros(2), name=last)
            of_a_joint = keras.Variable(np.zeros(2), name=f"0:{own}")
            for variable in (of_a_fit, of_a_joint):
                assert chosen._is_decayed(variable) == decayed, (name, variable.path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_newton_schulz_brings_singular_values_near_one(precision):
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(3, 24, 40)).astype(np.float32)
    matrices *= np.array([1e-3, 1.0, 1e3], np.float32)[:, None, None]  # the size does not matter
    found = orthogonalised(tf.constant(matrices), precision).numpy()
    assert found.dtype == np.float32

    values = np.linalg.svd(found, compute_uv=False)
    assert 0.6 < values.min() <= values.max() < 1.3
    # Along the nearest orthogonal matrices.
    u, _, v = np.linalg.svd(matrices, full_matrices=False)
    exact = u @ v
    along = (found * exact).sum(axis=(1, 2)) / np.square(exact).sum(axis=(1, 2))
    assert (along > 0.8).all() and (along < 1.2).all()


def test_newton_schulz_in_bfloat16_is_near_float32():
    matrices = tf.constant(np.random.default_rng(0).normal(size=(2, 24, 40)), tf.float32)
    exact, rounded = (orthogonalised(matrices, kind).numpy() for kind in ("float32", "bfloat16"))
    distance = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert 0 < distance < 0.1
