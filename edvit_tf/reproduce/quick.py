"""A recipe in its tiny form, of seconds: `python -m edvit_tf.reproduce.quick RECIPE OPTIONS...`.

Widths are tiny and samples few: what comes out shows that all works, and no accuracy of the method.
The recipe's own `main` runs it, with fields of its configuration replaced by those of QUICK.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from edvit_tf.config import DataConfig, PruneConfig, TrainConfig

FIT = TrainConfig(epochs=1, batch_size=32, learning_rate=5e-4, augment="none")
# of a split by classes, as the paper has it
SPLIT: dict[str, Any] = dict(
    fleet="classes",
    views="none",
    fleet_training=None,
    training_budget=None,
    shared_training=None,
    joint_training=None,
    stage_training=FIT,
    fusion_training=FIT.replace(epochs=15, learning_rate=1e-3),
    calibration_samples=32,
    repair_samples=64,
    start_heads=None,
    budget_bytes=None,
    teacher_precision="float32",
    baselines=(),
    pruning=PruneConfig(heads="merge"),
)
VIT: dict[str, Any] = SPLIT | dict(
    model="vit_mini", base_training=FIT.replace(epochs=10, learning_rate=1e-3)
)
VGG: dict[str, Any] = dict(
    base_training=FIT.replace(
        epochs=6, learning_rate=1e-3, weight_decay=0.0, warmup_fraction=0.0, epoch="fixed"
    ),
    devices=None,
    start_heads=None,
    calibration_samples=128,
    baselines=(),
)


def _few(name: str, size: tuple[int, int], **options) -> DataConfig:
    return DataConfig(name, image_size=size, options=options, stand_in=True)


QUICK: dict[str, dict[str, Any]] = {
    "cifar10": VIT | dict(patch_size=8, data=_few("cifar10", (32, 32), max_per_class=100)),
    "cifar10_cnn": VGG | dict(model="vgg_smoke", data=_few("cifar10", (32, 32), max_per_class=100)),
    "cifar10_snn": VGG | dict(model="snn_smoke", data=_few("cifar10", (32, 32), max_per_class=100)),
    "mnist": VIT | dict(patch_size=7, data=_few("mnist", (28, 28), max_per_class=100)),
    "caltech256": VIT | dict(patch_size=16, data=_few("caltech256", (64, 64), max_per_class=60)),
    "gtzan": VIT
    | dict(patch_size=16, data=_few("gtzan", (64, 64), window_seconds=2.0, max_per_class=30)),
    "speech_commands": VIT
    | dict(patch_size=8, data=_few("speech_commands", (64, 32), max_per_class=60)),
    "newsgroups": SPLIT
    | dict(
        model="bert_smoke",
        data=_few("newsgroups", (1, 48), max_per_class=60, vocab_size=2000),
        base_training=FIT.replace(epochs=6, learning_rate=1e-3),
        pruning=PruneConfig(residual="channels"),
    ),
}

SHORTENED = ("cifar10_cnn", "cifar10_snn")


def main(argv: list[str] | None = None) -> int:
    """Runs the recipe that the first word names; returns its exit code."""
    recipe, *options = sys.argv[1:] if argv is None else argv
    found = runpy.run_path(recipe)
    stem = Path(recipe).stem
    config = found["CONFIG"].replace(
        name=f"{found['CONFIG'].name}-quick", **quick_fields(stem, found)
    )
    return found["main"](
        found["__doc__"], config, smoke=found["SMOKE"], paper=found["PAPER"], argv=options
    )


def quick_fields(stem: str, found: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe's tiny form; a VGG's cuts and fits stay the recipe's, shortened."""
    fields = dict(QUICK[stem])
    if stem in SHORTENED:
        for name in ("stage_training", "fusion_training"):
            fields[name] = getattr(found["CONFIG"], name).replace(epochs=1, learning_rate=1e-3)
    return fields


if __name__ == "__main__":
    raise SystemExit(main())
