"""The whole run: base, plan, cut and fit in turn, fuse, export, measure, report. Every stage is
stored and resumable.

A run that was killed and started again ends with the same .tflite files as an unbroken one (same
seed, same thread count). The bundle appears at `out`, whole, at the end; the stages lie beside it
in `<out>.work`.
"""

import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np

from edvit_tf import __version__
from edvit_tf.checked import digest
from edvit_tf.config import BASELINES, Plan, RunConfig, ViTConfig
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.errors import AccuracyError, ExportError, OutputError
from edvit_tf.export.parity import TOLERANCES
from edvit_tf.models.sources import find_base
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.pretrained import base_origin, load_base
from edvit_tf.pipeline import fleet, fusing, steps
from edvit_tf.pipeline.inputs import store_inputs
from edvit_tf.pipeline.measure import measure
from edvit_tf.pipeline.members import fit_members, training_macs_of
from edvit_tf.pipeline.publish import check_replaceable, finished, publish, stored_key
from edvit_tf.pipeline.rivals import Rival, rivals
from edvit_tf.pipeline.store import check_reusable, differing, lock, open_stages, preflight
from edvit_tf.planning.plan import plan_groups, starting_heads
from edvit_tf.report.tables import plan_table

# What does not depend on the fleet, and the fields of a configuration that it does depend on.
BEGINNING = ("data", "base", "teacher")
_READ_BY_BEGINNING = ("data", "model", "patch_size", "base_training", "teacher_precision", "seed")
# What shared models depend on besides: not on how classes are grouped, nor on the fits after them.
_READ_BY_SHARED = (
    *_READ_BY_BEGINNING,
    "shared_training",
    "pruning",
    "calibration_samples",
    "repair_samples",
)


