"""Resizing as TensorFlow does it, in numpy alone: training and devices share it, so that there is
no skew between them.
"""

import functools

import numpy as np

RESIZE_METHODS = ("bilinear", "bicubic")


def check_method(method: str, field: str = "Resize method") -> None:
    """ValueError for a method that is not one of RESIZE_METHODS; `field` says whose it is."""
    if method not in RESIZE_METHODS:
        raise ValueError(f"{field} is {method!r}; choose from {', '.join(RESIZE_METHODS)}.")


def resize(
    x: np.ndarray, height: int, width: int, method: str = "bilinear", antialias: bool = True
) -> np.ndarray:
    """Resizes as tf.image.resize does: half-pixel centres, bilinear or bicubic (Keys), with or
    without antialias.

    x: (H, W, C) or (N, H, W, C), any real dtype. Returns float32 of the same rank; not rounded,
    bicubic may overshoot.
    """
    x = np.asarray(x, np.float32)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"resize got an array of shape {x.shape}; it takes (H, W, C) or (N, H, W, C)."
        )

    batch = x.reshape((-1, *x.shape[-3:]))  # (N, H, W, C)

    # The axis that shrinks more goes first: a spectrogram of 128 x 1291 costs half as much so.
    _, h, w, _ = batch.shape
    rows_first = height * w <= width * h

    for axis in (1, 2) if rows_first else (2, 1):
        size_out = height if axis == 1 else width
        if batch.shape[axis] == size_out:
            continue
        weights = _resize_weights(batch.shape[axis], size_out, method, antialias)
        batch = _resize_rows(batch, weights) if axis == 1 else _resize_columns(batch, weights)

    return np.ascontiguousarray(batch.reshape((*x.shape[:-3], height, width, x.shape[-1])))


def _resize_rows(batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, H, W, C) by weights (height, H) -> (N, height, W, C)."""
    n, h, w, c = batch.shape
    return np.matmul(weights, batch.reshape(n, h, w * c)).reshape(n, len(weights), w, c)


def _resize_columns(batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, H, W, C) by weights (width, W) -> (N, H, width, C)."""
    n, h, w, c = batch.shape
    rows = np.ascontiguousarray(batch.transpose(0, 1, 3, 2)).reshape(-1, w)  # (N*H*C, W)
    product = rows @ weights.T  # one product for all pictures
    return product.reshape(n, h, c, len(weights)).transpose(0, 1, 3, 2)


@functools.lru_cache(maxsize=64)
def _resize_weights(size_in: int, size_out: int, method: str, antialias: bool) -> np.ndarray:
    """(size_out, size_in) float32 rows of kernel weights at half-pixel centres, normalised inside
    the picture.
    """
    check_method(method)

    # float32 as in TensorFlow's kernels: where a place rounds differs otherwise
    scale = np.float32(size_in) / np.float32(size_out)
    centre = (np.arange(size_out, dtype=np.float32)[:, None] + np.float32(0.5)) * scale
    if method == "bicubic" and not antialias:
        # tf.image.resize looks this kernel up in a table of 1024 steps a pixel; so do we, to agree
        # with it
        left = np.floor(centre - np.float32(0.5))
        centre = left + np.rint((centre - np.float32(0.5) - left) * 1024) / 1024 + 0.5

    # distance of each place from each centre, in widths of the kernel: (size_out, size_in)
    kernel_width = max(scale, 1.0) if antialias else 1.0
    t = np.abs(np.arange(size_in)[None, :] + 0.5 - centre) / kernel_width
    weights = _triangle(t) if method == "bilinear" else _keys(t)

    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.setflags(write=False)  # cached: shared by all callers

    return weights


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - t)


def _keys(t: np.ndarray) -> np.ndarray:
    """Keys 1981, a = -0.5."""
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))
