"""The floor: a ridge classifier on pooled inputs, which every trained model must stand above.

Closed form, seconds, no TensorFlow. A picture gives the means of a small grid of its channels, and
each channel's mean and deviation; log-mel gives the means of a grid of bands and frames, and of
each band its mean, deviation and mean change over time. Of texts see text_floor.py. Grid and ridge
are chosen on validation data. Memory is bounded: the inputs are read in pieces, and of the training
data only sums are kept.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edvit_tf.training.calibrate import best_temperature, tempered
from edvit_tf.training.recordings import per_recording
from edvit_tf.training.text_floor import text_ridges, text_scores

# (rows, columns) of the pooled grid, the smallest first; of log-mel bands x frames
PICTURE_GRIDS = ((4, 4), (8, 8), (16, 16))
MEL_GRIDS = ((16, 4), (16, 8), (32, 8))
RIDGES = tuple(float(ridge) for ridge in 10.0 ** np.arange(2, -4.5, -0.5))  # the strongest first
MOST_FEATURES = 1024  # of a picture of many channels: its finer grids are left out
_PIECE_BYTES = 32 << 20
_SHARPNESS = 10.0  # scores lie in about 0..1: as logits ten times that, before the temperature


@dataclass(frozen=True)
class Floor:
    """A fitted classifier: scores = ((features - mean) / scale) @ kernel + bias; of texts as
    text_floor.py has it, without a mean.
    """

    grid: tuple[int, int]
    is_picture: bool
    ridge: float  # of standardised features, per sample; of texts of all samples
    mean: np.ndarray  # (p,)
    scale: np.ndarray  # (p,)
    kernel: np.ndarray  # (p, classes)
    bias: np.ndarray  # (classes,)
    temperature: float = 1.0


@dataclass(frozen=True)
class _Sums:
    """Of the training inputs under one grid: what every ridge is solved from."""

    mean: np.ndarray
    scale: np.ndarray
    values: np.ndarray  # eigenvalues (p,) and vectors (p, p) of the features' correlations
    vectors: np.ndarray
    goal: np.ndarray  # vectors' share of the targets, (p, classes)
    bias: np.ndarray


def fit_floor(
    x: np.ndarray,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray],
    num_classes: int,
    is_picture: bool,
) -> Floor:
    """The best of all grids and ridges by recording on `validation` (inputs, labels, recordings),
    at the temperature that suits it there; of equals the smaller grid and the stronger ridge.

    Inputs are (n, H, W, C), or of texts (n, pieces), memory maps or arrays.
    """
    seen, truth, recordings = validation
    best: Floor | None = None
    most = -1.0
    for tried in _tried(x, labels, is_picture, num_classes):
        for floor, scores in zip(tried, _scores(tried, seen), strict=True):
            named, known = per_recording(_softmax(scores), truth, recordings)
            share = float((named.argmax(axis=1) == known).mean())
            if share > most:
                best, most = floor, share

    assert best is not None
    probabilities = answers(best, seen)
    temperature = best_temperature(probabilities, truth, recordings)
    return Floor(**{**vars(best), "temperature": temperature})


def _tried(
    x: np.ndarray, labels: np.ndarray, is_picture: bool, num_classes: int
) -> Iterator[list[Floor]]:
    """The classifiers to choose from, those on one grid together."""
    if x.ndim == 2:
        yield [
            Floor((1, len(scale)), False, ridge, np.zeros(0), scale, kernel, bias)
            for ridge, scale, kernel, bias in text_ridges(x, labels, num_classes)
        ]
        return
    for grid in grids_of(x.shape[1:], is_picture):
        sums = _sums(x, labels, grid, is_picture, num_classes)
        yield [_solved(sums, ridge, grid, is_picture) for ridge in RIDGES]


def answers(floor: Floor, x: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of inputs (n, H, W, C), or of texts (n, pieces)."""
    (scores,) = _scores([floor], x)
    return tempered(_softmax(scores), floor.temperature)


def to_arrays(floor: Floor) -> dict[str, np.ndarray]:
    """What an .npz file holds of it."""
    return {name: np.asarray(value) for name, value in vars(floor).items()}


def from_arrays(stored: Mapping[str, np.ndarray]) -> Floor:
    """The classifier that `to_arrays` stored."""
    values = {name: stored[name] for name in ("mean", "scale", "kernel", "bias")}
    rows, columns = stored["grid"].tolist()
    return Floor(
        grid=(rows, columns),
        is_picture=bool(stored["is_picture"]),
        ridge=float(stored["ridge"]),
        temperature=float(stored["temperature"]),
        **values,
    )


