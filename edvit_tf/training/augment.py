"""How a batch is varied: shifts, flips, turns, masks, pairs mixed; every draw from the generator
that is given, in numpy.

"affine" alone computes with Keras, by draws from here; "randaugment" is keras-cv's and has a module
of its own (`randaugment.py`).
"""

import numpy as np

from edvit_tf.errors import ConfigError

# Of "affine", each the most in either direction.
ANGLE = 12.0  # degrees
SCALE = 0.12  # share of the size
SHEAR = 0.15  # share
SHIFT = 0.08  # share of a side


def check_pictures(augment: str, dtype: np.dtype) -> None:
    """Raises ConfigError if a variation of pictures alone ("affine", "randaugment") is asked for
    with other inputs.
    """
    if augment in ("affine", "randaugment") and dtype != np.uint8:
        raise ConfigError(
            f"TrainConfig.augment is {augment!r} and the inputs are {dtype}; it is for pictures "
            '(uint8, 0..255). Take "mask" for sound.'
        )


def vary(x: np.ndarray, augment: str, rng: np.random.Generator) -> np.ndarray:
    """Random variations of a batch (B, H, W, C), in place where it can: "shift", "shift_flip",
    "affine", "mask", or "none".

    The type is kept, but for "mask", which gives float32.
    """
    if augment in ("shift", "shift_flip"):
        return _shift(x, rng, flip_rate=0.5 if augment == "shift_flip" else 0.0)
    if augment == "affine":
        return affine(x, rng)
    if augment == "mask":
        return _mask(x.astype(np.float32), rng)
    return x


def _shift(x: np.ndarray, rng: np.random.Generator, flip_rate: float) -> np.ndarray:
    """Moves each picture by up to a tenth of its height, edges repeated, and mirrors some."""
    batch, height, width, _ = x.shape
    reach = max(1, height // 10)
    # Once for the batch; each picture is then a window into it.
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")

    tops, lefts = rng.integers(0, 2 * reach + 1, (2, batch))
    flips = rng.random(batch) < flip_rate

    for i in range(batch):
        rows = slice(tops[i], tops[i] + height)
        columns = slice(lefts[i], lefts[i] + width)
        view = padded[i, rows, columns]
        x[i] = view[:, ::-1] if flips[i] else view
    return x


def _mask(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SpecAugment (Park et al. 2019) of log-mel (B, mel, frames, 1), float32, in place.

    One band of mel channels and one of frames, at most a fifth of each, take the sample's mean;
    before that a circular shift in time and a gain of up to 6 decibels either way.
    """
    batch, height, width, _ = x.shape
    shifts = rng.integers(0, width, batch)
    gains = rng.uniform(-6, 6, batch)
    bands = rng.integers(0, max(1, height // 5) + 1, batch)
    frames = rng.integers(0, max(1, width // 5) + 1, batch)

    for i in range(batch):
        x[i] = np.roll(x[i], shifts[i], axis=1) + gains[i]

        # Taken after the gain, so that a masked band is as loud as the rest.
        mean = x[i].mean()
        top = rng.integers(0, height - bands[i] + 1)
        left = rng.integers(0, width - frames[i] + 1)
        x[i, top : top + bands[i]] = mean
        x[i, :, left : left + frames[i]] = mean
    return x


def affine(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Digits and signs as another hand would write them: a random affine map of each picture of a
    batch (B, H, W, C), uint8 0..255, about its centre; never mirrored.

    A turn of up to 12 degrees, a size of 0.88 to 1.12, a shear of up to 0.15, a move of up to 0.08
    of a side, all uniform (Simard et al. 2003 vary digits so, with elastic distortions beside).
    Bilinear, by keras.ops.image; what comes in from outside takes the nearest edge's value.
    """
    from keras import ops

    y = ops.image.affine_transform(
        x.astype(np.float32),
        _affine_maps(x.shape, rng),
        interpolation="bilinear",
        fill_mode="nearest",
        data_format="channels_last",
    )
    y = ops.convert_to_numpy(y)

    # Back to whole grey levels: uint8 in, uint8 out.
    return np.clip(np.rint(y), 0, 255).astype(np.uint8)


def _affine_maps(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(B, 8) float32 as Keras takes them: output (x, y) -> input (a x + b y + across,
    c x + d y + along).
    """
    batch, height, width, _ = shape
    angle = np.deg2rad(rng.uniform(-ANGLE, ANGLE, batch))
    size = 1 + rng.uniform(-SCALE, SCALE, batch)
    shear = rng.uniform(-SHEAR, SHEAR, batch)
    # (2, B), in pixels
    down, right = rng.uniform(-SHIFT, SHIFT, (2, batch)) * np.array([[height], [width]])

    # About the centre: rotation and size times shear.
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    a = cos
    b = shear * cos - sin
    c = sin
    d = shear * sin + cos

    # The centre goes to the centre and the move.
    x0, y0 = (width - 1) / 2, (height - 1) / 2
    across = x0 + right - a * x0 - b * y0
    along = y0 + down - c * x0 - d * y0

    zero = np.zeros(batch)
    return np.stack([a, b, across, c, d, along, zero, zero], axis=1).astype(np.float32)


def mixed(
    x: np.ndarray, targets: tuple[np.ndarray, ...], mix: str, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Pairs of samples (B, H, W, C) in one, with the same share of both targets, each (B, n); types
    are kept, and `x` is left as it is.

    "mixup" (Zhang et al. 2018): their weighted sum, share ~ Beta(0.2, 0.2). "cutmix" (Yun et al.
    2019): a box of the other, share = its area, ~ Beta(1, 1) before it is cut off at the edge. One
    share a batch.
    """
    other = rng.permutation(len(x))  # each sample's partner
    if mix == "mixup":
        x, share = _mixup(x, other, rng)
    else:
        x, share = _cutmix(x, other, rng)

    both = []
    for target in targets:
        mixture = share * target[other] + (1 - share) * target
        both.append(mixture.astype(target.dtype))
    return x, tuple(both)


def _mixup(x: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The mixed batch, and the share of the `other` rows in it."""
    share = rng.beta(0.2, 0.2)
    whole = share * x[other].astype(np.float32) + (1 - share) * x
    # A cast alone would round down.
    if x.dtype == np.uint8:
        whole = whole.round()
    return whole.astype(x.dtype), share


def _cutmix(x: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The mixed batch, and the share of the `other` rows in it."""
    _, height, width, _ = x.shape
    half = rng.beta(1.0, 1.0) ** 0.5 / 2  # of the box's side, as a share of the picture's
    row, column = rng.integers(0, height), rng.integers(0, width)
    rows = slice(max(0, round(row - half * height)), round(row + half * height))
    columns = slice(max(0, round(column - half * width)), round(column + half * width))

    # The box may be cut off at the edge: its share is what is left of it.
    share = x[0, rows, columns, 0].size / (height * width)
    x = x.copy()
    x[:, rows, columns] = x[other][:, rows, columns]
    return x, share
