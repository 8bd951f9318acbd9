"""Members of a fleet trained together: the loss, what each sees, and a fit that was killed."""

import dataclasses

import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.view import View
from tests.support.tiny_vit import CONFIG, random_inputs, random_weights, toy

VIEWS = (View(), View(mirrored=True), View(down=1, right=2))
TRAIN = TrainConfig(epochs=3, batch_size=16, learning_rate=2e-2, augment="shift")


@pytest.fixture(scope="module")
def members():
    """Configs and start of three, the last one narrower; inputs and targets."""
    from edvit_tf.models.weights import initial_weights

    wide = CONFIG.replace(num_classes=2, hidden_dim=16)
    configs = [wide, wide, wide.replace(hidden_dim=12)]
    start = [initial_weights(config, seed) for seed, config in enumerate(configs)]
    x, labels = toy()
    return configs, start, x, np.eye(2, dtype=np.float32)[labels]


def rows(epoch: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(160)


def fitted(members, train=TRAIN, epoch_indices=rows, **options):
    from edvit_tf.training.together import fit_together

    settings = {"own_weight": 0.1, "missing_rate": 0.3, "seed": 5, "views": VIEWS, **options}
    return fit_together(*members, train=train, epoch_indices=epoch_indices, **settings)


def is_same(one: list[dict], other: list[dict]) -> bool:
    return all((a[n] == b[n]).all() for a, b in zip(one, other, strict=True) for n in a)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_members_answer_together_and_alone_each_by_its_view(members, optimizer):
    from edvit_tf.training.train import predict, softmax

    train = TRAIN.replace(epochs=6, optimizer=optimizer, feature_distillation=0.1, mix="mixup")
    configs, _, _, targets = members
    weights, history = fitted(members, train, features=targets, own_weight=0.3)

    unseen, truth = toy(1)
    said = []
    for config, own, view in zip(configs, weights, VIEWS, strict=True):
        p = softmax(predict(config, own, view.applied(unseen))["logits"])
        assert (p.argmax(axis=1) == truth).mean() > 0.9
        said.append(p)
    assert (np.mean(said, axis=0).argmax(axis=1) == truth).mean() > 0.9
    assert history["loss"][-1] < history["loss"][0] and history["samples"] == 6 * 160


def test_no_epoch_leaves_the_members_as_they_are(members):
    weights, history = fitted(members, TRAIN.replace(epochs=0))
    assert is_same(weights, members[1]) and history["samples"] == 0


def test_the_loss_is_of_the_members_that_are_present_and_of_each_alone():
    import tensorflow as tf

    from edvit_tf.training import stacks
    from edvit_tf.training.together import loss

    weights = [random_weights(seed=seed) for seed in range(3)]
    configs = [CONFIG] * 3
    x = np.stack([random_inputs(seed=seed) for seed in range(3)])  # each its own
    targets = np.eye(4, dtype=np.float32)[np.arange(6) % 4]
    goal = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(36, 5)).astype(np.float32)
    present = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]])

    values = stacks.values_of(stacks.variables_of(configs, weights), "float32")
    values |= {"feature_map.kernel": tf.constant(kernel), "feature_map.bias": np.float32(0.5)}
    total, fused = loss(
        configs, values, x, None, tf.constant(present, tf.float32), (targets, goal), 0.25, 2.0
    )

    # the same by each model's own Keras graph
    from edvit_tf.training.train import predict

    answers = [predict(CONFIG, own, seen) for own, seen in zip(weights, x, strict=True)]
    logits = np.stack([a["logits"] for a in answers])
    share = present / present.sum(axis=1, keepdims=True)
    mean = np.einsum("nbc,bn->bc", logits, share)
    np.testing.assert_allclose(fused, mean, rtol=1e-3, atol=1e-3)

    def entropy(z):
        z = z - z.max(axis=-1, keepdims=True)
        return -(targets * (z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))).sum(axis=-1).mean()

    side_by_side = np.concatenate([a["features"] * share[:, [j]] for j, a in enumerate(answers)], 1)
    distance = np.square(side_by_side @ kernel + 0.5 - goal).mean()
    expected = 0.75 * entropy(mean) + 0.25 * entropy(logits) + 2.0 * distance
    np.testing.assert_allclose(total, expected, rtol=1e-3)


