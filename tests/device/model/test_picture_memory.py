"""What a request's picture may cost: the memory of decoding and resizing, by format and mode, and
the weights that are kept.
"""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from edvit_tf.device.model import resize as resizing
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.model.decode_picture import MAX_PIXELS
from edvit_tf.device.model.image import DECODING_BYTES, ImageSpec
from edvit_tf.device.model.resize import resize
from tests.support.commands import ROOT

Image = pytest.importorskip("PIL.Image")

SQUARE = (4096, 4096)
WIDE = (16_384, 1024)
# Pillow's mode, size, format and its options: each of MAX_PIXELS.
LARGEST = {
    "JPEG": ("RGB", SQUARE, "JPEG", {}),
    "JPEG, progressive, four colours": ("CMYK", WIDE, "JPEG", {"progressive": True}),
    "PNG": ("RGB", WIDE, "PNG", {"compress_level": 1}),
    "PNG with alpha": ("RGBA", SQUARE, "PNG", {"compress_level": 1}),
    "PNG, grey with alpha": ("LA", SQUARE, "PNG", {"compress_level": 1}),
    "PNG, 16 bits": ("I;16", SQUARE, "PNG", {"compress_level": 1}),
    "PNG, a palette": ("P", SQUARE, "PNG", {"compress_level": 1}),
    "PNG, one bit": ("1", WIDE, "PNG", {"compress_level": 1}),
    "BMP, one bit": ("1", SQUARE, "BMP", {}),
    "GIF": ("P", WIDE, "GIF", {}),
    "WebP": ("RGB", SQUARE, "WEBP", {"method": 0}),
    "WebP with alpha, lossless": ("RGBA", SQUARE, "WEBP", {"lossless": True, "method": 0}),
}
# In a process without the test's own pictures: bytes that each file takes at most, above what the
# process has before.
MEASURE = """
import json, pathlib, sys
from edvit_tf.device.model.image import ImageSpec
from edvit_tf.device.model.memory import peak_rss, resident
import PIL.Image

PIL.Image.init()
taken = {}
for path in map(pathlib.Path, sys.argv[1:]):
    data = path.read_bytes()
    spec = ImageSpec(224, 224, 3)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident()
    spec.probe(data)
    spec.from_file(data, {})
    taken[path.stem] = peak_rss() - before
print(json.dumps(taken))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no /proc/clear_refs")
def test_decoding_and_resizing_stay_below_the_stated_bytes(tmp_path):
    paths = []
    for number, (mode, size, form, options) in enumerate(LARGEST.values()):
        assert size[0] * size[1] == MAX_PIXELS
        path = tmp_path / f"{number}.picture"
        Image.new(mode, size).save(path, form, **options)
        paths.append(path)

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    taken = json.loads(done.stdout)
    assert len(taken) == len(LARGEST)
    # half of the bound is met by something: a bound that nothing comes near says nothing
    assert DECODING_BYTES / 2 < max(taken.values()) <= DECODING_BYTES == 288 << 20


def test_the_weights_that_are_kept_have_a_bound():
    """Forty photos of different sizes left 201 MiB of them."""
    for number in range(40):
        resize(np.zeros((2000 + number, 3, 1), np.uint8), 224, 3)
        resize(np.zeros((3, 4000 + number, 1), np.uint8), 3, 224)
    kept = resizing._cache._kept.values()
    held = sum(block.weights.nbytes for blocks in kept for block in blocks)
    assert held == resizing._cache.bytes <= resizing.CACHE_BYTES == 4 << 20
    assert len(kept) > 1

    # what is used again and again is not made again
    first = resizing._cache.blocks(28, 224, "bilinear", True)
    assert resizing._cache.blocks(28, 224, "bilinear", True) is first


def test_a_line_of_a_million_pixels_takes_no_matrix():
    """Weights for each pair of places of it and of the result were 1.8 GB; those of its windows are
    a few megabytes, and none are kept that are larger than the cache.
    """
    line = np.zeros((1, 1 << 20, 1), np.uint8)
    line[0, -1] = 255
    blocks = resizing._make_blocks(1 << 20, 224, "bilinear", True)
    assert sum(block.weights.nbytes for block in blocks) <= 4 * 3 * (1 << 20) + 4 * 224 * 4
    made = resize(line, 1, 224)
    assert made[0, :-1].max() == 0 < made[0, -1, 0]
    assert resizing._cache.bytes <= resizing.CACHE_BYTES


def dense(x: np.ndarray, size_out: int, method: str, antialias: bool) -> np.ndarray:
    """float64 (size_out, W, C) of (H, W, C) by one whole matrix of weights, as up to 0.3.0."""
    scale = np.float32(len(x)) / np.float32(size_out)
    centre = (np.arange(size_out, dtype=np.float32)[:, None] + np.float32(0.5)) * scale
    if method == "bicubic" and not antialias:
        left = np.floor(centre - np.float32(0.5))
        centre = left + np.rint((centre - np.float32(0.5) - left) * 1024) / 1024 + 0.5
    t = np.abs(np.arange(len(x))[None, :] + 0.5 - centre) / (max(scale, 1.0) if antialias else 1.0)
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    cubic = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    weights = np.maximum(0.0, 1.0 - t) if method == "bilinear" else cubic
    return np.tensordot(weights / weights.sum(axis=1, keepdims=True), x.astype(float), 1)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((3000, 7), (224, 9)),
        ((7, 3000), (9, 224)),
        ((1000, 750), (224, 224)),
        ((28, 28), (224, 224)),
        ((1, 700), (9, 3)),
        ((65, 4000), (1, 1)),
        ((7, 5), (600, 1)),
        ((1, 1), (5, 5)),
    ],
)
def test_windows_give_what_whole_matrices_gave(method, antialias, source, target):
    x = np.random.default_rng(0).integers(0, 256, (*source, 3), dtype=np.uint8)
    rows = dense(x, target[0], method, antialias)
    expected = dense(rows.swapaxes(0, 1), target[1], method, antialias).swapaxes(0, 1)
    got = resize(x, *target, method, antialias)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_a_view_is_resized_as_its_copy():
    """A turned picture, without its alpha."""
    x = np.random.default_rng(0).integers(0, 256, (300, 200, 4), dtype=np.uint8)
    view = x.swapaxes(0, 1)[::-1, :, :3]
    np.testing.assert_array_equal(resize(view, 64, 48), resize(view.copy(), 64, 48))


def test_only_one_file_is_decoded_at_a_time():
    """Two sub-models of a worker have a thread each, and the memory for decoding is reckoned
    once.
    """
    inside, most = [], []

    class Slow(ImageSpec):
        def from_file(self, source, files):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()
            return np.zeros((1, *self.shape), np.uint8)

    given = BundleInput(Slow(4, 4, 1), {})
    threads = [threading.Thread(target=given.from_file, args=(b"",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