def run(
    config: RunConfig,
    dataset,
    out: Path,
    *,
    base: str | Path | None = None,
    overwrite: bool = False,
    reuse: Path | None = None,
    jobs: int = 1,
) -> dict:
    """Runs or resumes `config` on `dataset` (edvit_tf.data.Dataset); the bundle appears at `out`,
    whole, at the end.

    Stages lie beside it in `<out>.work`. `base` is what to start from instead of training a base: a
    .keras file of ours, a checkpoint folder or a hub name (`edvit_tf.models.vit.pretrained`); where
    its head is new it is fine-tuned. `reuse` is the work folder of an earlier run, of another fleet
    from the same start: its inputs, base, the base's answers, and shared models of widths that both
    fleets have are taken, which come out the same. `jobs` processes fit members at once; as they
    have fewer threads each, their weights may differ in rounding from those of one process.

    Returns the results (also in results.json). Raises OutputError, PlanError, AccuracyError,
    ExportError, ConfigError, DataError, and RuntimeMissing when there is no TFLite runtime to
    measure with.
    """
    import tensorflow as tf

    started = time.perf_counter()
    runtime_name()
    out = out.resolve()
    work = out.with_name(out.name + ".work")
    splits = {split: dataset.split_ids(split) for split in ("train", "validation", "test")}
    base = None if base is None else find_base(base)  # a name on the hub is fetched once
    origin = None if base is None else base_origin(base, digest(splits))
    description = {
        "config": config.replace(min_accuracy=None).to_dict(),
        "data": dataset.describe(),
        "splits": digest(splits),
        "files": dataset.contents(),
        "version": __version__,
        "base": origin,
        "threads": os.cpu_count(),
        **({} if jobs == 1 else {"jobs": jobs}),
        **_arithmetic(config),
    }
    key = digest(description)
    again = stored_key(out) == key
    if out.exists() and not overwrite:
        results = finished(out, work, key, description)
        _check_accuracy(config, results["fusion"]["validation"], results["base"]["validation"])
        return results
    expected = steps.base_vit_config(
        config, dataset.spec.shape, len(dataset.labels), (0.0,), (1.0,)
    )
    if base is not None:
        expected = load_base(base, expected, dataset.labels).config
    fleet.check_strategy(config, dataset)
    plan_groups(config, expected, None)  # a plan that cannot be is found before training
    if reuse is not None:
        if overwrite and reuse.resolve() == work:
            raise OutputError(
                f"--reuse is {reuse}, this run's own work folder, which --overwrite empties. Leave "
                "one "
                "of them out, or take another --out."
            )
        check_reusable(reuse, description, _READ_BY_BEGINNING)
    preflight(out, work, _needed_bytes(config, dataset, expected))
    check_replaceable(out)
    held = lock(work)
    stages = open_stages(work, key, description, overwrite, again)
    tf.config.experimental.enable_op_determinism()
    if reuse is not None:
        stages.take(reuse, BEGINNING)

    data = stages.run("data", lambda folder: store_inputs(folder, dataset))
    base_config = steps.base_vit_config(
        config, dataset.spec.shape, len(dataset.labels), data["mean"], data["std"]
    )
    fitted = stages.run(
        "base",
        lambda folder: steps.base(folder, stages, config, base_config, base, dataset),
    )
    base_config = ViTConfig.from_dict(fitted["config"])
    teacher = stages.run(
        "teacher",
        lambda folder: steps.teacher(folder, stages, base_config, config.teacher_precision),
    )
    planned = stages.run("plan", lambda folder: fleet.plan_fleet(config, base_config, stages))
    plan = Plan.from_dict(planned["plan"])
    print(plan_table(plan, list(dataset.labels)), flush=True)
    if reuse is not None and not differing(reuse, description, _READ_BY_SHARED):
        stages.take(reuse, fleet.shared_stages(config, plan, reuse))
    members = [*plan.sub_models, *rivals(config, plan, base_config)]
    histories, shared = fit_members(stages, config, base_config, plan, members, jobs)
    num_classes = len(dataset.labels)
    stages.run("features", lambda folder: steps.features(folder, stages, config, plan))
    fused = stages.run(
        "fusion", lambda folder: fusing.fusion(folder, stages, config, plan, num_classes)
    )
    joint = None
    if config.fusion == "joint":
        joint = stages.run(
            "joint", lambda folder: fusing.joint(folder, stages, config, plan, num_classes)
        )
    calibrated = stages.run(
        "calibration", lambda folder: fusing.calibration(folder, stages, config)
    )
    _check_accuracy(config, calibrated["validation"], teacher["validation"])
    stages.run(
        "bundle",
        lambda folder: steps.bundle(
            folder, stages, config, plan, dataset, data["description"], splits
        ),
    )
    figures = stages.run(
        "measure", lambda folder: measure(folder, stages, config, base_config, plan, members)
    )
    _check_parity(figures, config.target)
    done = {
        path.name: json.loads((path / "stage.json").read_text(encoding="utf-8"))["result"]
        for path in sorted(work.iterdir())
        if (path / "stage.json").is_file()
    }
    codes = stages.codes(done)
    if len(codes) > 1:
        print(
            f"WARNING: stages of this run were made by {len(codes)} versions of the code; "
            "--overwrite makes them "
            "anew.",
            flush=True,
        )
    seconds = {name: result["seconds"] for name, result in done.items()}
    results = {
        "name": config.name,
        "seed": config.seed,
        "data": data["description"],
        "machine": machine(),
        "base": {
            **_costs(base_config),
            "given": origin and "; ".join([origin, *fitted.get("notes", ())]),
            "training": fitted["history"],
            "validation": teacher["validation"],
            **figures["base"],
        },
        "sub_models": [
            {**entry, "stages": histories[entry["name"]]} for entry in figures["sub_models"]
        ],
        "single": None,
        **{
            one.kind: {**_costs(one.config), "stages": histories[one.kind], **figures[one.kind]}
            for one in members
            if isinstance(one, Rival)
        },
        "shared": shared,
        "training_macs": training_macs_of(
            shared, histories, members, [fused, *([joint] if joint else [])]
        ),
        "fusion": {
            "kind": config.fusion,
            "history": fused["history"],
            "validation": calibrated["validation"],
            "frozen_validation": fused["validation"],
            "joint": joint and joint["history"],
            "temperature": calibrated["temperature"],
            "validation_calibration": {
                name: calibrated[name] for name in ("samples", "before", "after")
            },
            **figures["fusion"],
        },
        **{
            key: figures[key]
            for key in ("parity", "missing_one", "losses", "lost_devices", "confusion", "flavours")
        },
        "labels": list(dataset.labels),
        "plan": {
            "total_bytes": plan.total_bytes,
            "deployed_bytes": plan.deployed_bytes,
            "budget_bytes": plan.budget_bytes,
        },
        "stage_seconds": seconds,
        "seconds": round(sum(seconds.values()), 1),
        "this_process_seconds": round(time.perf_counter() - started, 1),
        "peak_rss_bytes": max(result["peak_rss_bytes"] or 0 for result in done.values()),
        "key": key,
        "code": codes,
    }
    publish(stages, out, results)
    held.close()
    return results


