"""What is compared: starts, fits and answers of fleets, on validation pictures.

A fleet's answer is the mean of its members' logits where they were trained together, else the mean
of their probabilities; each member sees the picture as it is, or each its own view of it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.study.fleet import stacked, vit
from edvit_tf.study.fleet.settings import View
from edvit_tf.study.fleet.stacked import Stack
from edvit_tf.study.fleet.varied import viewed

DRAWS = 10  # of lost members, of which the mean is told
RIDGE = 1e-2


@torch.no_grad()
def features(
    config: ViTConfig, whole: Stack, pictures: torch.Tensor, views: Sequence[View]
) -> torch.Tensor:
    """What the heads read (N, n, d), float32; one view for all members, or one each."""
    found = []
    for some in pictures.split(256):
        seen = [vit.patches(config, viewed(some, view)) for view in views]
        found.append(stacked.features(config, whole, torch.stack(seen), torch.float32))
    return torch.cat(found, 1)


def answers(
    config: ViTConfig, whole: Stack, pictures: torch.Tensor, views: Sequence[View]
) -> torch.Tensor:
    """Logits (N, n, classes) of `features`."""
    return stacked.logits(whole, features(config, whole, pictures, views))


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
    config: ViTConfig,
    whole: Stack,
    member: int,
    pictures: torch.Tensor,
    labels: torch.Tensor,
    views: Sequence[View],
) -> dict:
    """Accuracy of copies of one member, each with another view, by their number."""
    one = stacked.chosen(whole, [member])
    seen = torch.cat([answers(config, one, pictures, [view]) for view in views])
    return {n: accuracy(fused(seen[:n], False), labels) for n in (1, 2, 3, 4, 5, 10)}


def by_owner(logits: torch.Tensor, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """(n, classes): of each class the log-probability by the member whose class it is."""
    own = logits.log_softmax(-1)
    scores = torch.empty_like(own[0])
    for member, classes in enumerate(groups):
        scores[:, list(classes)] = own[member][:, list(classes)]
    return scores


def by_ridge(
    learnt: torch.Tensor, labels: torch.Tensor, seen: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """(n, classes): the labels as a ridge regression on the features (N, m, d) of all members side
    by side, at other features (N, n, d).
    """

    def joined(x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(0, 1).flatten(1).double()
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)

    x = joined(learnt)
    gram = x.T @ x
    gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=x.device)
    wanted = functional.one_hot(labels, num_classes).double()
    return joined(seen) @ torch.linalg.solve(gram, x.T @ wanted)


def fused(logits: torch.Tensor, together: bool) -> torch.Tensor:
    """(n, classes) of members' logits (N, n, classes)."""
    return logits.mean(0) if together else logits.softmax(-1).mean(0)


def accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """In %."""
    return round(100 * (scores.argmax(-1) == labels).float().mean().item(), 2)


def row_of(result: Mapping) -> str:
    """A line of the table: epochs, one view, views, members alone, half of them lost."""
    alone = result["as it is"]["alone"]
    cells = [
        result["name"],
        f"{result['fit']['epochs']:g}",
        f"{result['as it is']['fleet']:.1f}",
        f"{result['views']['fleet']:.1f}",
        f"{min(alone):.1f}-{max(alone):.1f}",
    ]
    for key in ("5 lost", "disagreement"):
        found = result["views"].get(key)
        cells.append("" if found is None else f"{found:.1f}")
    ridge = result["views"].get("ridge")
    cells.append("" if ridge is None else f"{ridge:.1f}")
    return f"| {' | '.join(cells)} |"
