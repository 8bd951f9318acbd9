"""Cuts of a base for the members of a fleet, all three stages at once: the best cut, or cuts dealt
out between members so that each keeps others of the base's units.

The pieces are those of `edvit_tf.pruning` (directions of the residual stream, Fisher scores on a
class group, least-squares refits), in torch, so that ten members take seconds. Members that are
dealt to choose in turn, each by its own scores; a unit is chosen as often as it must be.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.study.fleet import vit

RIDGE = 1e-2  # of the refits, relative to the mean square of the activations
BATCH = 256
LIKELY = 16  # answers of a sample that its scores are summed over

_WRITERS = ("attention.output", "mlp.contract")
_QKV = ("attention.query", "attention.key", "attention.value")
_READERS = {"attention.norm": _QKV, "mlp.norm": ("mlp.expand",)}


@dataclass(frozen=True)
class Kept:
    """What a member keeps of the base."""

    directions: np.ndarray  # (d' - 1,) columns of the basis
    qk: list[np.ndarray]  # of each block (h, hd'), indices into h * hd
    v: list[np.ndarray]
    ffn: list[np.ndarray]  # of each block (c',)


class Cutter:
    """A folded base, its principal directions, and the samples on which both are used."""

    def __init__(self, config: ViTConfig, weights: Mapping, samples: torch.Tensor):
        """`samples` (n, T - 1, p p C): patches, as `vit.patches` gives them."""
        self.config = config
        self.folded = fold_norms(config, weights)
        self.samples = samples
        # the class token counts as much as all patches together
        counts = [float(config.num_patches)] + [1.0] * config.num_patches
        self.row_scale = torch.tensor(counts, device=samples.device).sqrt()[:, None]
        self.basis = self._principal_basis()

    @torch.no_grad()
    def _principal_basis(self) -> torch.Tensor:
        """Directions (d, d - 1), float64, of what every norm gives, the largest first."""
        d = self.config.hidden_dim
        device = self.samples.device
        covariance = torch.zeros((d, d), dtype=torch.float64, device=device)

        def add(y: torch.Tensor) -> None:
            y = (y * self.row_scale).reshape(-1, d)
            covariance.add_((y.T @ y).double())

        for x in self.samples.split(BATCH):
            x = vit.embed(self.config, self.folded, x)
            for block in vit.blocks(self.config):
                add(vit.norm(self.config, self.folded, x, f"{block}.attention.norm"))
                x = x + vit.attention(self.config, self.folded, block, x)
                add(vit.norm(self.config, self.folded, x, f"{block}.mlp.norm"))
                x = x + vit.mlp(self.config, self.folded, block, x)
            add(vit.norm(self.config, self.folded, x, "norm"))

        # without (1, ..., 1), which centred writers never use
        centred = torch.eye(d, dtype=torch.float64, device=device) - 1 / d
        vectors = torch.linalg.eigh(centred @ covariance @ centred).eigenvectors.flip(1)
        ones = torch.full((d, 1), d**-0.5, dtype=torch.float64, device=device)
        empty = int((ones.T @ vectors).abs().argmax())
        others = torch.cat([vectors[:, :empty], vectors[:, empty + 1 :]], 1)
        return torch.linalg.qr(torch.cat([ones, others], 1)).Q[:, 1:]

    def scores(self, classes: Sequence[int], samples: torch.Tensor) -> dict[str, np.ndarray]:
        """Half of Var_{y~p}(dz_y / dm) of every unit, mean over `samples`, for the group's head; of
        y one of the LIKELY likeliest answers to each sample.
        """
        config = self.config
        kernel, bias = group_rows(self.folded, classes, config.num_classes)
        basis = self.basis.float()

        total: dict[str, torch.Tensor] = {}
        for x in samples.split(64):
            masks = self._masks(len(x))

            def cut(y: torch.Tensor, name: str, masks=masks) -> torch.Tensor:
                mask = masks[name][:, None]
                if name != "residual":
                    return y * mask
                return y - ((y @ basis) * (1 - mask)) @ basis.T

            logits = vit.features(config, self.folded, x, cut) @ kernel + bias
            # likeliest answers first: of many classes the rest hardly counts, and takes as long
            probabilities = logits.softmax(1).detach()
            likely = min(LIKELY, logits.shape[1])
            probabilities, answers = probabilities.topk(likely, 1)
            probabilities = probabilities / probabilities.sum(1, keepdim=True)
            chosen = logits.gather(1, answers)
            first = {name: torch.zeros_like(mask) for name, mask in masks.items()}
            second = {name: torch.zeros_like(mask) for name, mask in masks.items()}
            for row in range(likely):
                slopes = torch.autograd.grad(
                    chosen[:, row].sum(), list(masks.values()), retain_graph=True
                )
                share = probabilities[:, row : row + 1]
                for name, slope in zip(masks, slopes, strict=True):
                    first[name] += share * slope
                    second[name] += share * slope**2

            for name in masks:
                variance = second[name] - first[name] ** 2
                total[name] = total.get(name, 0) + 0.5 * variance.sum(0).detach()
        return {name: (value / len(samples)).cpu().numpy() for name, value in total.items()}

    def _masks(self, batch: int) -> dict[str, torch.Tensor]:
        """Ones that ask for slopes: (batch, units) by the names of `edvit_tf.pruning`."""
        config = self.config
        widths = {"residual": self.basis.shape[1]}
        for block in vit.blocks(config):
            widths |= {f"{block}.qk": config.attention_dim, f"{block}.v": config.attention_dim}
            widths[f"{block}.ffn"] = config.mlp_dim

        device = self.samples.device
        masks = {}
        for name, width in widths.items():
            masks[name] = torch.ones((batch, width), device=device, requires_grad=True)
        return masks

    @torch.no_grad()
    def cut(self, final: ViTConfig, kept: Kept) -> vit.Weights:
        """The weights of a member, what follows each cut refitted on the samples, block by
        block.
        """
        config = self.config
        zero_sum = torch.tensor(zero_sum_basis(final.hidden_dim), device=self.basis.device)
        spread = (self.basis[:, kept.directions] @ zero_sum.T).float()  # (d, d')
        scale = (final.head_dim / config.head_dim) ** 0.5

        weights = self._sliced(final, kept, spread, scale)
        old = vit.embed(config, self.folded, self.samples)
        new = vit.embed(final, weights, self.samples)

        for i, block in enumerate(vit.blocks(config)):
            qk, v, ffn = kept.qk[i].ravel(), kept.v[i].ravel(), kept.ffn[i]

            # attention: what reads the stream, then what writes it
            told = vit.norm(config, self.folded, old, f"{block}.attention.norm")
            query, key, value = (vit.dense(self.folded, told, f"{block}.{n}") for n in _QKV)
            wanted = torch.cat([query[..., qk] * scale, key[..., qk], value[..., v]], -1)
            read = vit.norm(final, weights, new, f"{block}.attention.norm")
            self._refit(weights, [f"{block}.{name}" for name in _QKV], read, wanted)

            old = old + vit.attention(config, self.folded, block, old)
            read = vit.attended(final, weights, block, new)
            self._refit(weights, [f"{block}.attention.output"], read, old @ spread - new)
            new = new + vit.attention(final, weights, block, new)

            # MLP, likewise
            told = vit.norm(config, self.folded, old, f"{block}.mlp.norm")
            wanted = vit.dense(self.folded, told, f"{block}.mlp.expand")[..., ffn]
            read = vit.norm(final, weights, new, f"{block}.mlp.norm")
            self._refit(weights, [f"{block}.mlp.expand"], read, wanted)

            old = old + vit.mlp(config, self.folded, block, old)
            read = vit.hidden(final, weights, block, new)
            self._refit(weights, [f"{block}.mlp.contract"], read, old @ spread - new)
            new = new + vit.mlp(final, weights, block, new)
        return weights

    def _sliced(
        self, final: ViTConfig, kept: Kept, spread: torch.Tensor, scale: float
    ) -> vit.Weights:
        """The base's weights without what is not kept."""
        weights = dict(self.folded)
        for name in _written(self.config):
            weights[name] = self.folded[name] @ spread

        for i, block in enumerate(vit.blocks(self.config)):
            qk, v, ffn = kept.qk[i].ravel(), kept.v[i].ravel(), kept.ffn[i]
            columns = {
                "attention.query": (qk, scale),
                "attention.key": (qk, 1.0),
                "attention.value": (v, 1.0),
                "mlp.expand": (ffn, 1.0),
            }
            for name, (chosen, times) in columns.items():
                kernel = self.folded[f"{block}.{name}.kernel"][:, chosen]
                weights[f"{block}.{name}.kernel"] = spread.T @ kernel * times
                weights[f"{block}.{name}.bias"] = (
                    self.folded[f"{block}.{name}.bias"][chosen] * times
                )
            for name, chosen in (("attention.output", v), ("mlp.contract", ffn)):
                weights[f"{block}.{name}.kernel"] = weights[f"{block}.{name}.kernel"][chosen]

        # norms of fewer channels, as large as before
        norms = ["norm"]
        for block in vit.blocks(self.config):
            norms += [f"{block}.{name}" for name in _READERS]
        width = final.hidden_dim
        gamma = (self.config.hidden_dim / width) ** 0.5
        for name in norms:
            weights[f"{name}.gamma"] = torch.full((width,), gamma, device=spread.device)
            weights[f"{name}.beta"] = torch.zeros(width, device=spread.device)

        # of a head that reads the mean of the patches too, the class token's half stays
        head = self.folded["head.kernel"][: self.config.hidden_dim]
        weights["head.kernel"] = spread.T @ head
        return weights

    def _refit(
        self, weights: vit.Weights, names: Sequence[str], x: torch.Tensor, y: torch.Tensor
    ) -> None:
        """Ridge regression of y (n, T, m) on x (n, T, k), which shrinks to the weights that stand,
        for the Dense layers `names` side by side.
        """
        x = torch.cat([x, torch.ones_like(x[..., :1])], -1) * self.row_scale
        x = x.reshape(-1, x.shape[-1])
        y = (y * self.row_scale).reshape(len(x), -1)

        parts = []
        for name in names:
            parts.append(torch.cat([weights[f"{name}.kernel"], weights[f"{name}.bias"][None]]))
        start = torch.cat(parts, 1).double()

        gram = (x.T @ x).double()
        cross = (x.T @ y).double()
        shrink = (
            RIDGE
            * gram.diagonal().mean()
            * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
        )
        solved = (start + torch.linalg.solve(gram + shrink, cross - gram @ start)).float()

        for name, part in zip(names, solved.split([p.shape[1] for p in parts], 1), strict=True):
            weights[f"{name}.kernel"] = part[:-1].contiguous()
            weights[f"{name}.bias"] = part[-1].contiguous()


