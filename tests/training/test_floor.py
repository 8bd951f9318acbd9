"""The floor: a ridge classifier in closed form, whatever the pieces in which inputs are read."""

import numpy as np
import pytest

from edvit_tf.training import floor as floors
from edvit_tf.training.floor import answers, fit_floor, from_arrays, grids_of, pooled, to_arrays


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes: a light quarter of the picture, by class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = rng.normal(120, 40, (n, 12, 12, 1))
    for one, label in zip(x, labels, strict=True):
        one[6 * (label // 2) :, 6 * (label % 2) :][:6, :6] += 40
    return np.clip(x, 0, 255).astype(np.uint8), labels, np.arange(n)


def test_it_is_the_ridge_regression_of_one_hot_targets():
    """The same scores as the normal equations of all features at once."""
    x, labels, _ = pictures(300, 0)
    found = fit_floor(x, labels, pictures(100, 1), 3, True)
    f = pooled(x, found.grid, True)
    f = (f - f.mean(0)) / f.std(0)
    goal = np.eye(3)[labels]
    system = f.T @ f / len(f) + found.ridge * np.eye(f.shape[1])
    kernel = np.linalg.solve(system, f.T @ (goal - goal.mean(0)) / len(f))
    np.testing.assert_allclose(found.kernel, kernel, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.bias, goal.mean(0))


def test_it_learns_and_its_probabilities_are_such():
    x, labels, _ = pictures(400, 2)
    found = fit_floor(x, labels, pictures(100, 1), 3, True)
    test, truth, _ = pictures(200, 3)
    p = answers(found, test)
    assert (p.argmax(1) == truth).mean() > 0.9
    np.testing.assert_allclose(p.sum(1), 1)


def test_pieces_change_nothing(monkeypatch):
    x, labels, _ = pictures(130, 0)
    validation = pictures(60, 1)
    whole = fit_floor(x, labels, validation, 3, True)
    monkeypatch.setattr(floors, "_PIECE_BYTES", 4 * 144 * 7)
    apart = fit_floor(x, labels, validation, 3, True)
    assert (apart.grid, apart.ridge) == (whole.grid, whole.ridge)
    np.testing.assert_allclose(answers(apart, x), answers(whole, x), rtol=1e-6)


def test_windows_of_a_recording_answer_together():
    """The choice is by recording, as every figure is."""
    x, labels, _ = pictures(200, 0)
    seen, truth, _ = pictures(3, 1)
    several = (np.repeat(seen, 4, axis=0), np.repeat(truth, 4), np.repeat(np.arange(3), 4))
    found = fit_floor(x, labels, several, 3, True)
    again = fit_floor(x, labels, (seen, truth, np.arange(3)), 3, True)
    assert (found.grid, found.ridge) == (again.grid, again.ridge)


def test_it_is_stored_whole():
    x, labels, _ = pictures(100, 0)
    found = fit_floor(x, labels, pictures(50, 1), 3, True)
    np.testing.assert_array_equal(answers(from_arrays(to_arrays(found)), x), answers(found, x))


@pytest.mark.parametrize(
    ("shape", "is_picture", "grids"),
    [
        ((64, 64, 3), True, [(4, 4), (8, 8), (16, 16)]),
        ((8, 8, 1), True, [(4, 4), (8, 8)]),
        ((3, 5, 1), True, [(3, 4), (3, 5)]),
        ((64, 64, 12), True, [(4, 4), (8, 8)]),
        ((64, 32, 1), False, [(16, 4), (16, 8), (32, 8)]),
        ((16, 1, 1), False, [(16, 1)]),
    ],
)
def test_grids_fit_the_input(shape, is_picture, grids):
    assert grids_of(shape, is_picture) == grids
    features = pooled(np.zeros((2, *shape), np.uint8), grids[-1], is_picture)
    assert np.isfinite(features).all() and len(features) == 2


def test_pixels_that_never_change_and_a_class_without_samples():
    x, labels, _ = pictures(60, 0)
    x[:, :6] = 7
    found = fit_floor(x, labels, pictures(30, 1), 5, True)
    assert np.isfinite(answers(found, x)).all() and found.kernel.shape[1] == 5


def texts(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pieces that all classes have, and among them one of the class's own 300."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    x = rng.integers(4, 200, (n, 20))
    x[:, 0], x[:, 12:] = 2, 0
    x[:, 5] = 1000 * (1 + labels) + rng.integers(0, 300, n)
    return x.astype(np.int32), labels, np.arange(n)


def test_the_floor_of_texts_tells_every_piece_from_every_other():
    """Pieces 1,024 apart were one feature once: this floor lay 15 points too low on 20
    Newsgroups.
    """
    x, labels, _ = texts(900, 0)
    x[labels == 1, 5] = x[labels == 0, 5][0] % 1024 + 1024
    x[labels == 0, 5] = x[labels == 1, 5][0] + 1024
    test, truth, _ = texts(300, 1)
    test[truth == 1, 5], test[truth == 0, 5] = x[labels == 1, 5][0], x[labels == 0, 5][0]
    found = fit_floor(x, labels, (test, truth, np.arange(300)), 3, False)
    assert (answers(found, test).argmax(1) == truth).mean() > 0.9


def test_it_is_the_ridge_regression_of_tf_idf_as_scikit_learn_has_it():
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfTransformer

    x, labels, _ = texts(300, 0)
    found = fit_floor(x, labels, texts(100, 1), 3, False)
    counts = np.zeros((300, x.max() + 1))
    for row, numbers in zip(counts, x, strict=True):
        np.add.at(row, numbers[numbers >= 4], 1)
    f = TfidfTransformer(sublinear_tf=True).fit_transform(sparse.csr_matrix(counts)).toarray()
    goal = np.eye(3)[labels]
    centred = f - f.mean(0)
    dual = centred @ centred.T + found.ridge * np.eye(len(f))
    kernel = centred.T @ np.linalg.solve(dual, goal - goal.mean(0))
    np.testing.assert_allclose(found.kernel, kernel, atol=1e-5)


def test_texts_of_pieces_that_were_never_met_are_answered():
    x, labels, _ = texts(60, 0)
    found = from_arrays(to_arrays(fit_floor(x, labels, texts(30, 1), 3, False)))
    odd = np.array([[2, 7999, 3, 0], [0, 0, 0, 0]], np.int32)
    p = answers(found, np.pad(odd, ((0, 0), (0, 16))))
    assert np.isfinite(p).all() and p.sum(1) == pytest.approx([1, 1])