def machine() -> dict:
    """What the figures were measured on."""
    cpu = (
        next(
            (
                line.split(":", 1)[1].strip()
                for line in open("/proc/cpuinfo")
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if os.path.exists("/proc/cpuinfo")
        else platform.processor()
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def _check_accuracy(config: RunConfig, fused: dict, base: dict) -> None:
    """A_re of Eq. 1, on validation data: a changed requirement needs no new training."""
    if config.min_accuracy is not None and fused["recording"] < config.min_accuracy:
        raise AccuracyError(
            f"fused validation accuracy is {fused['recording']:.4f}; {config.min_accuracy:.4f} was "
            "required "
            f"(base: {base['recording']:.4f}). Give the plan more budget, fewer devices or more "
            "epochs."
        )


def _check_parity(figures: dict, target: str) -> None:
    """No bundle leaves whose files do not answer as Keras does."""
    parts = dict(figures["parity"])
    parts |= {name: figures[name].get("parity") for name in ("base", *BASELINES) if name in figures}
    bad = [
        f"{name} (95th percentile of the error {p['p95_relative_error']:.1e}, "
        f"{p['differing_top1']} differing top-1)"
        for name, p in parts.items()
        if p is not None and not p["ok"]
    ]
    if bad:
        raise ExportError(
            f"Keras and .tflite disagree beyond {TOLERANCES[target]:g}: {', '.join(bad)}. No "
            "bundle was published; the "
            "stages are kept. Report this with the versions of TensorFlow and the runtime."
        )


def _arithmetic(config: RunConfig) -> dict:
    """What precision "auto" is on this machine, where a fit or the base's answers are taken in
    it.
    """
    from edvit_tf.training.precision import resolved

    fits = (
        config.base_training,
        config.shared_training,
        config.stage_training,
        config.joint_training,
    )
    asked = {config.teacher_precision, *(fit.precision for fit in fits if fit is not None)}
    return {"auto": resolved("auto")} if "auto" in asked else {}


def _needed_bytes(config: RunConfig, dataset, base: ViTConfig) -> int:
    """Bytes that the run will write: inputs (twice while they are stored), features, weights by
    stage, the bundle.
    """
    one = math.prod(dataset.spec.shape) * np.dtype(dataset.spec.dtype).itemsize
    inputs = one * sum(dataset.size(split) for split in ("train", "validation", "test"))
    count = config.group_count
    kept = base.pruned(starting_heads(base, count, config.start_heads), len(dataset.labels))
    between = cost.size_bytes(base)  # the stages before the last are wider than the result
    features = 8 * base.hidden_dim * sum(dataset.size(split) for split in ("train", "validation"))
    return (
        2 * inputs
        + features
        + 2 * between
        + (count + 1) * (3 * between + 3 * cost.size_bytes(kept))
        + (64 << 20)
    )


def _costs(widths: ViTConfig) -> dict:
    return {
        "config": widths.to_dict(),
        "params": cost.params(widths),
        "macs": cost.macs(widths),
        "macs_full": cost.macs_full(widths),
        "weight_bytes": cost.size_bytes(widths),
    }
