"""Accuracy after each cut, with and without repair, and after a short fit: by score, residual
method and heads.

One model of all classes goes through the three stages at once, without training in between, and is
then fitted for an epoch or more, distilling from the base. `residual_study` looks at the first
stage alone, `grid_study` at the whole way.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edvit_tf.config import PruneConfig, TrainConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.stage import Pruned, prune_stage
from edvit_tf.study.common import Base, Rows, Samples, draw

RESIDUAL_GRID = (
    PruneConfig(residual="channels", score="linearised"),
    PruneConfig(residual="channels", score="fisher"),
    PruneConfig(residual="channels", score="magnitude"),
    PruneConfig(residual="channels", score="random"),
    PruneConfig(residual="channels", rounds=4),
    PruneConfig(residual="scored_directions"),
    PruneConfig(),
    PruneConfig(class_token_counts_as_all=False),
)
# Rate chosen on 600 validation images, after a repaired cut to s = 1/2 with all heads kept (80.0
# %): one epoch gives 85.3 / 85.0 / 79.3 % at 1e-5 / 3e-5 / 1e-4.
FIT = TrainConfig(epochs=1, batch_size=50, learning_rate=3e-5, augment="shift_flip")


class Bench:
    """The samples and the starting model that all rows share; `seed` draws the training and
    calibration samples.
    """

    def __init__(
        self,
        base: Base,
        *,
        calibration: int,
        train: int,
        test: int,
        split: str,
        seed: int,
        fitting: TrainConfig = FIT,
    ):
        from edvit_tf.training.train import fit_head, predict, softmax

        self.base = base
        self.seed = seed
        self.fitting = fitting
        self.train = draw(base, "train", train, seed)
        self.calibration = self.train.x[:calibration]
        self.held_out: Samples = draw(base, split, test, 0)
        self._residual: tuple = ()  # (key, Pruned) of the last first stage

        # the fit distils: half the label, half the base's answer  (n, num_classes)
        num_classes = base.config.num_classes
        self.teacher = predict(base.config, base.weights, self.train.x)
        labels = np.eye(num_classes, dtype=np.float32)[self.train.labels]
        self.targets = (labels + softmax(self.teacher["logits"])) / 2

        known = architecture(base.config)
        config, weights = known.group_head(base.config, base.weights, tuple(range(num_classes)))
        if base.config.pool != "cls":
            # the head read patch tokens too; it is fitted anew on the class token's features
            features = self.teacher["features"][:, : config.hidden_dim]
            kernel, bias = fit_head(
                features, self.targets, weights["head.kernel"], weights["head.bias"]
            )
            weights["head.kernel"] = kernel
            weights["head.bias"] = bias
        self.start = (config, weights)

    def accuracy(self, config: ModelConfig, weights: dict) -> float:
        """Share of the held-out samples that are named right."""
        from edvit_tf.training.train import predict

        answers = predict(config, weights, self.held_out.x, batch_size=50)["logits"].argmax(axis=1)

        return round(float((answers == self.held_out.labels).mean()), 4)

    def whole(self) -> dict:
        """Accuracy of the base, and of the same with a head that reads the class token alone."""
        return {
            "base": self.accuracy(self.base.config, self.base.weights),
            "start": self.accuracy(*self.start),
        }

    def prune(self, before: tuple, stage: str, target: ModelConfig, options: PruneConfig) -> Pruned:
        """One stage; the first, which every row of the same residual options shares, is done
        once.
        """
        if stage != "residual":
            return prune_stage(*before, self.calibration, stage, target, options, self.seed)

        # the first stage does not look at the heads, and gives the cut with and without repair
        shared = options.replace(heads="merge", repair=True)
        if options.residual == "directions":
            shared = shared.replace(score="linearised")

        widths = architecture(target).widths_after(self.base.config, target, stage)
        key = (widths, shared)
        if self._residual[:1] != (key,):
            done = prune_stage(*before, self.calibration, stage, target, shared, self.seed)
            self._residual = (key, done)
        done = self._residual[1]
        return done if options.repair else replace(done, repaired=None)

    def fitted(self, config: ModelConfig, weights: dict) -> float:
        """Accuracy after a fit on the training samples, distilling from the base."""
        from edvit_tf.training.train import fit

        def order(epoch):
            return np.random.default_rng([self.seed, epoch]).permutation(len(self.train.labels))

        weights, _ = fit(
            config,
            weights,
            self.train.x,
            self.targets,
            self.fitting,
            epoch_indices=order,
            seed=self.seed,
            title="a short fit",
        )
        return self.accuracy(config, weights)


def residual_study(bench: Bench, rows: Rows, kept_heads: tuple[int, ...]) -> Iterator[dict]:
    """The residual stage alone, one row a method: accuracy after the cut and after the repair."""
    for kept, options in itertools.product(kept_heads, RESIDUAL_GRID):

        def measure(kept=kept, options=options):
            target = bench.base.config.pruned(kept, bench.base.config.num_classes)
            done = prune_stage(
                *bench.start, bench.calibration, "residual", target, options, bench.seed
            )
            return {
                "cut": bench.accuracy(done.config, done.cut),
                "repair": bench.accuracy(done.config, done.repaired),
            }

        name = {
            "study": "residual",
            "kept_heads": kept,
            "seed": bench.seed,
            "options": options.to_dict(),
        }
        yield rows.row(name, measure)


def grid_study(
    bench: Bench, rows: Rows, kept_heads: tuple[int, ...], grid: list[PruneConfig]
) -> Iterator[dict]:
    """All three stages by every option of `grid`, then the fit; one row a choice."""
    for kept, options in itertools.product(kept_heads, grid):

        def measure(kept=kept, options=options):
            target = bench.base.config.pruned(kept, bench.base.config.num_classes, options.heads)
            # Each stage goes on from the one before, nothing being trained in between.
            model = bench.start
            row = {}
            for stage in architecture(bench.base.config).CUTS:
                done = bench.prune(model, stage, target, options)
                row[f"{stage}_cut"] = bench.accuracy(done.config, done.cut)
                if done.repaired is not None:
                    row[f"{stage}_repair"] = bench.accuracy(done.config, done.repaired)
                model = (done.config, done.weights)

            return {**row, "fit": bench.fitted(*model)}

        name = {
            "study": "grid",
            "kept_heads": kept,
            "seed": bench.seed,
            "options": options.to_dict(),
        }
        yield rows.row(name, measure)


def full_grid() -> list[PruneConfig]:
    """Scores x heads x repair on the default residual stage; by the default score whole heads, and
    channels.
    """
    grid = [
        PruneConfig(score=score, heads=heads, repair=repair)
        for score, heads, repair in itertools.product(
            ("linearised", "magnitude", "random"), ("merge", "keep"), (True, False)
        )
    ]
    return [
        *grid,
        PruneConfig(heads="whole"),
        PruneConfig(residual="channels", heads="merge"),
        PruneConfig(residual="channels", heads="merge", repair=False),
    ]


def heads_grid() -> list[PruneConfig]:
    """Every way of making attention narrower, by the default scores and residual stage."""
    ways = itertools.product(("keep", "half", "whole"), ("dims", "directions"))
    return [
        *(PruneConfig(heads=heads, attention=attention) for heads, attention in ways),
        PruneConfig(heads="merge"),
    ]


def best_two() -> list[PruneConfig]:
    """The two rows of the full grid that come out best, s = 1/2 and 1/3 alike: measured with more
    seeds.
    """
    return [PruneConfig(heads="keep"), PruneConfig(heads="keep", score="magnitude")]


def cuts_table(rows: list[dict], num_heads: int) -> str:
    """Text tables of both studies, accuracies in percent."""
    # One file may hold the rows of both studies.
    residual = [row for row in rows if row["study"] == "residual"]
    grid = [row for row in rows if row["study"] == "grid"]
    lines = []
    if residual:
        lines += _residual_table(residual, num_heads)
    if grid:
        lines += ["", *_grid_table(grid, num_heads)]
    return "\n".join(lines)


def _residual_table(rows: list[dict], num_heads: int) -> list[str]:
    lines = [f"{'residual stage alone':<44}{'s':>6}{'cut':>8}{'repair':>8}"]
    for row in rows:
        lines.append(
            f"{_residual_options(row['options']):<44}{row['kept_heads']}/{num_heads:<4}"
            f"{_percent(row['cut']):>8}{_percent(row['repair']):>8}"
        )
    return lines


def _residual_options(options: dict) -> str:
    """How a row cut the residual stream, in words."""
    if options["residual"] == "directions":
        how = "principal directions"
    else:
        kind = "channels" if options["residual"] == "channels" else "directions"
        how = f"{kind}, {options['score']}"
    if options["rounds"] > 1:
        how += f", {options['rounds']} rounds"
    if not options["class_token_counts_as_all"]:
        how += ", all tokens alike"
    return how


def _grid_table(rows: list[dict], num_heads: int) -> list[str]:
    # In the order of the cuts, as the rows have them; a repair may be missing.
    steps = []
    for key in rows[0]:
        if key.endswith("_cut"):
            steps += [key, key.replace("_cut", "_repair")]
    steps.append("fit")

    titles = "".join(f"{step.replace('_', ' '):>18}" for step in steps)
    lines = [f"{'all three stages':<48}{'s':>6}{titles}"]
    for row in rows:
        options = row["options"]
        repair = "repair" if options["repair"] else "no repair"
        heads = options["heads"]
        if options.get("attention", "dims") != "dims":
            heads += f" by {options['attention']}"
        how = f"{options['score']}, {heads}, {repair}, seed {row['seed']}"
        cells = "".join(f"{_percent(row.get(step)):>18}" for step in steps)
        lines.append(f"{how:<48}{row['kept_heads']:>3}/{num_heads:<2}{cells}")
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
