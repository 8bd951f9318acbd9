"""Resizing as TensorFlow does it, in numpy alone: training and devices share it, so that there is
no skew between them.

A place of the result depends on a window of the picture. So the result is made in blocks, each by a
small matrix over the part of the picture that it needs, and of a large picture no more than a strip
is held as float32.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

RESIZE_METHODS = ("bilinear", "bicubic")

# Of a block: how many places of the picture it takes, without those that it shares with its
# neighbours, and how many of the result it makes at most.
_BLOCK_INPUTS = 256
_BLOCK_OUTPUTS = 256
_STRIP_BYTES = 4 << 20  # float32 of the picture that are resized in one product, by columns
# Of weights that are kept: those of eight photos of 12 megapixels, or of hundreds of small ones.
CACHE_BYTES = 4 << 20


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
    x = np.asarray(x)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"resize got an array of shape {x.shape}; it takes (H, W, C) or (N, H, W, C)."
        )

    batch = x if x.ndim == 4 else x[np.newaxis]  # (N, H, W, C)

    # The axis that shrinks more goes first: a spectrogram of 128 x 1291 costs half as much so.
    _, h, w, _ = batch.shape
    rows_first = height * w <= width * h

    for axis in (1, 2) if rows_first else (2, 1):
        size_out = height if axis == 1 else width
        if batch.shape[axis] == size_out:
            continue
        blocks = _cache.blocks(batch.shape[axis], size_out, method, antialias)
        if axis == 1:
            batch = _resize_rows(batch, size_out, blocks)
        else:
            batch = _resize_columns(batch, size_out, blocks)

    resized = np.ascontiguousarray(batch, np.float32)
    return resized if x.ndim == 4 else resized[0]


@dataclass(frozen=True)
class _Block:
    """Places of the result that are made from one part of the picture, along one axis."""

    start: int  # of the result
    first: int  # of the picture
    weights: np.ndarray  # float32 (places of the result, places of the picture)

    @property
    def made(self) -> slice:
        return slice(self.start, self.start + self.weights.shape[0])

    @property
    def taken(self) -> slice:
        return slice(self.first, self.first + self.weights.shape[1])


def _resize_rows(batch: np.ndarray, height: int, blocks: tuple[_Block, ...]) -> np.ndarray:
    """(N, H, W, C) -> float32 (N, height, W, C)."""
    n, _, w, c = batch.shape
    result = np.empty((n, height, w, c), np.float32)
    for block in blocks:
        strip = np.ascontiguousarray(batch[:, block.taken], np.float32)  # (N, k, W, C)
        made = np.matmul(block.weights, strip.reshape(n, -1, w * c))
        result[:, block.made] = made.reshape(n, -1, w, c)

    return result


def _resize_columns(batch: np.ndarray, width: int, blocks: tuple[_Block, ...]) -> np.ndarray:
    """(N, H, W, C) -> float32 (N, H, width, C)."""
    n, h, w, c = batch.shape
    result = np.empty((n, h, width, c), np.float32)

    rows = max(1, _STRIP_BYTES // (4 * n * w * c))
    for top in range(0, h, rows):
        strip = batch[:, top : top + rows]
        # one product for all rows and channels
        lines = np.ascontiguousarray(strip.transpose(0, 1, 3, 2), np.float32)  # (N, r, C, W)
        for block in blocks:
            made = lines.reshape(-1, w)[:, block.taken] @ block.weights.T
            made = made.reshape(n, -1, c, len(block.weights))
            result[:, top : top + rows, block.made] = made.transpose(0, 1, 3, 2)

    return result


class _Cache:
    """The blocks of the sizes that were used last, CACHE_BYTES of them. Threads may share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple, tuple[_Block, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def blocks(self, *sizes_and_method) -> tuple[_Block, ...]:
        """Those of `_make_blocks`, made where they are not kept."""
        with self._lock:
            found = self._kept.get(sizes_and_method)
            if found is not None:
                self._kept.move_to_end(sizes_and_method)
                return found

        # made without the lock: two threads may make the same, and the second is kept
        made = _make_blocks(*sizes_and_method)
        with self._lock:
            self._drop(sizes_and_method)
            self._kept[sizes_and_method] = made
            self.bytes += _weight_bytes(made)
            # the oldest first; what is larger than all of the cache is not kept at all
            while self.bytes > CACHE_BYTES:
                self._drop(next(iter(self._kept)))

        return made

    def _drop(self, key: tuple) -> None:
        self.bytes -= _weight_bytes(self._kept.pop(key, ()))


_cache = _Cache()


def _weight_bytes(blocks: tuple[_Block, ...]) -> int:
    return sum(block.weights.nbytes for block in blocks)


def _make_blocks(size_in: int, size_out: int, method: str, antialias: bool) -> tuple[_Block, ...]:
    """The result's places 0 to `size_out` in blocks, with their kernel weights at half-pixel
    centres, normalised inside the picture.
    """
    check_method(method)

    # float32 as in TensorFlow's kernels: where a place rounds differs otherwise
    scale = np.float32(size_in) / np.float32(size_out)
    centre = (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) * scale
    if method == "bicubic" and not antialias:
        # tf.image.resize looks this kernel up in a table of 1024 steps a pixel; so do we, to agree
        # with it
        left = np.floor(centre - np.float32(0.5))
        centre = left + np.rint((centre - np.float32(0.5) - left) * 1024) / 1024 + 0.5

    kernel, radius = (_triangle, 1) if method == "bilinear" else (_keys, 2)
    kernel_width = max(float(scale), 1.0) if antialias else 1.0

    count = min(_BLOCK_OUTPUTS, max(1, int(_BLOCK_INPUTS / scale)))
    blocks = []
    for start in range(0, size_out, count):
        centres = centre[start : start + count, np.newaxis]

        # what lies within the kernel of any of them, and a place more for the rounding
        reach = radius * kernel_width + 1
        first = max(0, int(np.floor(centres.min() - reach)))
        end = min(size_in, int(np.ceil(centres.max() + reach)))

        # distance of each place from each centre, in widths of the kernel: (count, end - first)
        t = np.abs(np.arange(first, end) + 0.5 - centres) / kernel_width
        weights = kernel(t)
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        weights.setflags(write=False)  # cached: shared by all callers
        blocks.append(_Block(start, first, weights))

    return tuple(blocks)


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - t)


def _keys(t: np.ndarray) -> np.ndarray:
    """Keys 1981, a = -0.5."""
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))
