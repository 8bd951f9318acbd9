"""The whole run: base, plan, cut and fit in turn, fuse, export, measure, report. Every stage is
stored and resumable.

A run that was killed and started again ends with the same .tflite files as an unbroken one (same
seed, same thread count). The bundle appears at `out`, whole, at the end; the stages lie beside it
in `<out>.work`.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edvit_tf.checked import digest
from edvit_tf.config import RunConfig
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.errors import OutputError
from edvit_tf.evaluation.evaluate import SPLITS
from edvit_tf.models import load_base
from edvit_tf.models.sources import find_base
from edvit_tf.pipeline import fusing, steps
from edvit_tf.pipeline.checks import (
    check_accuracy,
    check_input,
    check_parity,
    check_plan,
    needed_bytes,
    preflight,
)
from edvit_tf.pipeline.description import (
    check_reusable,
    describe,
    take_beginning,
    take_members,
    take_shared,
)
from edvit_tf.pipeline.divide import with_budget
from edvit_tf.pipeline.elsewhere import check_backend_alone, check_engine, engine_facts
from edvit_tf.pipeline.fit_members import fit_members
from edvit_tf.pipeline.fleets import make_fleet
from edvit_tf.pipeline.floor import floor
from edvit_tf.pipeline.inputs import store_inputs
from edvit_tf.pipeline.measure import measure
from edvit_tf.pipeline.outside import digest_of, fitting_share, outside, read_weights
from edvit_tf.pipeline.places import is_taken, resolved, work_of
from edvit_tf.pipeline.publish import finished, publish
from edvit_tf.pipeline.results import results_of
from edvit_tf.pipeline.stage import OUTSIDE, Run, Stage
from edvit_tf.pipeline.work_folder import lock, may_replace, open_stages
from edvit_tf.planning.fleets import planned_fleet
from edvit_tf.progress import tell
from edvit_tf.report.planned_fleet import one_model_said
from edvit_tf.report.tables import plan_table, wrapped


def run(
    config: RunConfig,
    dataset,
    out: Path,
    *,
    base: str | Path | None = None,
    overwrite: bool = False,
    reuse: Path | None = None,
    jobs: int = 1,
    ray: str | None = None,
    shared_weights: Path | None = None,
    tuned: dict | None = None,
) -> dict:
    """Runs or resumes `config` on `dataset` (edvit_tf.data.Dataset); the bundle appears at `out`,
    whole, at the end.

    Stages lie beside it in `<out>.work`. `base` is what to start from instead of training a base: a
    .keras file of ours, a checkpoint folder or a hub name (`edvit_tf.models.sources`); where
    its head is new it is fine-tuned. `reuse` is the work folder of an earlier run, of another fleet
    from the same start: its inputs, base, the base's answers, and shared models of widths that both
    fleets have are taken, which come out the same; of the same fleet, fused otherwise, all fits.
    `jobs` processes fit members at once; as they have fewer threads each, their weights may differ
    in rounding from those of one process. `ray` is the address of a Ray cluster that fits them
    ("auto": the one that this machine is a node of), each by one CPU.
    `shared_weights` is an .npz file that takes the place of the shared training: weights by name of
    a model of all classes, of the widths that the plan gives it. `tuned` is what a search for
    settings came to (`tuning`), for the results.

    Returns the results (also in results.json). Raises OutputError, PlanError, AccuracyError,
    ExportError, ConfigError, DataError, ClusterError, and RuntimeMissing when there is no TFLite
    runtime to measure with.
    """
    import tensorflow as tf

    from edvit_tf.models.keras_settings import check_backend, pinned
    from edvit_tf.training.backend import computing_on, leave_gpus

    started = time.perf_counter()
    # Raised here if there is none, before hours of training.
    runtime_name()
    check_backend()

    out = resolved(out)
    work = work_of(out)
    base = None if base is None else find_base(base)  # a name on the hub is fetched once

    leave_gpus(config.backend)
    with computing_on(config.backend):
        description = _description(config, dataset, base, engine_facts(jobs, ray), shared_weights)
        key = digest(description)

        # An earlier start of this very run was told to replace what stands there: it goes on.
        if is_taken(out) and not overwrite and not may_replace(work, key):
            results = finished(out, work, key, description)
            kind = results.get("fleet", {}).get("kind", "classes")  # of older versions alone
            validated = results["fusion"]["validation"], results["base"]["validation"]
            check_accuracy(config, *validated, kind)
            return results

        # What would fail at the end is found before the beginning.
        check_engine(jobs, ray)
        check_backend_alone(config.backend, jobs, ray)
        _check(config, dataset, base, out, work, shared_weights)
        if reuse is not None:
            _check_reuse(reuse, work, overwrite, description)

        with lock(work), pinned():
            stages = open_stages(work, key, description, overwrite, replaces=is_taken(out))
            # The same seed is to give the same files.
            tf.config.experimental.enable_op_determinism()
            begun = Run(stages, config)
            fit = partial(fit_members, jobs=jobs, ray=ray)
            now = _make_stages(begun, dataset, base, fit, reuse, description, shared_weights)

            seconds = round(time.perf_counter() - started, 1)
            results = {**results_of(now, description["base"], seconds), "tuning": tuned}
            publish(stages, out, results)
    return results


def _make_stages(
    now: Run,
    dataset,
    base: Path | None,
    fit: Callable[[Run], None],
    reuse: Path | None,
    description: dict,
    shared_weights: Path | None,
) -> Run:
    """Every stage of a run in its order, each with what it reads; between them what is told, taken
    from an earlier run, and checked. Returns the run as its fits were made: with the epochs that a
    training budget allows.
    """
    take_beginning(now.stages, reuse)

    # The base and its answers, and the plan that follows from them.
    now.make(
        Stage("data", (), partial(store_inputs, dataset=dataset)),
        Stage("floor", ("data",), partial(floor, is_picture=dataset.spec.is_picture)),
        Stage("base", ("data",), partial(steps.base, dataset=dataset, given=base)),
        Stage("teacher", ("data", "base"), steps.teacher),
        Stage("plan", ("data", "base", "teacher"), steps.plan),
    )
    now = with_budget(now)
    now.stages.course.expected = _stages_to_come(now, shared_weights is not None)
    tell(_planned(now))

    if shared_weights is not None:
        build = partial(outside, given=shared_weights)
        now.make(Stage(OUTSIDE, ("data", "base", "plan"), build))

    # What is cut and fitted, each in stages of its own (`cutting.stages_of`).
    take_shared(now, reuse, description)
    take_members(now, reuse, description)
    fit(now)

    # The fleet, once the one model is known; and what is trained of it as one.
    make_fleet(now, dataset.spec.is_picture)
    fitted = tuple(dict.fromkeys(member.last_stage for member in now.sub_models))

    # One answer of theirs.
    now.make(
        Stage("features", ("data", *fitted), steps.features),
        Stage("fusion", ("data", "features", *fitted), fusing.fusion),
    )
    if now.tries_joint:
        now.make(Stage("joint", ("data", "teacher", "fusion", *fitted), fusing.joint))
    now.make(Stage("calibration", ("data", now.fused_stage), fusing.calibration))
    check_accuracy(now.config, *_validated(now), now.kind)

    # The files, and their figures.
    bundle = partial(steps.bundle, dataset=dataset)
    now.make(
        Stage("bundle", ("data", "calibration", *fitted), bundle),
        Stage(
            "measure",
            ("data", "floor", "base", "bundle", *fitted),
            partial(measure, dataset=dataset),
        ),
    )
    check_parity(now.stages.result("measure"), now.config.target)
    return now


def _stages_to_come(now: Run, has_outside: bool) -> int:
    """How many stages the run has, once its plan is known; the fleet that it chooses may add a
    few.
    """
    of_members = sum(len(member.steps) for member in (*now.shared, *now.members))
    chosen = 1 + (now.config.views == "auto" and now.single is not None)
    asked = 0
    if now.config.fleet == "joint":
        from_single = now.config.fleet_start == "model"
        # where its members start, or the rival of equal training, which comes only after these
        asked = 1 + (not from_single or "single" in now.config.baselines)
    # features, fusion, calibration, bundle, measure; and a training of all that was asked for. What
    # the fleet is of a run that chooses it is not known yet.
    joint = now.splits_classes and now.config.joint_training is not None
    last = 5 + asked + joint
    return len(now.stages.course.seen) + has_outside + of_members + chosen + last


def _planned(now: Run) -> str:
    """The class split; of another fleet the one model that it will be made of."""
    if now.splits_classes:
        return plan_table(now.split, list(now.labels))
    fleet = planned_fleet(now.config, now.base, now.split)
    return wrapped(f"plan: {one_model_said(now.base, fleet)}, of which the fleet will be made")


def _validated(now: Run) -> tuple[dict, dict]:
    """Accuracy on validation data, of the fused model and of the base."""
    fused = now.stages.result("calibration")
    taught = now.stages.result("teacher")
    return fused["validation"], taught["validation"]


def _description(
    config: RunConfig, dataset, base: Path | None, engine: dict, shared_weights: Path | None
) -> dict:
    """What the run is made from (`describe`)."""
    from edvit_tf.models.sources import base_origin

    splits = {split: dataset.split_ids(split) for split in SPLITS}
    origin = None if base is None else base_origin(base, digest(splits))
    given = None if shared_weights is None else digest_of(shared_weights)
    return describe(config, dataset, splits, origin, engine, given)


def _check(
    config: RunConfig,
    dataset,
    base: Path | None,
    out: Path,
    work: Path,
    shared_weights: Path | None,
) -> None:
    """What can be known to fail is found before training: base, plan, weights from outside, room,
    another's folder.
    """
    # Shapes alone count here: mean and std are known once the inputs are read.
    check_input(config, dataset.spec)
    expected = steps.base_config(config, dataset)
    if base is not None:
        files = dataset.input_files
        expected = load_base(base, expected, dataset.labels, False, files).config

    if config.backend != "tensorflow":
        from edvit_tf.training.backend import check_fit_elsewhere

        check_fit_elsewhere(expected, config.backend, ())
    split = check_plan(config, dataset, expected)
    if shared_weights is not None:
        fitting_share(read_weights(shared_weights), config, split, expected)
    preflight(out, work, needed_bytes(config, dataset, expected))


def _check_reuse(reuse: Path, work: Path, overwrite: bool, description: dict) -> None:
    """Raises OutputError if nothing can be taken from the earlier run."""
    if overwrite and reuse.resolve() == work:
        raise OutputError(
            f"--reuse is {reuse}, this run's own work folder, which --overwrite empties. Leave "
            "one of them out, or take another --out."
        )
    check_reusable(reuse, description)
