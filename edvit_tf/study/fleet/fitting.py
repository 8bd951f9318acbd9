"""Fits of a stack of models on an accelerator: each by itself, or all together.

The losses are those of `edvit_tf.training`: cross-entropy with the mixture of labels and the base's
probabilities, and the distance of mapped features from the base's. Together, the fused answer is
the softmax of the mean of the logits of the members that are present, and the own losses count
`own_weight`. The step is that of `edvit_tf.training.optimizers.StackedMuon`. On a GPU a whole step
is one graph (torch.cuda.CUDAGraph), since launching its two thousand small operations takes longer
than they do.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.study.fleet import stacked, vit
from edvit_tf.study.fleet.settings import Fit
from edvit_tf.study.fleet.stacked import Stack
from edvit_tf.study.fleet.varied import SHIFT, affine_maps, moved, warped

MOMENTUM = 0.95
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
DECAY = 0.05
WARMUP = 0.1  # share of the steps
RIDGE = 1e-2
JITTER = 2  # pixels, about a fixed view


@dataclass(frozen=True)
class Material:
    """What is trained on; all on the accelerator."""

    pictures: torch.Tensor  # (n, H, W, C) uint8
    targets: torch.Tensor  # (n, classes), the mixture of labels and the base's answers
    goals: torch.Tensor  # (n, f), the base's features, standardised
    labels: torch.Tensor  # (n,)


def fit(
    config: ViTConfig,
    start: Stack,
    material: Material,
    settings: Fit,
    say: Callable[[str], None] = print,
) -> Stack:
    """The stack after a fit."""
    step = _Step(config, start, material, settings)
    play = step.recorded(say) if material.pictures.is_cuda else step.run

    count = len(material.targets)
    steps = max(1, count // settings.batch_size)
    total = int(settings.epochs * steps)
    started = time.perf_counter()
    for number in range(total):
        if number % steps == 0:
            order = torch.randperm(count, device=step.device, generator=step.generator)
        place = number % steps * settings.batch_size
        step.draw(order[place : place + settings.batch_size], number, total)
        play()

        if (number + 1) % max(1, total // 4) == 0:
            spent = (time.perf_counter() - started) / (number + 1)
            say(
                f"  step {number + 1} of {total}: loss {step.loss.item():.4f}, {spent * 1e3:.1f} ms"
            )

    return {n: v.detach() for n, v in step.weights.items() if not n.startswith("map_")}


class _Step:
    """A step of a fit, on buffers that are filled before it: the same addresses every time, so that
    it can be recorded.
    """

    def __init__(self, config: ViTConfig, start: Stack, material: Material, settings: Fit):
        self.config = config
        self.material = material
        self.settings = settings
        self.device = material.pictures.device
        self.members = len(start["token"])
        self.kind = torch.bfloat16 if material.pictures.is_cuda else torch.float32
        self.block = torch.compile(stacked.block) if material.pictures.is_cuda else stacked.block
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)

        weights = dict(start)
        weights |= _feature_map(config, start, material, settings.together)
        self.weights = {n: v.detach().clone().requires_grad_(True) for n, v in weights.items()}
        self.means = {n: torch.zeros_like(v) for n, v in self.weights.items()}
        self.squares = {n: torch.zeros_like(v) for n, v in self.weights.items()}
        self.loss = torch.zeros((), device=self.device)  # running mean

        batch, pictures = settings.batch_size, settings.batch_size * self.members
        self.rows = torch.zeros(batch, dtype=torch.long, device=self.device)
        self.moves = torch.zeros((2, pictures), dtype=torch.long, device=self.device)
        self.flips = torch.zeros(pictures, dtype=torch.bool, device=self.device)
        self.maps = torch.eye(2, 3, device=self.device).repeat(pictures, 1, 1)
        self.inside = _inside(settings.groups, self.material.targets.shape[1], self.device)
        self.present = torch.ones((self.members, batch), device=self.device)
        self.rates = torch.zeros(self.members, device=self.device)
        self.corrections = torch.ones(2, device=self.device)  # Adam's, of means and squares

    def draw(self, rows: torch.Tensor, number: int, total: int) -> None:
        """Fills the buffers for a step."""
        settings = self.settings
        self.rows.copy_(rows)
        self._draw_variations()

        if settings.together and settings.missing:
            there = (self._uniform(self.present.shape) >= settings.missing).float()
            # one of them always is
            one = torch.randint(
                0, self.members, (1, there.shape[1]), device=self.device, generator=self.generator
            )
            self.present.copy_(there.scatter(0, one, 1.0))

        rates = torch.tensor(settings.rates, device=self.device).expand(self.members)
        self.rates.copy_(rates * _schedule(number, total))
        corrections = (1 - BETA_1 ** (number + 1), 1 - BETA_2 ** (number + 1))
        self.corrections.copy_(torch.tensor(corrections))

    def _draw_variations(self) -> None:
        """How each picture of each member is moved, mirrored and warped."""
        settings = self.settings
        reach = max(1, int(SHIFT * self.config.image_shape[0]))
        if settings.fixed_views:
            views = torch.tensor(settings.fixed_views, device=self.device)  # (N, 3)
            views = views.repeat_interleave(settings.batch_size, 0)
            self.moves.copy_(views[:, :2].T + self._integers(JITTER, self.moves.shape))
            self.flips.copy_(views[:, 2].bool())
        elif settings.augment != "affine":
            self.moves.copy_(self._integers(reach, self.moves.shape))
            if settings.augment == "shift_flip":
                self.flips.copy_(self._uniform(self.flips.shape) < 0.5)

        if settings.augment == "affine":
            draws = 2 * self._uniform((5, len(self.flips))) - 1
            self.maps.copy_(affine_maps(draws, self.config.image_shape))

    def _integers(self, reach: int, shape: Sequence[int]) -> torch.Tensor:
        """Whole numbers from -reach to reach."""
        return torch.randint(
            -reach, reach + 1, tuple(shape), device=self.device, generator=self.generator
        )

    def _uniform(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.rand(tuple(shape), device=self.device, generator=self.generator)

    def recorded(self, say: Callable[[str], None]) -> Callable[[], None]:
        """The step as one graph of the GPU."""
        self.draw(torch.arange(self.settings.batch_size, device=self.device), 0, 1000)
        self.rates.zero_()

        # what is compiled is compiled before it is recorded
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self.run()
        torch.cuda.current_stream().wait_stream(beside)

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run()
        for value in (*self.means.values(), *self.squares.values(), self.loss):
            value.zero_()
        say("  the step is recorded")
        return graph.replay

    def run(self) -> None:
        """One step on what the buffers hold."""
        loss = self._loss()
        slopes = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True)
        self.loss.lerp_(loss.detach() / self.members, 0.02)

        with torch.no_grad():
            for name, slope in zip(self.weights, slopes, strict=True):
                if slope is not None:
                    self._update(name, slope)

    def _loss(self) -> torch.Tensor:
        settings = self.settings
        seen = moved(self.material.pictures, self.rows.repeat(self.members), self.moves, self.flips)
        if settings.augment == "affine":
            seen = warped(seen, self.maps)
        seen = vit.patches(self.config, seen)  # (N B, T - 1, p p C)
        seen = seen.reshape(self.members, len(self.rows), *seen.shape[1:])
        features = stacked.features(self.config, self.weights, seen, self.kind, self.block)

        logits = stacked.logits(self.weights, features)  # (N, B, classes)
        mapped = torch.baddbmm(
            self.weights["map_bias"][:, None], features, self.weights["map_kernel"]
        )
        targets = self.material.targets[self.rows]
        goals = self.material.goals[self.rows]

        if self.inside is not None:
            own = self._group_loss(logits, targets)
        else:
            own = -(targets * logits.log_softmax(-1)).sum(-1).mean()
        if not settings.together:
            loss = own + settings.feature_weight * ((mapped - goals) ** 2).mean()
            return self.members * loss  # each member's own, whatever their number

        share = self.present / self.present.sum(0)  # (N, B)
        fused = torch.einsum("nbc,nb->bc", logits, share).log_softmax(-1)
        loss = (1 - settings.own_weight) * -(targets * fused).sum(-1).mean()
        loss = loss + settings.own_weight * own
        apart = torch.einsum("nbf,nb->bf", mapped, share) - goals
        return self.members * (loss + settings.feature_weight * (apart**2).mean())

    def _group_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each member's own classes and "other", which has the rest's sum."""
        inside = self.inside[:, None]  # (N, 1, classes)
        # what all have together, and what the others have of it
        whole = logits.logsumexp(-1)
        rest = logits.masked_fill(inside, float("-inf")).logsumexp(-1)

        own = torch.where(inside, targets * (logits - whole[..., None]), 0.0).sum(-1)
        others = torch.where(inside, 0.0, targets).sum(-1) * (rest - whole)
        return -((own + others) * self._group_weights()).mean()

    def _group_weights(self) -> torch.Tensor:
        """(N, B): the samples of a member's classes weigh half, whatever their number."""
        mine = self.inside[:, self.material.labels[self.rows]]  # (N, B)
        share = self.inside[:, self.material.labels].float().mean(1, keepdim=True)
        return torch.where(mine, 0.5 / share, 0.5 / (1 - share))

    def _update(self, name: str, slope: torch.Tensor) -> None:
        """Muon for the matrices of the blocks, AdamW for all else."""
        weight, mean = self.weights[name], self.means[name]
        is_matrix = name.endswith("kernel")
        if stacked.is_inner(name) and is_matrix:
            mean.mul_(MOMENTUM).add_(slope)
            update = orthogonalised(slope + MOMENTUM * mean, self.kind)
            update = update * (0.2 * max(slope.shape[-2:]) ** 0.5)
        else:
            square = self.squares[name]
            mean.lerp_(slope, 1 - BETA_1)
            square.mul_(BETA_2).addcmul_(slope, slope, value=1 - BETA_2)
            root = (square / self.corrections[1]).sqrt() + EPSILON
            update = mean / self.corrections[0] / root

        if is_matrix:
            update = update + DECAY * weight
        shape = [1] * weight.dim()
        shape[1 if stacked.is_inner(name) else 0] = -1
        weight.sub_(self.rates.reshape(shape) * update)


