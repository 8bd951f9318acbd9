"""keras-cv's RandAugment as TrainConfig.augment: it repeats itself, keeps the type, loads only when
asked for.
"""

import itertools

import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.training.batches import batches
from tests.support.commands import run_host, run_python

FIT = """
import hashlib, sys
import numpy as np, tensorflow as tf
tf.config.experimental.enable_op_determinism()
from edvit_tf.config import TrainConfig
from edvit_tf.models.vit.presets import vit_config
from edvit_tf.models.weights import initial_weights
from edvit_tf.training.train import fit
from tests.support.tiny_vit import toy
x, labels = toy(count=64)
vit = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
start, targets = initial_weights(vit, 1), np.eye(2, dtype=np.float32)[labels]
for seed in map(int, sys.argv[1:]):  # fits before the last one must leave no trace in it
    train = TrainConfig(epochs=2, batch_size=16, learning_rate=2e-3, augment="randaugment")
    rows = np.arange(64)
    weights, _ = fit(vit, start, x, targets, train, seed=seed, epoch_indices=lambda e: rows)
content = hashlib.sha256()
for name in sorted(weights):
    content.update(weights[name].tobytes())
print("weights", content.hexdigest())
"""


def _pictures(channels: int = 3) -> np.ndarray:
    steps = np.random.default_rng(0).integers(0, 12, (24, 20, 20, channels))
    return np.cumsum(steps, axis=2).astype(np.uint8)  # 0 to 220, brighter to the right


def _six_batches(x: np.ndarray, seed: int) -> np.ndarray:
    """Two epochs of three batches of eight."""
    stream = batches(
        x, (np.eye(24, dtype=np.float32),), lambda epoch: np.arange(24), 8, "randaugment", seed
    )
    return np.stack([batch for batch, _ in itertools.islice(stream, 6)])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_gives_the_same_pictures_and_another_seed_others(channels):
    x = _pictures(channels)
    one, two, other = _six_batches(x, 3), _six_batches(x, 3), _six_batches(x, 4)
    assert one.dtype == np.uint8 and one.shape == (6, 8, 20, 20, channels)
    assert (one == two).all() and not (one == other).all()
    plain = np.stack([x[:8], x[8:16], x[16:]] * 2)
    assert (one != plain).any(axis=(2, 3, 4)).mean() > 0.7
    assert not (one[:3] == one[3:]).all()  # the second epoch draws anew
    assert (x == _pictures(channels)).all()  # the stored pictures are left alone


def _fit(*seeds: str) -> str:
    """The digest of the weights of the last fit, with one thread within and one beside
    operations.
    """
    done = run_host("-c", FIT, *seeds, TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_fit_repeats_itself_in_another_process_and_after_another_fit():
    assert _fit("5") == _fit("7", "5") != _fit("7")


def test_sound_is_refused_and_so_are_other_channels():
    from edvit_tf.training.train import fit
    from tests.support.tiny_vit import CONFIG, random_inputs, random_weights

    train = TrainConfig(epochs=1, augment="randaugment")
    with pytest.raises(ConfigError, match="the inputs are float32; it is for pictures"):
        fit(
            CONFIG,
            random_weights(),
            random_inputs(),
            np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]],
            train,
            seed=0,
            epoch_indices=lambda e: np.arange(6),
        )
    with pytest.raises(ConfigError, match="have 2 channels; it needs 1 or 3"):
        _six_batches(_pictures(2), 0)


def test_keras_cv_is_loaded_only_when_asked_for():
    code = (
        "import sys, numpy as np\nfrom edvit_tf.training.batches import batches\n"
        "x = np.zeros((4, 8, 8, 1), np.uint8)\n"
        "next(batches(x, (np.eye(4, dtype=np.float32),), lambda e: np.arange(4), 4, sys.argv[1], "
        "0))\n"
        "print('keras_cv' in sys.modules)"
    )
    for augment, loaded in (("shift", "False"), ("randaugment", "True")):
        done = run_python("-c", code, augment)
        assert done.stdout.strip().splitlines()[-1] == loaded, done.stderr
