"""What is compared: starts, fits and answers of fleets, on validation pictures.

A fleet's answer is the mean of its members' logits where they were trained together, else the mean
of their probabilities; each member sees the picture as it is, or each its own view of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.study.fleet import stacked, vit
from edvit_tf.study.fleet.fitting import Fit, View, moved
from edvit_tf.study.fleet.stacked import Stack

# As it is, mirrored, and moved by 5 or 7 pixels of 98.
VIEWS: tuple[View, ...] = (
    (0, 0, False),
    (0, 0, True),
    (5, 5, False),
    (-5, -5, True),
    (5, -5, True),
    (-5, 5, False),
    (0, 7, False),
    (0, -7, True),
    (7, 0, True),
    (-7, 0, False),
)
BEST = "best"  # every member starts from the cut of one model
UNITS = "units"  # the same directions of the residual stream, other units
ALL = "all"  # other directions too
DRAWS = 10  # of lost members, of which the mean is told


@dataclass(frozen=True)
class Experiment:
    """A fleet and its fit; `start` is one of BEST, UNITS, ALL, or the name of an experiment before,
    whose first member all then start from.
    """

    name: str
    start: str
    members: int
    fit: Fit


_TOGETHER = Fit(epochs=8, together=True)
_APART = Fit(epochs=8)
_FROM_TRAINED = replace(_TOGETHER, epochs=4, rates=(3e-4,))

EXPERIMENTS = (
    Experiment("single, 16 epochs", BEST, 4, Fit(16, rates=(1e-3, 5e-4, 2e-3, 4e-3))),
    Experiment("single, 30 epochs", BEST, 3, Fit(30, rates=(1e-3, 1e-3, 5e-4))),
    Experiment("apart, one cut", BEST, 10, _APART),
    Experiment("together, one cut", BEST, 10, _TOGETHER),
    Experiment("together, one cut, own half", BEST, 10, replace(_TOGETHER, own_weight=0.5)),
    Experiment("together, one cut, none missing", BEST, 10, replace(_TOGETHER, missing=0.0)),
    Experiment("together, other units", UNITS, 10, _TOGETHER),
    Experiment("together, other directions and units", ALL, 10, _TOGETHER),
    Experiment("together, 24 epochs", BEST, 10, replace(_TOGETHER, epochs=24, own_weight=0.5)),
    Experiment("together from the single model", "single, 30 epochs", 10, _FROM_TRAINED),
    Experiment(
        "together from the single model, own views",
        "single, 30 epochs",
        10,
        replace(_FROM_TRAINED, fixed_views=VIEWS),
    ),
)


@torch.no_grad()
def answers(
    config: ViTConfig, whole: Stack, pictures: torch.Tensor, views: Sequence[View]
) -> torch.Tensor:
    """Logits (N, n, classes), float32; one view for all members, or one each."""
    found = []
    for start in range(0, len(pictures), 256):
        rows = torch.arange(start, min(start + 256, len(pictures)), device=pictures.device)
        seen = []
        for down, right, flip in views:
            moves = torch.tensor([[down], [right]], device=rows.device).expand(2, len(rows))
            flips = torch.full((len(rows),), flip, device=rows.device)
            seen.append(vit.patches(config, moved(pictures, rows, moves, flips)))
        features = stacked.features(config, whole, torch.stack(seen), torch.float32)
        found.append(stacked.logits(whole, features))
    return torch.cat(found, 1)


def figures(logits: torch.Tensor, labels: torch.Tensor, together: bool) -> dict:
    """Accuracies in %: of the fleet, of each member alone, of what is left with members lost."""
    members = len(logits)
    rng = np.random.default_rng(0)
    out = {
        "fleet": accuracy(fused(logits, together), labels),
        "alone": [accuracy(own, labels) for own in logits],
    }
    for lost in (1, 3, 5):
        if lost >= members:
            continue
        left = []
        for _ in range(DRAWS):
            there = torch.tensor(rng.permutation(members)[lost:].copy(), device=logits.device)
            left.append(accuracy(fused(logits[there], together), labels))
        out[f"{lost} lost"] = round(float(np.mean(left)), 2)

    chosen = logits.argmax(-1)
    apart = []
    for i in range(members):
        for j in range(i):
            apart.append((chosen[i] != chosen[j]).float().mean().item())
    out["disagreement"] = round(100 * float(np.mean(apart)), 2) if apart else 0.0
    return out


def copies(
    config: ViTConfig, whole: Stack, member: int, pictures: torch.Tensor, labels: torch.Tensor
) -> dict:
    """Accuracy of copies of one member, each with another view, by their number."""
    one = stacked.chosen(whole, [member])
    seen = torch.cat([answers(config, one, pictures, [view]) for view in VIEWS])
    return {n: accuracy(fused(seen[:n], False), labels) for n in (1, 2, 3, 4, 5, 10)}


def fused(logits: torch.Tensor, together: bool) -> torch.Tensor:
    """(n, classes) of members' logits (N, n, classes)."""
    return logits.mean(0) if together else logits.softmax(-1).mean(0)


def accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """In %."""
    return round(100 * (scores.argmax(-1) == labels).float().mean().item(), 2)
