"""`python -m edvit_tf.study.fleet PACK --out FOLDER`: runs the experiments on a packed data set.

Needs torch, numpy and Pillow, and an accelerator to end the same day. Every result is written when
it is there; what was trained is in FOLDER as .npz files, one a member, named as our pipeline reads
weights.
"""

import argparse
import dataclasses
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from edvit_tf.study.fleet import experiments as study
from edvit_tf.study.fleet import stacked, vit
from edvit_tf.study.fleet.cutting import Cutter, best_kept, dealt
from edvit_tf.study.fleet.fitting import Material, fit
from edvit_tf.study.fleet.pack import Pack, read_pack

SMOOTHING = 0.1
DISTILLATION = 0.5
SHARED = 0.3  # of the units, where they are dealt out
REFITTED, SCORED = 2048, 256  # pictures


def main(arguments: list[str] | None = None) -> int:
    """Runs what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edvit_tf.study.fleet", description=__doc__)
    parser.add_argument("pack", type=Path, metavar="PACK", help="folder of `edvit study fleet`")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and weights")
    parser.add_argument("--kept", type=int, default=1, help="heads' share a member keeps (1)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="of the experiments, by name")
    parser.add_argument("--epochs", type=float, help="in the place of each experiment's own")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    args.out.mkdir(parents=True, exist_ok=True)
    laboratory = Laboratory(read_pack(args.pack), args.kept, args.seed)
    trained: dict[str, stacked.Stack] = {}
    results = []
    for experiment in study.EXPERIMENTS:
        if args.only and experiment.name not in args.only:
            continue
        changes = {"batch_size": args.batch, "seed": args.seed}
        if args.epochs is not None:
            changes["epochs"] = args.epochs
        experiment = dataclasses.replace(
            experiment, fit=dataclasses.replace(experiment.fit, **changes)
        )
        trained[experiment.name], result = laboratory.run(experiment, trained)
        results.append(result)
        (args.out / "results.json").write_text(json.dumps(results, indent=1), "utf-8")
        laboratory.save(trained[experiment.name], args.out / f"{len(results):02d}")
    return 0


class Laboratory:
    """A packed data set on the accelerator, with its base's answers and cuts."""

    def __init__(self, pack: Pack, kept: int, seed: int):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")
        self.started = time.perf_counter()
        self.config = pack.config
        self.seed = seed
        self.final = self.config.pruned(kept, self.config.num_classes, heads="keep")
        self.base = {n: self._there(v) for n, v in pack.weights.items()}

        self.pictures = {split: self._decoded(pack, split) for split in ("train", "validation")}
        self.labels = {split: self._there(pack.labels[split]) for split in self.pictures}
        self.material = self._material()

        draw = np.random.default_rng(seed).permutation(len(self.labels["train"]))
        self.order = self._there(draw)
        self.cutter = Cutter(self.config, self.base, self._patches(self.order[:REFITTED]))
        self._cuts: dict[tuple[str, int], list[vit.Weights]] = {}

    def run(
        self, experiment: study.Experiment, before: dict[str, stacked.Stack]
    ) -> tuple[stacked.Stack, dict]:
        """What was trained, and its figures on the validation pictures."""
        self.say(experiment.name)
        start = self._start(experiment, before)
        whole = fit(self.final, start, self.material, experiment.fit, self.say)

        pictures, labels = self.pictures["validation"], self.labels["validation"]
        together = experiment.fit.together
        result = dataclasses.asdict(experiment)
        for name, views in (("as it is", study.VIEWS[:1]), ("views", study.VIEWS)):
            views = views if len(views) == 1 else views[: experiment.members]
            logits = study.answers(self.final, whole, pictures, views)
            result[name] = study.figures(logits, labels, together)
        result["copies of the first"] = study.copies(self.final, whole, 0, pictures, labels)
        self.say(json.dumps(result))
        return whole, result

    def save(self, whole: stacked.Stack, folder: Path) -> None:
        """Writes each member's weights."""
        folder.mkdir(exist_ok=True)
        for member in range(len(whole["token"])):
            np.savez(folder / f"{member:02d}.npz", **stacked.unstack(self.final, whole, member))

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.started:7.1f} s] {text}", flush=True)

    def _there(self, value: np.ndarray) -> torch.Tensor:
        return torch.tensor(value, device=self.device)

    def _decoded(self, pack: Pack, split: str) -> torch.Tensor:
        """(n, H, W, C) uint8, as the pipeline reads them."""

        def decode(data: bytes) -> np.ndarray:
            return pack.spec.from_file(data, {})[0]

        with ThreadPoolExecutor() as pool:
            pictures = np.stack(list(pool.map(decode, pack.files[split])))
        return self._there(pictures)

    def _patches(self, rows: torch.Tensor) -> torch.Tensor:
        return vit.patches(self.config, self.pictures["train"][rows])

    @torch.no_grad()
    def _material(self) -> Material:
        """Targets and goals by the base's answers to the training pictures."""
        features, logits = self._answers("train")
        deviation = features.std(0).clamp_min(1e-6)
        goals = (features - features.mean(0)) / deviation

        count = self.config.num_classes
        hard = functional.one_hot(self.labels["train"], count).float()
        soft = hard * (1 - SMOOTHING) + SMOOTHING / count
        targets = (1 - DISTILLATION) * soft + DISTILLATION * logits.softmax(1)

        _, seen = self._answers("validation")
        self.say(f"base: {study.accuracy(seen, self.labels['validation'])} % of validation")
        return Material(self.pictures["train"], targets, goals)

    def _answers(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(features, logits) of the base."""
        found = []
        for pictures in self.pictures[split].split(256):
            found.append(vit.features(self.config, self.base, vit.patches(self.config, pictures)))
        features = torch.cat(found)
        return features, vit.dense(self.base, features, "head")

    def _start(
        self, experiment: study.Experiment, before: dict[str, stacked.Stack]
    ) -> stacked.Stack:
        if experiment.start not in (study.BEST, study.UNITS, study.ALL):
            if experiment.start not in before:
                raise SystemExit(f"{experiment.name} starts from {experiment.start}: run that too.")
            return stacked.chosen(before[experiment.start], [0] * experiment.members)

        key = (experiment.start, experiment.members)
        if key not in self._cuts:
            self._cuts[key] = self._cut(*key)
        return stacked.stack(self.final, self._cuts[key])

    def _cut(self, start: str, members: int) -> list[vit.Weights]:
        """The cut weights of each member."""
        everything = range(self.config.num_classes)
        if start == study.BEST:
            scores = self.cutter.scores(list(everything), self._patches(self.order[:SCORED]))
            kept = best_kept(self.config, self.final, scores)
            return [self.cutter.cut(self.final, kept)] * members

        # classes in as many groups as there are members, in their order
        groups = np.array_split(np.arange(self.config.num_classes), members)
        scores = [self.cutter.scores(list(g), self._patches(self._rows(g))) for g in groups]
        kept = dealt(self.config, self.final, scores, SHARED, start == study.UNITS)
        return [self.cutter.cut(self.final, one) for one in kept]

    def _rows(self, group: np.ndarray) -> torch.Tensor:
        """Rows of training pictures: the group's, and as many others as it has of a class."""
        inside = torch.isin(self.labels["train"][self.order], self._there(group))
        own = self.order[inside][: SCORED * len(group) // (len(group) + 1)]
        others = self.order[~inside][: SCORED - len(own)]
        return torch.cat([own, others])


if __name__ == "__main__":
    sys.exit(main())
