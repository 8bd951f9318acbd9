"""Digits and signs as another hand would write them: turned, sheared, larger or smaller, moved,
never mirrored.
"""

import numpy as np

ANGLE, SCALE, SHEAR, SHIFT = (
    12.0,
    0.12,
    0.15,
    0.08,
)  # degrees; share; share; share of a side; each at most, either way


def affine(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random affine map of each picture of a batch (B, H, W, C), uint8 0..255, about its centre.

    A turn of up to 12 degrees, a size of 0.88 to 1.12, a shear of up to 0.15, a move of up to 0.08
    of a side, all uniform (Simard et al. 2003 vary digits so, with elastic distortions beside).
    Bilinear, by keras.ops.image; what comes in from outside takes the nearest edge's value.
    """
    from keras import ops

    batch, height, width, _ = x.shape
    angle = np.deg2rad(rng.uniform(-ANGLE, ANGLE, batch))
    size = 1 + rng.uniform(-SCALE, SCALE, batch)
    shear = rng.uniform(-SHEAR, SHEAR, batch)
    down, right = rng.uniform(-SHIFT, SHIFT, (2, batch)) * np.array([[height], [width]])
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    a, b, c, d = (
        cos,
        shear * cos - sin,
        sin,
        shear * sin + cos,
    )  # output (x, y) about the centre -> input
    y0, x0 = (height - 1) / 2, (width - 1) / 2
    across = x0 + right - a * x0 - b * y0
    along = y0 + down - c * x0 - d * y0
    zero = np.zeros(batch)
    maps = np.stack([a, b, across, c, d, along, zero, zero], axis=1).astype(np.float32)
    y = ops.convert_to_numpy(
        ops.image.affine_transform(
            x.astype(np.float32),
            maps,
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )
    )
    return np.clip(np.rint(y), 0, 255).astype(np.uint8)
