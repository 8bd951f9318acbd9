"""Turned, sheared, resized and moved digits ("affine"): the map that was drawn, its bounds, its
repetition.
"""

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from edvit_tf.config import TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.training import augment as module
from edvit_tf.training.augment import affine
from edvit_tf.training.batches import batches


def _pictures(count: int = 16, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 20, 24, channels)).astype(np.uint8)


def _one(monkeypatch, x: np.ndarray, **only: float) -> np.ndarray:
    """`x` with one kind of change, always of the size given: the random numbers are the upper
    bounds.
    """
    for name in ("ANGLE", "SCALE", "SHEAR", "SHIFT"):
        monkeypatch.setattr(module, name, only.get(name, 0.0))

    class Highest:
        @staticmethod
        def uniform(low, high, size):
            return np.full(size, high)

    return affine(x, Highest())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_gives_the_same_pictures_and_the_type_is_kept(channels):
    x = _pictures(channels=channels)
    one, two, other = (affine(x, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (
        one.dtype == np.uint8 and one.shape == x.shape and (x == _pictures(channels=channels)).all()
    )
    assert (one == two).all() and (one != other).any() and (one != x).any(axis=(1, 2, 3)).all()


def test_nothing_drawn_changes_nothing(monkeypatch):
    assert (_one(monkeypatch, _pictures()) == _pictures()).all()


@pytest.mark.parametrize(
    ("change", "matrix"),
    [
        (
            {"ANGLE": 30.0},
            [[3**0.5 / 2, 0.5], [-0.5, 3**0.5 / 2]],
        ),  # rows are (y, x) here: output -> input
        ({"SCALE": 0.25}, [[0.8, 0.0], [0.0, 0.8]]),
        ({"SHEAR": 0.5}, [[1.0, 0.0], [0.5, 1.0]]),
        ({"SHIFT": 0.1}, [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_each_change_is_the_map_it_is_said_to_be(monkeypatch, change, matrix):
    x = _pictures()
    centre, moved = np.array([9.5, 11.5]), np.array([2.0, 2.4]) * ("SHIFT" in change)
    offset = centre + moved - np.array(matrix) @ centre
    found = _one(monkeypatch, x, **change)[..., 0].astype(int)
    for got, picture in zip(found, x[..., 0], strict=True):
        expected = affine_transform(
            picture.astype(float), np.array(matrix), offset, order=1, mode="nearest"
        )
        assert np.abs(got - expected).max() <= 1.0  # rounding, and float32 where scipy has float64


def test_one_value_stays_one_value_up_to_the_edges():
    assert (affine(np.full((32, 28, 28, 1), 7, np.uint8), np.random.default_rng(0)) == 7).all()


def test_strokes_turn_as_far_as_is_said_and_are_never_mirrored():
    x = np.zeros((400, 41, 41, 1), np.uint8)
    x[:, 8:33, 20] = 255  # an upright stroke ...
    x[:, 8:10, 20:30] = 255  # ... with a flag to the right at its top
    y = affine(x, np.random.default_rng(1))[..., 0].astype(float)
    rows, columns = np.mgrid[:41, :41]
    top, bottom = y * (rows < 15), y * (rows > 25)
    right = (top * columns).sum((1, 2)) / top.sum((1, 2)) - (bottom * columns).sum(
        (1, 2)
    ) / bottom.sum((1, 2))
    assert (
        -12 < right.min() < 0 < 4 < right.max() < 16
    )  # 12 degrees and a shear of 0.15 over 20 rows; the flag
    share = y.sum((1, 2)) / x[0].sum()  # of ink: the square of the size, 0.88 to 1.12
    assert 0.75 < share.min() < 0.82 and 1.18 < share.max() < 1.28


def test_fits_take_it_and_sound_is_refused():
    x = _pictures(24)
    stream = batches(
        x, (np.eye(24, dtype=np.float32),), lambda epoch: np.arange(24), 8, "affine", seed=3
    )
    first, (targets,) = next(stream)
    assert (
        first.dtype == np.uint8
        and (first != x[:8]).any(axis=(1, 2, 3)).all()
        and targets.shape == (8, 24)
    )
    with pytest.raises(
        ConfigError, match="'affine' and the inputs are float32; it is for pictures"
    ):
        next(batches(x.astype(np.float32), (x,), lambda epoch: np.arange(24), 8, "affine", seed=3))
    assert TrainConfig(epochs=1, augment="affine").augment == "affine"
