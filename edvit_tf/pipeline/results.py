"""results.json: all that was measured and spent, put together from what the stages stored."""

import os
import platform
from pathlib import Path

from edvit_tf.models import costs
from edvit_tf.pipeline.member import LONGER, PLAIN, SINGLE, Member
from edvit_tf.pipeline.stage import EQUAL, TOGETHER, Run
from edvit_tf.progress import warn

_MEASURED = (
    "parity",
    "missing_one",
    "losses",
    "lost_devices",
    "confusion",
    "flavours",
    "comparisons",
    "predictions",
    "turns",
    "disagreement",
)


def results_of(run: Run, origin: str | None, process_seconds: float) -> dict:
    """The results of a run whose stages are all done; plain JSON.

    `origin` says where a given base comes from; `process_seconds` is what this process took, which
    may have found stages done.
    """
    figures = run.stages.result("measure")
    done = {name: run.stages.result(name) for name in run.stages.names()}
    seconds = {name: result["seconds"] for name, result in done.items()}

    sub_models = []
    for entry, member in zip(figures["sub_models"], run.sub_models, strict=True):
        sub_models.append({**entry, "stages": steps_of(run, member)})

    results = {
        "name": run.config.name,
        "seed": run.config.seed,
        "data": done["data"]["description"],
        "machine": machine(),
        "floor": figures.get("floor"),  # None: measured by a version without it
        "base": _base(run, origin, figures["base"]),
        "sub_models": sub_models,
        "fleet": _fleet(run),
        "single": None,  # in its place though there is none
        "copies": figures["copies"],
    }

    for rival in run.rivals:
        results[rival.name] = {
            "config": rival.widths.to_dict(),
            **costs(rival.widths),
            "stages": steps_of(run, rival),
            **figures[rival.name],
        }

    shared = {member.name: steps_of(run, member) for member in run.shared}
    measured = {name: figures[name] for name in _MEASURED}
    return results | {
        "shared": shared,
        "training_macs": training_macs_of(run),
        "members_samples": [_samples(run, member) for member in run.sub_models],
        "fusion": {**_fusion(run), **figures["fusion"]},
        **measured,
        "mistakes": figures.get("mistakes"),  # None: measured by a version without it
        "flavours_on_validation": done["bundle"].get("flavours", []),
        "labels": list(run.labels),
        "plan": {
            "total_bytes": run.plan.total_bytes,
            "deployed_bytes": run.plan.deployed_bytes,
            "budget_bytes": run.plan.budget_bytes,
        },
        "stage_seconds": seconds,
        "seconds": round(sum(seconds.values()), 1),
        "this_process_seconds": process_seconds,
        "peak_rss_bytes": max(result["peak_rss_bytes"] or 0 for result in done.values()),
        "key": run.stages.key,
        "code": _codes(run),
    }


def steps_of(run: Run, member: Member) -> list[dict]:
    """What each step of a member came to, in order: of one that is made of the one model, or starts
    from it, the one model's too.
    """
    if member.kind == LONGER:
        return [{"stage": EQUAL, **run.stages.result(EQUAL)}]
    if member.made_of is not None:
        own = [] if run.kind == "copies" else [{"stage": TOGETHER, **_together(run, member)}]
        before = steps_of(run, run.single) if run.is_of_single else []
        return [*before, *own]
    return [{"stage": step, **run.stages.result(member.stage(step))} for step in member.steps]


def _together(run: Run, member: Member) -> dict:
    """What the training of all members as one came to for one of them."""
    done = run.stages.result(TOGETHER)
    return {
        "config": member.widths.to_dict(),
        **{name: done[name] for name in ("history", "seconds", "peak_rss_bytes")},
        "accuracy": done["accuracy"][member.name],
    }


def _samples(run: Run, member: Member) -> int:
    """Training samples that a member has seen, those of the model where it starts too."""
    steps = steps_of(run, member)
    for start in run.shared:
        if start.name == member.starts_from:
            steps = [*steps_of(run, start), *steps]
    return sum(step["history"].get("samples", 0) for step in steps)