def best_kept(config: ViTConfig, final: ViTConfig, scores: Mapping[str, np.ndarray]) -> Kept:
    """The cut of one model: the largest directions, and the best units of each head and block."""
    (kept,) = dealt(config, final, [scores], shared=0.0, shared_directions=True)
    return kept


def dealt(
    config: ViTConfig,
    final: ViTConfig,
    scores: Sequence[Mapping[str, np.ndarray]],
    shared: float,
    shared_directions: bool,
) -> list[Kept]:
    """What each member keeps, by its own scores: the share `shared` is everybody's, the rest is
    dealt out. With `shared_directions` all have the largest directions.
    """
    members = len(scores)
    width = final.hidden_dim - 1
    directions = [np.arange(width)] * members
    if not shared_directions:
        directions = deal([s["residual"] for s in scores], width, int(shared * width))

    found = [Kept(chosen, [], [], []) for chosen in directions]
    for block in vit.blocks(config):
        for part in ("qk", "v"):
            for member, dims in enumerate(_dealt_heads(config, final, scores, block, part, shared)):
                getattr(found[member], part).append(dims)
        units = deal(
            [s[f"{block}.ffn"] for s in scores], final.mlp_dim, int(shared * final.mlp_dim)
        )
        for member, chosen in enumerate(units):
            found[member].ffn.append(chosen)
    return found