def orthogonalised(matrices: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """(..., a, b) -> float32, as `edvit_tf.training.optimizers.orthogonalised`."""
    x = matrices.reshape(-1, *matrices.shape[-2:])
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    is_tall = x.shape[1] > x.shape[2]
    x = (x.transpose(1, 2) if is_tall else x).to(kind)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    x = x.transpose(1, 2) if is_tall else x
    return x.float().reshape(matrices.shape)


def _inside(groups, count: int, device) -> torch.Tensor | None:
    """(N, classes) bool: which classes are whose; None without groups."""
    if groups is None:
        return None
    inside = torch.zeros((len(groups), count), dtype=torch.bool, device=device)
    for member, classes in enumerate(groups):
        inside[member, list(classes)] = True
    return inside


def _schedule(step: int, total: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = max(1, round(WARMUP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


@torch.no_grad()
def _feature_map(config: ViTConfig, start: Stack, material: Material, together: bool) -> Stack:
    """Kernels (N, d, f) and biases (N, f) of the ridge regressions of the goals on the features of
    the first 2,048 pictures: of each member's, or of all of them side by side.
    """
    rows = slice(0, 2048)
    goals = material.goals[rows].double()
    seen = vit.patches(config, material.pictures[rows])[None]
    features = stacked.features(config, start, seen, torch.float32).double()  # (N, n, d)
    members, count, width = features.shape

    def regression(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        gram = x.T @ x
        gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=x.device)
        solved = torch.linalg.solve(gram, x.T @ goals).float()
        return solved[:-1], solved[-1]

    if together:
        kernel, bias = regression(features.transpose(0, 1).reshape(count, -1))
        # the members' maps are averaged
        kernels = kernel.reshape(members, width, -1) * members
        return {"map_kernel": kernels, "map_bias": bias.expand(members, -1)}

    both = [regression(own) for own in features]
    return {
        "map_kernel": torch.stack([kernel for kernel, _ in both]),
        "map_bias": torch.stack([bias for _, bias in both]),
    }
