"""A fit whose loss is no number ends there, in every loop that fits; and Keras's settings of a
user's own change no fit of ours.
"""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.errors import ConfigError, TrainingError
from edvit_tf.models.keras_settings import pinned
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.weights import get_weights, initial_weights
from edvit_tf.training.fuse import build_fusion, fit_fusion
from edvit_tf.training.joint import fit_joint
from edvit_tf.training.train import fit, predict

CONFIG = ViTConfig(
    (8, 8, 1),
    patch_size=4,
    num_layers=1,
    hidden_dim=8,
    num_heads=2,
    head_dim=4,
    mlp_dim=8,
    num_classes=3,
    input_mean=(128.0,),
    input_std=(64.0,),
)
LABELS = np.arange(32) % 3
TARGETS = np.eye(3, dtype=np.float32)[LABELS]
TRAIN = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-3)
WORDS = (
    r"{title}: the loss is (nan|inf) in epoch \d, step \d .*learning rate {rate}, precision {how}"
)


def inputs() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)).astype(np.uint8)


def rows(epoch: int) -> np.ndarray:
    return np.arange(32)


def fitted(train: TrainConfig = TRAIN, x: np.ndarray | None = None):
    x = inputs() if x is None else x
    weights = initial_weights(CONFIG, 0)
    return fit(CONFIG, weights, x, TARGETS, train, epoch_indices=rows, seed=0, title="base")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_a_rate_typed_wrong_ends_at_the_first_loss_that_is_no_number(optimizer):
    wrong = TRAIN.replace(learning_rate=1e30, optimizer=optimizer, epochs=50)
    with pytest.raises(TrainingError) as raised:
        fitted(wrong)
    told = str(raised.value)
    assert told.startswith("base: ") and "epoch" in told and "learning rate 1e+30" in told
    assert "precision float32" in told and "lower learning rate" in told


def test_an_input_that_is_no_number_is_found_in_the_first_epoch():
    x = inputs().astype(np.float32)
    x[20, 3, 3, 0] = np.nan
    with pytest.raises(
        TrainingError, match=WORDS.format(title="base", rate="0.001", how="float32")
    ):
        fitted(x=x)


def test_the_last_step_of_all_is_looked_at_too():
    """Its loss is of the weights before it."""
    with pytest.raises(TrainingError, match=r"base: \d+ of \d+ values of .* are NaN or infinite"):
        fitted(TrainConfig(epochs=1, batch_size=32, learning_rate=1e39, optimizer="adam"))


def test_the_fusion_and_the_joint_training_end_there_too():
    model = build_fusion((4, 4), 3)
    wrong = TRAIN.replace(learning_rate=1e30, epochs=50)
    features = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    with pytest.raises(TrainingError, match=r"fusion: .*learning rate 1e\+30"):
        fit_fusion(model, features, LABELS, wrong, 0.1, seed=0)

    own = [initial_weights(CONFIG, seed) for seed in (0, 1)]
    with pytest.raises(TrainingError, match=r"joint: .*learning rate 1e\+30"):
        fit_joint(
            [CONFIG, CONFIG],
            own,
            build_fusion((8, 8), 3),
            inputs(),
            TARGETS,
            [TARGETS, TARGETS],
            wrong,
            0.1,
            epoch_indices=rows,
            seed=0,
        )


def test_answers_that_are_no_numbers_are_not_handed_on():
    weights = initial_weights(CONFIG, 0)
    weights["norm.gamma"][3] = np.inf
    with pytest.raises(TrainingError, match=r"features of 32 of 32 samples are NaN or infinite"):
        predict(CONFIG, weights, inputs())


@pytest.fixture
def users_own(request):
    """Keras as a user has set it for models of his own."""
    before = keras.config.dtype_policy(), keras.config.floatx(), keras.config.image_data_format()
    if "floatx" in request.param:
        keras.config.set_floatx(request.param["floatx"])
    if "format" in request.param:
        keras.config.set_image_data_format(request.param["format"])
    if "policy" in request.param:
        keras.config.set_dtype_policy(request.param["policy"])
    yield request.param
    keras.config.set_floatx(before[1])
    keras.config.set_image_data_format(before[2])
    keras.config.set_dtype_policy(before[0])


@pytest.mark.parametrize(
    "users_own",
    [
        {"policy": "mixed_float16"},
        {"floatx": "float64"},
        {"floatx": "float16", "format": "channels_first"},
    ],
    indirect=True,
    ids=str,
)
def test_a_users_own_settings_change_no_fit_and_are_left_as_they_were(users_own):
    train = TRAIN.replace(learning_rate=2e-3, epochs=1)
    with pinned():
        _, history = fitted(train)
        fusion = get_weights(build_fusion((4, 4), 3))
    # Kept compiled models of the same fit would hide what a fresh one is built as.
    from edvit_tf.training import train as room

    room._compiled.cache_clear()
    room._caller.cache_clear()

    weights, again = fitted(train)
    assert again["loss"] == history["loss"]
    assert all(value.dtype == np.float32 for value in weights.values())
    assert {n: v.shape for n, v in get_weights(build_fusion((4, 4), 3)).items()} == {
        n: v.shape for n, v in fusion.items()
    }
    features = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    figures = fit_fusion(build_fusion((4, 4), 3), features, LABELS, TRAIN, 0.1, seed=0)
    assert np.isfinite(figures["loss"]).all()

    if "policy" in users_own:
        assert keras.config.dtype_policy().name == users_own["policy"]
    assert keras.config.floatx() == users_own.get("floatx", "float32")
    assert keras.config.image_data_format() == users_own.get("format", "channels_last")


SCRIPT = """
import json
import edvit_tf
from edvit_tf.models.keras_settings import pinned
import keras
with pinned():
    settings = keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon()
    print(json.dumps([keras.config.backend(), *settings]))
"""


def test_what_the_environment_and_kerass_own_file_ask_for_is_passed_over(tmp_path):
    asked = {
        "backend": "torch",
        "floatx": "float16",
        "image_data_format": "channels_first",
        "epsilon": 1e-3,
    }
    (tmp_path / "keras.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout.splitlines()[-1])
    assert settings == ["tensorflow", "float32", "channels_last", 1e-7]


def test_a_backend_that_is_loaded_already_is_named(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ConfigError, match=r"Keras runs on jax.*KERAS_BACKEND=tensorflow"):
        fitted()
