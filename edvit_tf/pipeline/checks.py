"""What ends a run: before training, what could not come to an end; after it, what may not be
published.
"""

import dataclasses
import math
import os
import shutil
from pathlib import Path

import numpy as np

from edvit_tf.config import BASELINES, RunConfig, TrainConfig
from edvit_tf.device.model.input_spec import InputSpec
from edvit_tf.errors import AccuracyError, ConfigError, DataError, ExportError, OutputError
from edvit_tf.export.parity import LARGEST, LARGEST_OF_SPREAD, SPREAD_TIMES, TOLERANCES
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pipeline.member import LONGER
from edvit_tf.pipeline.thresholds import check_threshold
from edvit_tf.planning.fleets import planned_fleet
from edvit_tf.planning.plan import Plan, plan_groups, starting_heads


def check_input(config: RunConfig, spec: InputSpec) -> None:
    """ConfigError for what a run of texts asks for, and only pictures and sound have: views of the
    input, and variations of it in training.
    """
    if spec.has_views or not spec.is_text:
        return
    if config.views != "none":
        raise ConfigError(
            f"views are {config.views!r}, and the inputs are texts, which have no rows and columns "
            "that could be moved or mirrored. Take views none."
        )
    for field in dataclasses.fields(config):
        fit = getattr(config, field.name)
        if isinstance(fit, TrainConfig) and (fit.augment, fit.mix) != ("none", "none"):
            raise ConfigError(
                f"{field.name} has augment {fit.augment!r} and mix {fit.mix!r}; texts are trained "
                "on as they are. Take none for both."
            )


def check_plan(config: RunConfig, dataset, base: ModelConfig) -> Plan:
    """A class split of a base of these widths, by random groups.

    Raises PlanError if there is none, whatever the groups; and DataError where groups are made by
    the base's confusions and the validation split lacks a class.
    """
    if config.strategy != "random":
        seen = {recording.label for recording in dataset.recordings("validation")}
        missing = [name for label, name in enumerate(dataset.labels) if label not in seen]
        if missing:
            raise DataError(
                f"strategy is {config.strategy!r}, which needs validation samples of every class; "
                f"{', '.join(missing)} have none. Add recordings of them, or take --strategy "
                "random."
            )

    check_threshold(config, base)
    split = plan_groups(config, base)
    # a fleet of the one model needs devices that can hold it
    planned_fleet(config, base, split)
    return split


def preflight(out: Path, work: Path, needed_bytes: int) -> None:
    """Raises OutputError unless both folders' parents can be written and have `needed_bytes`
    free.
    """
    # The work folder may not be there yet: then its parent has to take it.
    for folder in {out.parent, work if work.is_dir() else work.parent}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Permissions alone do not tell: a read-only or full disk is known by writing to it.
            probe = folder / f".edvit-probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be written ({error}). Choose another --out, or mend its "
                "permissions."
            ) from error

    free = shutil.disk_usage(work.parent).free
    if free < needed_bytes:
        raise OutputError(
            f"{work.parent} has {free / 2**20:.0f} MiB free; this run needs about "
            f"{needed_bytes / 2**20:.0f} MiB "
            "(inputs, stages, bundle). Make room, or choose another --out."
        )


# A checkpoint has weights, what the optimizer keeps of each and their running mean; the next one
# is written beside it.
CHECKPOINT_TIMES = 8


def needed_bytes(config: RunConfig, dataset, base: ModelConfig) -> int:
    """Bytes that a run will write: inputs, features, weights by stage, checkpoints, the bundle."""
    one = math.prod(dataset.spec.shape) * np.dtype(dataset.spec.dtype).itemsize
    learnt = dataset.size("train") + dataset.size("validation")
    inputs = one * (learnt + dataset.size("test"))

    groups = config.groups_of(len(dataset.labels))
    kept = starting_heads(base, groups, config.start_heads)
    widths = base.pruned(kept, len(dataset.labels))
    narrow = architecture(base).size_bytes(widths)
    wide = architecture(base).size_bytes(base)  # the stages before the last are as wide as that

    devices = len(config.device_specs)
    is_split = config.fleet == "classes" or devices == 1
    count = config.group_count if is_split else devices
    # what is cut and fitted, each in stages of its own; views are chosen by one model at least
    fitted = max(1, len(config.baselines)) + (count if is_split else 0)
    weights = 2 * wide + fitted * (3 * wide + 3 * narrow)
    bundle = wide + (len(config.flavours) * count + len(config.baselines)) * narrow

    # And room for what is small: plans, reports, manifests.
    features = _feature_bytes(config, dataset, base, widths.feature_dim * count, is_split)
    return (
        inputs + features + weights + _together_bytes(config, count, narrow) + bundle + (64 << 20)
    )