def grids_of(shape: tuple[int, ...], is_picture: bool) -> list[tuple[int, int]]:
    """The grids that differ at this input shape (H, W, C), the smallest first."""
    height, width, channels = shape
    found: list[tuple[int, int]] = []
    for rows, columns in PICTURE_GRIDS if is_picture else MEL_GRIDS:
        grid = (min(rows, height), min(columns, width))
        small = not found or grid[0] * grid[1] * channels <= MOST_FEATURES
        if grid not in found and small:
            found.append(grid)
    return found


def pooled(x: np.ndarray, grid: tuple[int, int], is_picture: bool) -> np.ndarray:
    """Features (n, p) of inputs (n, H, W, C), float64."""
    x = np.asarray(x, np.float32)
    rows = _means(x.shape[1], grid[0])  # (rows, H)
    columns = _means(x.shape[2], grid[1])
    # (n, rows, W, C), then (n, rows, columns, C)
    bands = np.tensordot(rows, x, (1, 1)).swapaxes(0, 1)
    cells = np.tensordot(bands, columns, (2, 1))

    parts = [cells.reshape(len(x), -1)]
    if is_picture:
        parts += [x.mean(axis=(1, 2)), x.std(axis=(1, 2))]
    else:
        change = np.abs(np.diff(bands, axis=2))
        # one frame has no change
        moved = change.mean(axis=2) if change.shape[2] else np.zeros_like(bands[:, :, 0])
        over_time = (bands.mean(axis=2), bands.std(axis=2), moved)
        parts += [part.reshape(len(x), -1) for part in over_time]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _means(size: int, cells: int) -> np.ndarray:
    """(cells, size): the mean over each of so many parts of an axis, about equal ones."""
    edges = np.rint(np.linspace(0, size, cells + 1)).astype(int)
    weights = np.zeros((cells, size), np.float32)
    for cell, (start, end) in enumerate(itertools.pairwise(edges)):
        weights[cell, start:end] = 1 / (end - start)
    return weights


def _pieces(x: np.ndarray) -> Iterator[slice]:
    """Rows that are in memory at a time."""
    rows = max(1, _PIECE_BYTES // (4 * int(np.prod(x.shape[1:]))))
    for start in range(0, len(x), rows):
        yield slice(start, start + rows)


def _sums(
    x: np.ndarray, labels: np.ndarray, grid: tuple[int, int], is_picture: bool, num_classes: int
) -> _Sums:
    """Reads the training inputs once. About the first piece's mean, or digits would be lost."""
    count = len(x)
    about: np.ndarray | None = None
    for rows in _pieces(x):
        features = pooled(x[rows], grid, is_picture)
        if about is None:
            about = features.mean(axis=0)
            total = np.zeros_like(about)
            squares = np.zeros((len(about), len(about)))
            by_class = np.zeros((len(about), num_classes))
        features -= about
        total += features.sum(axis=0)
        squares += features.T @ features
        by_class += features.T @ np.eye(num_classes)[labels[rows]]

    assert about is not None
    offset = total / count
    covariance = squares / count - np.outer(offset, offset)
    # the floor keeps a feature that never changes from a division by zero
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-6))
    prior = np.bincount(labels, minlength=num_classes) / count

    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    shares = (by_class / count - np.outer(offset, prior)) / scale[:, np.newaxis]
    return _Sums(about + offset, scale, np.maximum(values, 0), vectors, vectors.T @ shares, prior)


def _solved(sums: _Sums, ridge: float, grid: tuple[int, int], is_picture: bool) -> Floor:
    kernel = sums.vectors @ (sums.goal / (sums.values + ridge)[:, np.newaxis])
    return Floor(grid, is_picture, ridge, sums.mean, sums.scale, kernel, sums.bias)


def _scores(floors: list[Floor], x: np.ndarray) -> list[np.ndarray]:
    """Scores (n, classes) of several classifiers on one grid, which differ in their kernels."""
    one = floors[0]
    if x.ndim == 2:
        return text_scores(x, one.scale, [(floor.kernel, floor.bias) for floor in floors])
    parts: list[list[np.ndarray]] = [[] for _ in floors]
    for rows in _pieces(x):
        features = (pooled(x[rows], one.grid, one.is_picture) - one.mean) / one.scale
        for floor, part in zip(floors, parts, strict=True):
            part.append(features @ floor.kernel + floor.bias)
    return [np.concatenate(part) for part in parts]


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(_SHARPNESS * (scores - scores.max(axis=1, keepdims=True)))
    return e / e.sum(axis=1, keepdims=True)