def _dealt_heads(
    config: ViTConfig, final: ViTConfig, scores: Sequence[Mapping], block: str, part: str, shared
) -> list[np.ndarray]:
    """Of each member (h, hd'): all heads stay, with fewer dims of each."""
    count = final.head_dim
    rows: list[list[np.ndarray]] = [[] for _ in scores]
    for head in range(config.num_heads):
        dims = slice(head * config.head_dim, (head + 1) * config.head_dim)
        of_head = [s[f"{block}.{part}"][dims] for s in scores]
        for member, chosen in enumerate(deal(of_head, count, int(shared * count))):
            rows[member].append(chosen + head * config.head_dim)
    return [np.stack(of_heads) for of_heads in rows]


def deal(scores: Sequence[np.ndarray], count: int, shared: int) -> list[np.ndarray]:
    """For each member `count` ascending indices into its scores.

    The `shared` units that are best on average are everybody's. The rest are chosen in turn, each
    member its best that is left; every unit may be chosen as often as makes all choices possible.
    """
    members, units = len(scores), len(scores[0])
    mean = np.mean([s / max(s.sum(), 1e-300) for s in scores], axis=0)
    common = np.argsort(-mean, kind="stable")[:shared]

    own = count - shared
    left = np.full(units, math.ceil(members * own / max(1, units - shared)))
    left[common] = 0

    orders = [np.argsort(-s, kind="stable") for s in scores]
    chosen = [set(common.tolist()) for _ in scores]
    for turn in range(own):
        # first and last change places, so that nobody always chooses first
        for member in range(members) if turn % 2 == 0 else reversed(range(members)):
            mine = [u for u in orders[member] if u not in chosen[member]]
            unit = next((u for u in mine if left[u]), mine[0])
            left[unit] = max(0, left[unit] - 1)
            chosen[member].add(int(unit))
    return [np.array(sorted(units)) for units in chosen]