def training_macs_of(run: Run) -> dict:
    """MACs of all fits after the cuts, by "fleet" and kind of rival ("single": None where there is
    none).

    The fusion and a joint training are the fleet's. A shared model counts once for all of the
    fleet, and once for each rival that starts from it.
    """
    ending = ["fusion", "joint"] if run.tries_joint else ["fusion"]
    fleet = run.macs_of(*ending)
    if run.is_of_single:
        fleet += _member_spent(run, run.single)
    if run.kind == "joint":
        fleet += run.macs_of(TOGETHER)
    fleet += sum(_member_spent(run, member) for member in run.sub_models)

    # A shared model that several start from is counted once.
    starts = {member.starts_from for member in run.sub_models}
    fleet += sum(_shared_spent(run, start) for start in starts)

    spent = {"fleet": fleet, SINGLE: None}
    for rival in run.rivals:
        # The cuts that PLAIN starts from are among its own steps.
        start = None if rival.kind == PLAIN else rival.starts_from
        spent[rival.kind] = _shared_spent(run, start) + _member_spent(run, rival)
    if run.has_equal:
        before = _member_spent(run, run.single) if run.is_of_single else 0
        spent[LONGER] = before + run.macs_of(EQUAL)

    return spent


def _member_spent(run: Run, member: Member) -> int:
    return run.macs_of(*(member.stage(step) for step in member.steps))


def _shared_spent(run: Run, name: str | None) -> int:
    """MACs of the fits of the shared model of this name."""
    for member in run.shared:
        if member.name == name:
            return _member_spent(run, member)
    return 0


def _base(run: Run, origin: str | None, figures: dict) -> dict:
    fitted = run.stages.result("base")
    return {
        "config": run.base.to_dict(),
        **costs(run.base),
        "given": origin and "; ".join([origin, *fitted.get("notes", ())]),
        "training": fitted["history"],
        "validation": run.stages.result("teacher")["validation"],
        **figures,
    }


def _fleet(run: Run) -> dict:
    """What kind of fleet it is, and why."""
    chosen = run.stages.result("fleet")
    alone = chosen["single_validation"]
    return {
        **{name: chosen[name] for name in ("kind", "asked", "reason", "gap")},
        "start": run.config.fleet_start if run.kind == "joint" else None,
        "single_validation": alone and alone["recording"],
        "views": [view.to_dict() for view in run.views],
    }


def _fusion(run: Run) -> dict:
    fused = run.stages.result("fusion")
    calibrated = run.stages.result("calibration")
    joint = run.stages.result("joint") if run.tries_joint else {}
    told = ("samples", "recordings", "before", "after")

    return {
        "kind": run.fusion_kind,
        "asked": run.config.fusion,
        "kinds_on_validation": joint.get("kinds") or fused.get("kinds"),
        "reason": joint.get("reason") or fused.get("reason", ""),
        "left_out": fused.get("left_out", {}),
        "seen": "plain" if run.is_joint else fused["seen"],
        "seen_on_validation": fused["tried"],
        "history": fused["history"],
        "validation": calibrated["validation"],
        "frozen_validation": fused["validation"],
        "joint": joint.get("history"),
        "temperature": calibrated["temperature"],
        "bound": calibrated["bound"],
        "validation_calibration": {name: calibrated[name] for name in told},
    }


def _codes(run: Run) -> list[str]:
    """The versions of the code that made the stages; says so where there are several."""
    codes = run.stages.codes(run.stages.names())
    if len(codes) > 1:
        warn(
            f"stages of this run were made by {len(codes)} versions of the code; "
            "--overwrite makes them anew.",
        )

    return codes


def machine() -> dict:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def _cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()

    # Not Linux, or a kernel that does not say.
    return platform.processor()
