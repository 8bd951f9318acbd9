"""A packed data set on the accelerator: fits of whole fleets there, and their figures."""

import dataclasses
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from edvit_tf.planning.partition import partition
from edvit_tf.study.fleet import experiments as study
from edvit_tf.study.fleet import stacked, vit
from edvit_tf.study.fleet.cutting import Cutter, best_kept, dealt
from edvit_tf.study.fleet.fitting import Material, fit
from edvit_tf.study.fleet.pack import Pack
from edvit_tf.study.fleet.settings import ALL, BEST, UNITS, Experiment, Fit, View
from edvit_tf.study.fleet.varied import viewed, views_of

SMOOTHING = 0.1
DISTILLATION = 0.5
SHARED = 0.3  # of the units, where they are dealt out
REFITTED, SCORED = 2048, 256  # pictures
FLEET = 3  # members, from which on features are put side by side: fewer are rates to choose from


class Laboratory:
    """A packed data set on the accelerator, with its base's answers and cuts."""

    def __init__(self, pack: Pack, kept: int, seed: int, augment: str, splits: Sequence[str]):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")
        self.started = time.perf_counter()
        self.config = pack.config
        self.seed = seed
        self.final = self.config.pruned(kept, self.config.num_classes, heads="keep")
        self.base = {n: self._there(v) for n, v in pack.weights.items()}

        # a mirrored character is another one, or none
        self.views = views_of(self.config.image_shape[0], mirrored=augment == "shift_flip")
        self.pictures = {split: self._decoded(pack, split) for split in splits}
        self.labels = {split: self._there(pack.labels[split]) for split in self.pictures}
        self.material = self._material()

        draw = np.random.default_rng(seed).permutation(len(self.labels["train"]))
        self.order = self._there(draw)
        self.cutter = Cutter(self.config, self.base, self._patches(self.order[:REFITTED]))
        self._best: dict[str, int] = {}  # member of an experiment
        self._cuts: dict[tuple[str, int], list[vit.Weights]] = {}

    def run(
        self, experiment: Experiment, before: dict[str, stacked.Stack]
    ) -> tuple[stacked.Stack, dict]:
        """What was trained, and its figures on the validation pictures (and the test's)."""
        self.say(experiment.name)
        changes = {}
        if experiment.own_views:
            changes["fixed_views"] = self.views[: experiment.members]
        if experiment.grouped:
            changes["groups"] = self._groups(experiment.grouped, experiment.members)
        settings = dataclasses.replace(experiment.fit, **changes)
        whole = fit(self.final, self._start(experiment, before), self.material, settings, self.say)

        result = dataclasses.asdict(experiment)
        result |= self._figures(whole, settings, "validation")
        self._best[experiment.name] = int(np.argmax(result["as it is"]["alone"]))
        for split in self.pictures:
            if split not in ("train", "validation"):
                result[split] = self._figures(whole, settings, split)
        self.say(json.dumps(result))
        return whole, result

    def _figures(self, whole: stacked.Stack, settings: Fit, split: str) -> dict:
        """With one view and with each member's own; and of copies of the best member."""
        pictures, labels = self.pictures[split], self.labels[split]
        members = len(whole["token"])
        result: dict = {}
        for name, views in (("as it is", self.views[:1]), ("views", self.views[:members])):
            seen = study.features(self.final, whole, pictures, views)
            logits = stacked.logits(whole, seen)
            found = study.figures(logits, labels, settings.together)
            if settings.groups:
                # the mean of all members' probabilities as a fleet of copies would have it, beside
                found["mean of all"] = found["fleet"]
                found["fleet"] = study.accuracy(study.by_owner(logits, settings.groups), labels)
            if members >= FLEET:
                learnt = study.features(self.final, whole, self.pictures["train"], views)
                scores = study.by_ridge(learnt, self.labels["train"], seen, self.config.num_classes)
                found["ridge"] = study.accuracy(scores, labels)
            result[name] = found

        best = int(np.argmax(result["as it is"]["alone"]))
        result["copies of the best"] = study.copies(
            self.final, whole, best, pictures, labels, self.views
        )
        return result

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

        for split in self.pictures:
            if split != "train":
                seen = torch.stack([self._answers(split, view)[1] for view in self.views])
                shares = []
                for count in (1, len(seen)):
                    scores = study.fused(seen[:count], together=False)
                    shares.append(study.accuracy(scores, self.labels[split]))
                self.say(f"base: {shares[0]} % of {split}, {shares[1]} with {len(seen)} views")
        self.likeness = logits.softmax(1)
        return Material(self.pictures["train"], targets, goals, self.labels["train"])

    def _answers(self, split: str, view: View = (0, 0, False)) -> tuple[torch.Tensor, torch.Tensor]:
        """(features, logits) of the base."""
        found = []
        for pictures in viewed(self.pictures[split], view).split(256):
            found.append(vit.features(self.config, self.base, vit.patches(self.config, pictures)))
        features = torch.cat(found)
        return features, vit.dense(self.base, features, "head")

    def _start(self, experiment: Experiment, before: dict[str, stacked.Stack]) -> stacked.Stack:
        if experiment.start not in (BEST, UNITS, ALL):
            if experiment.start not in before:
                raise SystemExit(f"{experiment.name} starts from {experiment.start}: run that too.")
            best = self._best[experiment.start]
            return stacked.chosen(before[experiment.start], [best] * experiment.members)

        key = (experiment.start, experiment.members)
        if key not in self._cuts:
            self._cuts[key] = self._cut(*key)
        return stacked.stack(self.final, self._cuts[key])

    def _cut(self, start: str, members: int) -> list[vit.Weights]:
        """The cut weights of each member."""
        everything = range(self.config.num_classes)
        if start == BEST:
            scores = self.cutter.scores(list(everything), self._patches(self.order[:SCORED]))
            kept = best_kept(self.config, self.final, scores)
            return [self.cutter.cut(self.final, kept)] * members

        # classes in as many groups as there are members, in their order
        groups = np.array_split(np.arange(self.config.num_classes), members)
        scores = [self.cutter.scores(list(g), self._patches(self._rows(g))) for g in groups]
        kept = dealt(self.config, self.final, scores, SHARED, start == UNITS)
        return [self.cutter.cut(self.final, one) for one in kept]

    def _groups(self, kind: str, members: int) -> tuple[tuple[int, ...], ...]:
        """Classes in groups: at random, or those together that the base takes for each other."""
        count = self.config.num_classes
        mistaken = torch.zeros((count, count), device=self.device)
        mistaken.index_add_(0, self.labels["train"], self.likeness)
        return partition(count, members, kind, self.seed, mistaken.cpu().numpy())

    def _rows(self, group: np.ndarray) -> torch.Tensor:
        """Rows of training pictures: the group's, and as many others as it has of a class."""
        inside = torch.isin(self.labels["train"][self.order], self._there(group))
        own = self.order[inside][: SCORED * len(group) // (len(group) + 1)]
        others = self.order[~inside][: SCORED - len(own)]
        return torch.cat([own, others])
