"""A view moves, mirrors or enlarges an input of any kind, and says so in the manifest."""

import json

import numpy as np
import pytest

from edvit_tf.device.model.manifest_object import ManifestError
from edvit_tf.device.model.resize import resize
from edvit_tf.device.model.view import View, view_from_dict

RNG = np.random.default_rng(0)
DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def inputs(dtype="uint8", shape=(3, 12, 10, 3)) -> np.ndarray:
    return RNG.integers(0, 128, shape).astype(dtype)


def test_the_default_changes_nothing():
    x = inputs()
    assert View().applied(x) is x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_mirrored_and_moved_exactly(dtype, channels):
    x = inputs(dtype, (3, 12, 10, channels))
    np.testing.assert_array_equal(View(mirrored=True).applied(x), x[:, :, ::-1])

    moved = View(down=2, right=-3).applied(x)
    np.testing.assert_array_equal(moved[:, 2:, :-3], x[:, :-2, 3:])
    np.testing.assert_array_equal(moved[:, :2], np.repeat(moved[:, 2:3], 2, axis=1))
    np.testing.assert_array_equal(moved[:, :, -3:], np.repeat(moved[:, :, -4:-3], 3, axis=2))
    assert moved.dtype == x.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_left_of_a_cut_is_enlarged_as_resize_does(dtype, channels):
    x = inputs(dtype, (40, 12, 10, channels))  # more than are done at once
    seen = View(crop=2).applied(x)
    expected = resize(x[:, 2:-2, 2:-2], 12, 10)
    assert seen.dtype == x.dtype and seen.shape == x.shape
    # whole numbers to the nearest; float16 has 11 bits
    most = 0.501 if seen.dtype.kind in "iu" else 0.04 if dtype == "float16" else 1e-3
    assert np.abs(expected - seen).max() < most


def test_what_is_flat_stays_as_it_is():
    for value in (0, 77, 255):
        x = np.full((1, 12, 10, 3), value, np.uint8)
        np.testing.assert_array_equal(View(1, 2, True, 3).applied(x), x)


def test_what_is_finite_stays_finite():
    """A request may bring any finite numbers, and the answer is refused for others."""
    largest = np.finfo(np.float32).max
    x = np.where(np.indices((12, 10)).sum(axis=0) % 2, largest, -largest)
    seen = View(crop=2).applied(x[np.newaxis, ..., np.newaxis].astype(np.float32))
    assert np.isfinite(seen).all() and np.abs(seen).max() <= largest


def test_it_is_cut_then_mirrored_then_moved():
    x = inputs("float32")
    one_by_one = View(down=3, right=2).applied(View(mirrored=True).applied(View(crop=1).applied(x)))
    np.testing.assert_allclose(View(3, 2, True, 1).applied(x), one_by_one, rtol=1e-5)


def test_rows_of_a_log_mel_map_are_bands_and_columns_are_moments(tiny_mel_bundle):
    """So that `right` is later, and `down` higher."""
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.device.model.bundle_input import bundle_input

    given = bundle_input(open_bundle(tiny_mel_bundle))
    sound = RNG.normal(0, 0.1, 4000)
    # the later half is louder: its columns are, in the mean over the bands
    sound[2000:] *= 5
    x = given.spec.from_samples(sound, given.files)
    loudness = x[0].mean(axis=(0, 2))
    assert loudness[-4:].mean() > loudness[:4].mean() + 5

    later = View(right=3).applied(x)
    np.testing.assert_array_equal(later[:, :, 3:], x[:, :, :-3])
    higher = View(down=2).applied(x)
    np.testing.assert_array_equal(higher[:, 2:], x[:, :-2])


def test_one_input_of_many_is_seen_as_it_is_alone():
    x = inputs("uint8", (70, 12, 10, 3))
    view = View(-1, 1, True, 2)
    alone = np.concatenate([view.applied(row[np.newaxis]) for row in x])
    np.testing.assert_array_equal(view.applied(x), alone)


@pytest.mark.parametrize(
    "view", [View(), View(7, -5), View(mirrored=True), View(crop=3), View(1, 2, True, 3)]
)
def test_it_is_read_as_it_was_written(view):
    assert view_from_dict(json.loads(json.dumps(view.to_dict()))) == view


def test_its_words_tell_views_apart():
    assert str(View()) == "as it is"
    assert str(View(7, -5, True, 3)) == "down 7, right -5, mirrored, crop 3"


@pytest.mark.parametrize(
    "values, message",
    [
        ([1, 2], r"^view is \[1, 2\]; it must be an object"),
        ({"down": 1.5}, r"^view\.down is 1\.5; it must be a whole number"),
        ({"mirrored": 1}, r"^view\.mirrored is 1; it must be true or false"),
        ({"crop": -1}, r"^view\.crop is -1; it must be 0 or more"),
        ({"turned": 90}, r"^view\.turned is unknown; a view has down, right, mirrored, crop"),
    ],
)
def test_what_is_no_view_is_named(values, message):
    with pytest.raises(ManifestError, match=message):
        view_from_dict(values)


@pytest.mark.parametrize("values", [{"down": True}, {"right": 1.0}, {"mirrored": 0}, {"crop": -2}])
def test_a_view_is_of_numbers_that_it_can_be_of(values):
    with pytest.raises(ValueError, match=rf"View\.{next(iter(values))} is"):
        View(**values)


@pytest.mark.parametrize(
    "view, shape, message",
    [
        (
            View(down=12),
            (1, 12, 10, 3),
            "View.down is 12, of an input of 12 rows and 10 columns; 11",
        ),
        (View(right=-10), (1, 12, 10, 3), "View.right is -10"),
        (View(crop=5), (1, 12, 10, 3), "View.crop is 5"),
        (View(crop=1), (1, 12), "rows, columns and channels are needed"),
    ],
)
def test_a_view_that_leaves_nothing_is_refused(view, shape, message):
    with pytest.raises(ValueError, match=message):
        view.applied(np.zeros(shape, np.uint8))
