"""What a run is made from. Its digest is the run's key; it lies in run.json of the work folder, and
beside results.json of the bundle.
"""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from edvit_tf import __version__
from edvit_tf.checked import differences, digest
from edvit_tf.config import RunConfig
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.pipeline.member import single_kept
from edvit_tf.pipeline.results import machine
from edvit_tf.pipeline.stage import BUDGET, Run
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import stored_record
from edvit_tf.planning.fleets import splits_classes
from edvit_tf.planning.plan import Plan

# What does not depend on the fleet, and the fields of a configuration that it does depend on.
BEGINNING = ("data", "base", "teacher")
READ_BY_BEGINNING = (
    *("data", "model", "patch_size", "base_training", "teacher_precision", "backend", "seed"),
)
# What shared models depend on besides: not on how classes are grouped, nor on the fits after them.
READ_BY_SHARED = (
    *READ_BY_BEGINNING,
    "shared_training",
    "pruning",
    "calibration_samples",
    "repair_samples",
)
# What is read only once all members are fitted: how they are fused, and what is written of them.
READ_AFTER_MEMBERS = (
    *("name", "fusion", "joint_training", "fusion_lambda", "fusion_training", "fusion_views"),
    *("missing_rate", "min_accuracy", "flavours", "target"),
)
READ_BY_MEMBERS = tuple(
    field.name for field in fields(RunConfig) if field.name not in READ_AFTER_MEMBERS
)

ENGINE = ("jobs", "ray")  # of a description: who fits members, where that is not the run itself


def describe(
    config: RunConfig,
    dataset,
    splits: dict,
    origin: str | None,
    engine: Mapping[str, Any],
    shared_weights: str | None = None,
) -> dict:
    """All that the weights of a run depend on, as plain JSON.

    `splits` are the ids of each split, `origin` says where a given base comes from,
    `engine` what of an engine fits depend on (`elsewhere.engine_facts`), `shared_weights` is the
    digest of weights that were trained elsewhere. How accurate the result
    is to be is left out: another requirement needs no new training.
    """
    description = {
        "config": config.replace(min_accuracy=None).to_dict(),
        "data": dataset.describe(),
        "splits": digest(splits),
        "files": dataset.contents(),
        "version": __version__,
        "base": origin,
        "threads": os.cpu_count(),
        **arithmetic(config.backend),
    }

    description |= engine
    if shared_weights is not None:
        description["shared_weights"] = shared_weights
    return description | _precision(config)


def arithmetic(backend: str = "tensorflow") -> dict:
    """What computes: the versions of the libraries, and the processor, by whose instructions the
    same graph is summed in another order. Weights made by another of them differ in rounding.
    """
    named = dict.fromkeys(("tensorflow", "keras", "numpy", backend))
    libraries = {name: importlib.metadata.version(name) for name in named}
    return {"libraries": libraries, "processor": machine()["cpu"] or platform.machine()}


def _precision(config: RunConfig) -> dict:
    """What precision "auto" is on this machine, where a fit or the base's answers are taken in
    it.
    """
    from edvit_tf.training.precision import resolved

    fits = (
        config.base_training,
        config.shared_training,
        config.stage_training,
        config.joint_training,
        config.fleet_training,
        config.fusion_training,
    )

    asked = {fit.precision for fit in fits if fit is not None}
    asked.add(config.teacher_precision)

    # A precision that is named stands in the configuration already.
    return {"auto": resolved("auto")} if "auto" in asked else {}


def check_reusable(other: Path, description: dict) -> None:
    """Raises OutputError unless the run of another work folder began as this one of `description`
    does: the same data, version, threads and given base, and the same fields of the configuration
    that a beginning reads.
    """
    if _record(other) is None:
        raise OutputError(
            f"--reuse is {other}, which is no work folder of a run (no run.json). Give the folder "
            "<bundle>.work of an earlier run, or leave it out."
        )

    changed = differing(other, description, READ_BY_BEGINNING)
    if changed:
        raise OutputError(
            f"--reuse is {other}, whose base is not this run's; it differs in: "
            f"{'; '.join(changed[:6])}. "
            "Leave it out, or give a run with the same data, base and seed."
        )


