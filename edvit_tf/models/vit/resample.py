"""Weights of one input shape -> weights of another: position embeddings, patch kernels, channels.
Pure numpy.

All three keep what the model computes as near as they can: positions are interpolated on their
grid, the patch kernel is resized so that a resized picture gives the same embedding, and channels
are folded so that a grey picture does.
"""

import numpy as np

from edvit_tf.device.model.resize import resize
from edvit_tf.errors import ConfigError


def resample_positions(
    embedding: np.ndarray, grid: tuple[int, int], new_grid: tuple[int, int]
) -> np.ndarray:
    """(1, 1 + gh gw, d) on `grid` (gh, gw) -> (1, 1 + nh nw, d) on `new_grid`; the class token's
    row is kept.

    Bicubic with half-pixel centres and without antialias, the kernel of PyTorch's
    `interpolate(mode="bicubic")`, which is what DINOv2 and ViT do with an input of another size.
    """
    if grid == new_grid:
        return embedding

    # separable: rows, then columns
    rows = bicubic_matrix(grid[0], new_grid[0])
    columns = bicubic_matrix(grid[1], new_grid[1])
    patches = embedding[0, 1:].reshape(*grid, -1).astype(np.float64)  # (gh, gw, d)
    patches = np.einsum("yh,xw,hwd->yxd", rows, columns, patches, optimize=True)  # (nh, nw, d)
    return np.concatenate([embedding[0, :1], patches.reshape(-1, embedding.shape[-1])])[
        None
    ].astype(np.float32)


def bicubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """(size_out, size_in): rows of cubic convolution weights (Keys 1981, a = -0.75), the edge
    values repeated.
    """
    # where each new pixel's centre lies among the old ones; four of them count there
    a = -0.75
    centre = (np.arange(size_out) + 0.5) * size_in / size_out - 0.5
    left = np.floor(centre).astype(int)
    matrix = np.zeros((size_out, size_in))
    for offset in (-1, 0, 1, 2):
        # Keys's two cubics: for distances up to 1, and from 1 to 2
        t = np.abs(centre - (left + offset))
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

        taps = np.clip(left + offset, 0, size_in - 1)
        np.add.at(matrix, (np.arange(size_out), taps), np.where(t <= 1, near, far))

    return matrix


def resample_patch_kernel(kernel: np.ndarray, patch_size: int) -> np.ndarray:
    """(p, p, C, d) -> (patch_size, patch_size, C, d) by the pseudo-inverse of the picture's own
    resizing.

    With B the matrix that resizes a patch, the new kernel solves <B x, w'> = <x, w> for every patch
    x: exactly where the patch grows, by least squares where it shrinks. B is the bilinear resize of
    `edvit_tf.device.model.resize`, and is separable, so that two small pseudo-inverses do.
    Source: Beyer et al. 2023 (FlexiViT), section 3.4.
    """
    old = kernel.shape[0]
    if patch_size == old:
        return kernel

    # the resizing of one side as a matrix, column by column: what becomes of a unit vector
    matrix = resize(np.eye(old, dtype=np.float32)[:, :, None], patch_size, old)[..., 0].astype(
        np.float64
    )  # (new, old)
    inverse = np.linalg.pinv(matrix.T)  # (new, old)
    return np.einsum(
        "yh,xw,hwcd->yxcd", inverse, inverse, kernel.astype(np.float64), optimize=True
    ).astype(np.float32)


def resample_channels(
    kernel: np.ndarray,
    bias: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channels: int,
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...], tuple[float, ...]]:
    """Patch kernel (p, p, C, d), its bias (d,) and the input's (mean, std) for another number of
    channels.

    3 -> 1: the answer to x is that of the old model to x on all three channels, exactly: the
    differences between the channels' normalisations are folded into kernel and bias. 1 -> 3: a
    third of the kernel on each channel, so that a grey picture gives the old answer. Raises
    ConfigError on other changes.
    """
    old = kernel.shape[2]
    if old == channels:
        return kernel, bias, mean, std
    if (old, channels) not in ((3, 1), (1, 3)):
        raise ConfigError(
            f"the checkpoint takes {old} channels and the data have {channels}; only 3 -> 1 and 1 "
            "-> 3 are folded. Take a checkpoint for pictures (3) or for grey pictures or sound "
            "(1)."
        )

    if channels == 3:
        return np.repeat(kernel / 3, 3, axis=2), bias, mean, std

    # three normalisations of one grey value become one: their differences are linear in it
    means = np.broadcast_to(mean, 3).astype(np.float64)
    stds = np.broadcast_to(std, 3).astype(np.float64)
    new_mean = means.mean()
    new_std = stds.mean()
    per_channel = kernel / stds[:, None]  # (p, p, 3, d), of 0..255
    new_kernel = new_std * per_channel.sum(axis=2, keepdims=True)
    new_bias = bias + ((new_mean - means)[:, None] * per_channel).sum(axis=(0, 1, 2))
    return (
        new_kernel.astype(np.float32),
        new_bias.astype(np.float32),
        (float(new_mean),),
        (float(new_std),),
    )