def group_rows(
    weights: Mapping, classes: Sequence[int], num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's rows of a class group, and "other" as the mean of the rest."""
    rest = [c for c in range(num_classes) if c not in classes]

    def rows(value: torch.Tensor) -> torch.Tensor:
        own = value[..., list(classes)]
        if not rest:
            return own
        return torch.cat([own, value[..., rest].mean(-1, keepdim=True)], -1)

    return rows(weights["head.kernel"]), rows(weights["head.bias"])


def fold_norms(config: ViTConfig, weights: Mapping) -> vit.Weights:
    """As `edvit_tf.models.vit.rotation.fold_norms`: gammas 1, betas 0, writers centred."""
    out = {name: value.double() for name, value in weights.items()}

    def fold(norm: str, readers: Sequence[str], times: int = 1) -> None:
        gamma = out[f"{norm}.gamma"].repeat(times)
        beta = out[f"{norm}.beta"].repeat(times)
        for reader in readers:
            out[f"{reader}.bias"] = out[f"{reader}.bias"] + beta @ out[f"{reader}.kernel"]
            out[f"{reader}.kernel"] = gamma[:, None] * out[f"{reader}.kernel"]
        out[f"{norm}.gamma"] = torch.ones_like(out[f"{norm}.gamma"])
        out[f"{norm}.beta"] = torch.zeros_like(out[f"{norm}.beta"])

    for block in vit.blocks(config):
        for norm, readers in _READERS.items():
            fold(f"{block}.{norm}", [f"{block}.{reader}" for reader in readers])
    fold("norm", ["head"], 2 if config.pool == "cls_mean" else 1)

    for name in _written(config):
        out[name] = out[name] - out[name].mean(-1, keepdim=True)
    return {name: value.float() for name, value in out.items()}


def zero_sum_basis(width: int) -> np.ndarray:
    """Orthonormal (width, width - 1) whose columns sum to zero, as rotation.py has it."""
    steps = np.pi * (np.arange(width)[:, None] + 0.5) * np.arange(1, width)[None] / width
    return np.sqrt(2 / width) * np.cos(steps)


def _written(config: ViTConfig) -> list[str]:
    """Names of the weights whose last axis is the residual stream."""
    names = [
        "patch_embedding.kernel",
        "patch_embedding.bias",
        "class_token.token",
        "position_embedding.embedding",
    ]
    for block in vit.blocks(config):
        for writer in _WRITERS:
            names += [f"{block}.{writer}.kernel", f"{block}.{writer}.bias"]
    return names
