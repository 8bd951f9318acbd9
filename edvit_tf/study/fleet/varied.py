"""How pictures are varied on an accelerator, and the views that members of a fleet have."""

import math

import torch
from torch.nn import functional

from edvit_tf.study.fleet.settings import VIEWS, View
from edvit_tf.training.augment import ANGLE, SCALE, SHEAR
from edvit_tf.training.augment import SHIFT as AFFINE_SHIFT

SHIFT = 0.1  # share of a side by which pictures are moved, at most


def views_of(side: int, mirrored: bool) -> tuple[View, ...]:
    """Ten views of pictures of `side` pixels; where a mirrored picture is another thing, moves
    alone.
    """
    found = []
    for down, right, flip in VIEWS:
        if flip and not mirrored and not (down or right):
            down, right = 3, 0
        moves = (round(down * side / 98), round(right * side / 98))
        found.append((*moves, flip and mirrored))
    return tuple(found)


def moved(
    pictures: torch.Tensor, rows: torch.Tensor, moves: torch.Tensor, flips: torch.Tensor
) -> torch.Tensor:
    """(B, H, W, C): the pictures `rows`, moved down and right by `moves` (2, B) pixels with edges
    repeated, and mirrored where `flips` (B,).
    """
    height, width = pictures.shape[1:3]
    down = torch.arange(height, device=pictures.device) + moves[0][:, None]
    right = torch.arange(width, device=pictures.device) + moves[1][:, None]
    down = down.clamp(0, height - 1)
    right = right.clamp(0, width - 1)
    right = torch.where(flips[:, None], right.flip(1), right)
    return pictures[rows[:, None, None], down[:, :, None], right[:, None, :]]


def viewed(pictures: torch.Tensor, view: View) -> torch.Tensor:
    """All pictures (n, H, W, C) as one view shows them."""
    down, right, mirrored = view
    count, device = len(pictures), pictures.device
    moves = torch.tensor([[down], [right]], device=device).expand(2, count)
    flips = torch.full((count,), mirrored, device=device)
    return moved(pictures, torch.arange(count, device=device), moves, flips)


def affine_maps(draws: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """(B, 2, 3) for `warped` of draws (5, B) from -1 to 1: a turn, a size, a shear, and moves down
    and right, as far as `edvit_tf.training.augment.affine` goes.
    """
    angle = draws[0] * math.radians(ANGLE)
    size = 1 + draws[1] * SCALE
    shear = draws[2] * SHEAR
    cos, sin = angle.cos() / size, angle.sin() / size

    # where an output's place is read, from -1 to 1 along either side
    height, width, _ = shape
    across = torch.stack(
        [cos, (shear * cos - sin) * height / width, 2 * AFFINE_SHIFT * draws[4]], 1
    )
    along = torch.stack([sin * width / height, shear * sin + cos, 2 * AFFINE_SHIFT * draws[3]], 1)
    return torch.stack([across, along], 1)


def warped(pictures: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) float32 of whole grey levels, bilinear, edges repeated."""
    x = pictures.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(maps, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return x.permute(0, 2, 3, 1).round()
