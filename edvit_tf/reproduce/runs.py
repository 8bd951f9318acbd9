"""Which runs of the recipes an item needs, in the order in which they are made."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.exact import COUNTS
from edvit_tf.reproduce.recipes import RecipeRun
from edvit_tf.study.retraining import RUNS

SPLIT = RUNS["frozen"]  # the paper's fleet
QUICK_JOINT = (2, 5)  # N of the joint trainings of a quick run


def vit_runs(asked: Asked, counts: Iterable[int] = COUNTS) -> list[RecipeRun]:
    """ViT on CIFAR-10, split by classes; with given weights the recipe that is made for such."""
    recipe = "cifar10_dinov2" if asked.base and asked.mode == "recipes" else "cifar10"
    runs: list[RecipeRun] = []
    for seed in asked.seeds:
        first = None
        for count in counts:
            run = RecipeRun(recipe, "cifar10", count, seed, SPLIT, reuse=first)
            runs.append(run)
            first = first or run.name
    return runs


def _one(recipe: str, data: str, quick: int, count: int, asked: Asked, **more) -> list[RecipeRun]:
    devices = quick if asked.is_quick else count
    return [RecipeRun(recipe, data, devices, seed, **more) for seed in asked.seeds]


gtzan_runs = partial(_one, "gtzan", "gtzan", 2, 5, options=SPLIT)
speech_runs = partial(_one, "speech_commands", "speech_commands", 2, 5, options=SPLIT)
mnist_runs = partial(_one, "mnist", "mnist", 2, 10, options=SPLIT)
caltech_runs = partial(_one, "caltech256", "caltech256", 2, 5, options=SPLIT)
cnn_runs = partial(_one, "cifar10_cnn", "cifar10", 10, 10)
snn_runs = partial(_one, "cifar10_snn", "cifar10", 10, 10)
text_runs = partial(_one, "newsgroups", "newsgroups", 2, 5, base="text_base")


def cnn_beside_snn(asked: Asked) -> list[RecipeRun]:
    """Split-CNN of as many pictures as Split-SNN's recipe has: of more it would win by them."""
    if asked.mode != "recipes":
        return cnn_runs(asked)
    few = {"options": ("--max-per-class", "700"), "variant": "-700"}
    return [replace(run, **few) for run in cnn_runs(asked)]


def joint_runs(asked: Asked) -> list[RecipeRun]:
    """The same fleets, trained on together; each takes what the frozen one has made."""
    counts = QUICK_JOINT if asked.is_quick else COUNTS
    runs = []
    for frozen in vit_runs(asked, counts):
        more = {"options": RUNS["joint"], "variant": "-joint", "reuse": frozen.name}
        runs.append(replace(frozen, **more))
    return runs


def retrained_runs(asked: Asked) -> list[RecipeRun]:
    return [*vit_runs(asked), *joint_runs(asked)]


def order_runs(asked: Asked) -> list[RecipeRun]:
    """The three systems of Table 2 and Fig. 6, at N = 10."""
    ten = [run for run in vit_runs(asked) if run.devices == 10]
    return [*ten, *cnn_beside_snn(asked), *snn_runs(asked)]