def test_a_killed_fit_goes_on_to_the_weights_of_an_unbroken_one(members, tmp_path, capsys):
    train = TRAIN.replace(optimizer="muon", ema=0.9, patch_dropout=0.25)
    unbroken, told = fitted(members, train)

    def killed(epoch: int) -> np.ndarray:
        if epoch == 2:
            raise KeyboardInterrupt
        return rows(epoch)

    options = {"checkpoint": tmp_path / "fit.npz", "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        fitted(members, train, killed, **options)
    capsys.readouterr()
    weights, history = fitted(members, train, **options)
    assert "goes on behind step 20 of 30" in capsys.readouterr().out
    assert is_same(weights, unbroken) and history["loss"] == told["loss"]


def test_a_checkpoint_of_another_fit_or_a_damaged_one_is_told_and_left(tmp_path, capsys):
    import keras

    from edvit_tf.training.steps import Checkpoint

    variables = [keras.Variable(np.arange(3.0)), keras.Variable(2, dtype="int64")]
    mine = Checkpoint(tmp_path / "fit.npz", "mine")
    assert mine.read(variables) == ([], 0.0)
    mine.write(variables, [(0.5, 0.25), (0.4, 0.5)], 12.5)
    for variable in variables:
        variable.assign(0 * variable)
    assert mine.read(variables) == ([[0.5, 0.25], [0.4, 0.5]], 12.5)
    assert variables[0].numpy().tolist() == [0, 1, 2] and int(variables[1]) == 2

    variables[1].assign(7)
    capsys.readouterr()
    assert Checkpoint(mine.path, "another").read(variables) == ([], 0.0)
    assert "is of another fit; this one begins anew" in capsys.readouterr().out
    mine.path.write_bytes(mine.path.read_bytes()[:300])
    assert mine.read(variables) == ([], 0.0)
    assert "cannot be read" in capsys.readouterr().out
    assert int(variables[1]) == 7  # left as they were


def test_every_member_sees_the_same_samples_varied_and_viewed_by_itself():
    from edvit_tf.training.batches import member_batches

    inputs = np.arange(40 * 64, dtype=np.float32).reshape(40, 8, 8, 1)
    targets = np.arange(40, dtype=np.float32)[:, None]
    train = TrainConfig(epochs=1, batch_size=8)

    def first(**changes):
        stream = member_batches(
            inputs, (targets,), lambda e: np.arange(40), VIEWS, train.replace(**changes), 3, (2, 4)
        )
        return next(stream)

    plain, places, (truth,) = first()
    assert plain.shape == (3, 8, 8, 8, 1) and places.shape == (8, 2)
    np.testing.assert_array_equal(truth[:, 0], np.arange(8))
    for seen, view in zip(plain, VIEWS, strict=True):
        np.testing.assert_array_equal(seen, view.applied(inputs[:8]))

    # every member has draws of its own; pairs that are mixed are the same for all
    shifted, _, _ = first(augment="shift")
    assert (shifted[0] != VIEWS[1].applied(shifted[1])).any()
    blended, _, (both,) = first(mix="mixup")
    assert (both != truth).any()
    np.testing.assert_array_equal(blended[1], VIEWS[1].applied(blended[0]))


@pytest.mark.reference
def test_the_study_on_an_accelerator_has_the_same_loss():
    torch = pytest.importorskip("torch", reason="needs the [reference] extra")
    import tensorflow as tf

    from edvit_tf.study.fleet import fitting, stacked
    from edvit_tf.training import stacks
    from edvit_tf.training.together import loss

    weights = [random_weights(seed=seed) for seed in range(3)]
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (8, 16, 16, 1)).astype(np.uint8)
    targets = np.eye(4, dtype=np.float32)[np.arange(8) % 4]
    goals = rng.normal(size=(8, 5)).astype(np.float32)
    present = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]] * 2, np.float32)

    start = stacked.stack(CONFIG, [{n: torch.tensor(v) for n, v in w.items()} for w in weights])
    given = (pictures, targets, goals, targets.argmax(axis=1))
    material = fitting.Material(*map(torch.tensor, given))
    settings = fitting.Fit(epochs=1, batch_size=8, together=True, own_weight=0.2)
    step = fitting._Step(CONFIG, start, material, settings)
    step.rows.copy_(torch.arange(8))
    step.present.copy_(torch.tensor(present.T))
    theirs = step._loss().item() / 3

    values = stacks.values_of(stacks.variables_of([CONFIG] * 3, weights), "float32")
    kernels = step.weights["map_kernel"].detach().numpy()  # (N, d, f)
    values["feature_map.kernel"] = tf.constant(kernels.reshape(-1, kernels.shape[2]))
    values["feature_map.bias"] = tf.constant(step.weights["map_bias"].detach().numpy()[0])
    x = np.repeat(pictures[None].astype(np.float32), 3, axis=0)
    ours, _ = loss([CONFIG] * 3, values, x, None, present, (targets, goals), 0.2, 4.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_a_checkpoint_is_known_by_all_that_its_fit_comes_from():
    from edvit_tf.training.steps import digest_of

    settings = dataclasses.asdict(TRAIN)
    one = digest_of(settings, [np.zeros(3)])
    assert one == digest_of(settings, [np.zeros(3)])
    assert one != digest_of(settings | {"epochs": 4}, [np.zeros(3)])
    assert one != digest_of(settings, [np.ones(3)])
