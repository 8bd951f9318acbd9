"""The floor of texts: a ridge classifier on how often each piece comes (tf-idf), as a linear
classifier of texts has been for decades.

It reads what a model reads, the first pieces of a text. Each piece counts 1 + log(times), over how
common it is among the training texts; a text is brought to length 1. Sparse, by scikit-learn: as
many features as there are pieces, in seconds.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from edvit_tf.device.model.wordpiece import SPECIAL

RIDGES = tuple(float(ridge) for ridge in 10.0 ** np.arange(2, -2.5, -0.5))  # the strongest first


def text_ridges(
    x: np.ndarray, labels: np.ndarray, num_classes: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
    """(ridge, scale (p,), kernel (p, classes), bias (classes,)) of each of RIDGES, of texts (n,
    pieces); p is the number of the last piece that the training texts have.
    """
    from sklearn.linear_model import Ridge

    x = np.asarray(x)
    counts = _counts(x, int(x.max()) + 1)
    texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
    scale = 1 / (np.log((1 + len(x)) / (1 + texts_with)) + 1)
    features = _weighed(counts, scale)
    goals = np.eye(num_classes)[labels]
    for ridge in RIDGES:
        fitted = Ridge(alpha=ridge, solver="sparse_cg", tol=1e-6).fit(features, goals)
        yield ridge, scale, fitted.coef_.T, fitted.intercept_


def text_scores(
    x: np.ndarray, scale: np.ndarray, models: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[np.ndarray]:
    """Scores (n, classes) of texts (n, pieces) by each (kernel, bias)."""
    features = _weighed(_counts(np.asarray(x), len(scale)), scale)
    return [features @ kernel + bias for kernel, bias in models]


def _counts(x: np.ndarray, size: int) -> sparse.csr_matrix:
    """(n, size): how often each piece is in a text; not what begins, ends or fills it up."""
    rows = np.repeat(np.arange(len(x)), x.shape[1])
    numbers = x.ravel().astype(int)
    there = (numbers >= len(SPECIAL)) & (numbers < size)
    cells = (rows[there], numbers[there])
    return sparse.csr_matrix((np.ones(len(cells[0])), cells), shape=(len(x), size))


def _weighed(counts: sparse.csr_matrix, scale: np.ndarray) -> sparse.csr_matrix:
    """Each text's pieces by their logarithm and rarity, of length 1."""
    found = counts.copy()
    found.data = (1 + np.log(found.data)) / scale[found.indices]
    length = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(length, 1e-12)) @ found