def differing(other: Path, description: dict, read: Sequence[str]) -> list[str]:
    """In what the run of another work folder differs from this one of `description`, of the
    configuration only in the fields that are `read`; empty where stages that read nothing else come
    out the same.
    """
    theirs = _record(other)["description"]
    return differences(_start(theirs, read), _start(description, read))


def _start(description: dict, read: Sequence[str]) -> dict:
    """The part of a description that a run's start depends on."""
    config = description["config"]
    # What a version of before a field did not say is that field's default; what only a later one
    # knows is compared as it stands.
    with contextlib.suppress(ConfigError):
        config = RunConfig.from_dict(config).to_dict()
    config = {name: config.get(name) for name in read}
    start = {**description, "config": config}
    for name in ENGINE:  # members alone are fitted by one
        start.pop(name, None)
    if "shared_training" not in read:
        start.pop("shared_weights", None)
    return start


def take_beginning(stages: Stages, reuse: Path | None) -> None:
    """Inputs, base and the base's answers of an earlier run (`check_reusable`)."""
    if reuse is not None:
        stages.take(reuse, BEGINNING)


def take_shared(run: Run, reuse: Path | None, description: dict) -> None:
    """Models of all classes that come out the same in an earlier run: shared models of widths that
    both class splits have, or the one model that both fleets are made of.
    """
    # Without a shared training they follow from all of the earlier run's fits.
    if reuse is None or run.config.shared_training is None:
        return

    # No plan there, or such models made otherwise: they are trained anew.
    earlier = Stages(reuse, "")
    if not earlier.has("plan") or differing(reuse, description, READ_BY_SHARED):
        return

    theirs = Plan.from_dict(earlier.result("plan")["plan"])
    before = RunConfig.from_dict(_record(reuse)["description"]["config"])
    if earlier.has(BUDGET):
        before = RunConfig.from_dict(earlier.result(BUDGET)["config"])
    if before.shared_training != run.config.shared_training:
        return
    if splits_classes(before, theirs) != run.splits_classes:
        return
    if not run.splits_classes:
        if single_kept(before, theirs, run.base) == run.single.kept:
            run.stages.take(reuse, [run.single.stage(step) for step in run.single.steps])
        return

    # Those are trained on all samples, which a rival's own shared model is not.
    widths = {sub.kept for sub in theirs.sub_models} & {sub.kept for sub in run.split.sub_models}
    for member in run.shared:
        if member.kept in widths:
            run.stages.take(reuse, [member.stage(step) for step in member.steps])


def take_members(run: Run, reuse: Path | None, description: dict) -> None:
    """The fits of all members of an earlier run that is another in its fusion alone, or in what is
    written: they come out the same.
    """
    # a budget is divided between members and a joint training
    if reuse is None or run.config.training_budget is not None:
        return
    earlier = Stages(reuse, "")
    if not earlier.has("plan") or differing(reuse, description, READ_BY_MEMBERS):
        return
    theirs = _record(reuse)["description"]
    if any(theirs.get(name) != description.get(name) for name in ENGINE):
        return
    if earlier.result("plan")["plan"] != run.stages.result("plan")["plan"]:
        return
    for member in (*run.shared, *run.members):
        run.stages.take(reuse, [member.stage(step) for step in member.steps])


def _record(folder: Path) -> dict | None:
    """run.json of an earlier run's work folder; OutputError if it is damaged."""
    try:
        return stored_record(folder)
    except OutputError as error:
        raise OutputError(
            f"--reuse is {folder}, whose run.json is damaged. Give another run's work folder, or "
            "leave it out."
        ) from error