def _feature_bytes(
    config: RunConfig, dataset, base: ModelConfig, side_by_side: int, is_split: bool
) -> int:
    """Float32 of the base's answers, and of the sub-models' features: those of training inputs with
    their augmented copies where a fusion is fitted on them, and all again under views.
    """
    learnt = dataset.size("train") + dataset.size("validation")
    rows = dataset.size("validation")
    ways = 1
    if is_split or config.fusion == "auto":
        rows += dataset.size("train") * (1 + config.fusion_views)
        ways = 2 if config.views == "auto" and config.fusion != "joint" else 1
    return 4 * (learnt * (base.feature_dim + base.num_classes) + ways * rows * side_by_side)


def _together_bytes(config: RunConfig, count: int, narrow: int) -> int:
    """Of members that are trained as one: where they start, what comes out, the checkpoint; and of
    the one model that is trained as much, whose checkpoint comes when theirs is gone.
    """
    if config.fleet != "joint":
        return count * narrow if config.joint_training else 0
    starts = 0 if config.fleet_start == "model" else count * narrow
    equal = narrow if "single" in config.baselines else 0
    return starts + (1 + CHECKPOINT_TIMES) * count * narrow + equal


# What raises the accuracy of each kind of fleet.
_NEXT_STEPS = {
    "classes": "Give the sub-models more epochs, or more width: a larger --budget, --start-heads, "
    "or fewer of them (--groups, --devices).",
    "copies": "The copies are as good as their one model: train that for longer "
    "(--training-budget), or make it wider (a larger --budget, --start-heads).",
    "joint": "Train the members for longer (--training-budget), make them wider (a larger "
    "--budget, --start-heads), or take --fleet copies.",
}


def check_accuracy(config: RunConfig, fused: dict, base: dict, kind: str) -> None:
    """Raises AccuracyError if the fused model misses A_re of Eq. 1, on validation data; what to do
    next depends on the kind of the fleet.
    """
    if config.min_accuracy is None or fused["recording"] >= config.min_accuracy:
        return
    step = _NEXT_STEPS[kind]
    if base["recording"] < config.min_accuracy:
        step = f"The base misses it too, so begin with a better one (--base, more epochs). {step}"
    raise AccuracyError(
        f"fused validation accuracy is {fused['recording']:.4f}; {config.min_accuracy:.4f} was "
        f"required (base: {base['recording']:.4f}). {step}"
    )


def check_parity(figures: dict, target: str) -> None:
    """Raises ExportError if a file does not answer as Keras does: no such bundle is published."""
    parts = dict(figures["parity"])

    # Sub-models and fusion are there already; the models beside them carry a figure of their own.
    for name in ("base", *BASELINES, LONGER):
        if name in figures:
            parts[name] = figures[name]["parity"]

    bad = []
    for name, part in parts.items():
        if not part["ok"]:
            bad.append(f"{name} ({_told_parity(part)})")
    if bad:
        raise ExportError(
            f"Keras and .tflite disagree. Their probabilities may by {TOLERANCES[target]:g} on 95 "
            f"of 100 samples and by {LARGEST:g} on the worst, features and logits by "
            f"{SPREAD_TIMES * TOLERANCES[target]:g} and {LARGEST_OF_SPREAD:g} of their spread: "
            f"{', '.join(bad)}. No bundle was published; the stages are kept. Report this with the "
            "versions of TensorFlow and the runtime."
        )


def _told_parity(part: dict) -> str:
    """The figures of one comparison: 95th percentile and largest error, and other answers."""
    told = [
        f"probabilities {part['p95_probability_error']:.1e}, at most "
        f"{part['max_probability_error']:.1e}"
    ]
    if part["p95_relative_error"] is not None:
        told.append(
            f"features and logits {part['p95_relative_error']:.1e} of their spread, at most "
            f"{part['max_relative_error']:.1e}"
        )
    told.append(f"{part['differing_top1']} differing top-1")
    return ", ".join(told)
