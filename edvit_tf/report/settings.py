"""The section of the page that shows how a run was trained: settings, samples seen, time of each
stage, versions and the machine.
"""

from typing import Any

from edvit_tf.device.model.manifest import Manifest
from edvit_tf.report.entries import Step
from edvit_tf.report.figures import note, table
from edvit_tf.report.results import Results
from edvit_tf.report.units import seconds, size


def settings(manifest: Manifest, results: Results) -> str:
    """Settings, samples seen, seconds of each stage, versions and the machine."""
    run = manifest.run
    # Column of the table -> key of the run's configuration; the last two are there where
    # they were asked for.
    fits = {
        "base": "base_training",
        "after each cut": "stage_training",
        "fusion": "fusion_training",
    }
    for name, key in (
        ("shared model", "shared_training"),
        ("joint", "joint_training"),
        ("together", "fleet_training"),
    ):
        if run.get(key):
            fits[name] = key

    rows = []
    for key in run["base_training"]:
        applied = [_applied(fit, key, run[fit]) for fit in fits.values()]
        rows.append([key.replace("_", " "), *applied])

    # What is neither a fit nor a list: the plain settings of the run.
    other = []
    for key, value in run.items():
        if value is not None and not isinstance(value, dict | list):
            other.append(f"{key.replace('_', ' ')} {value}")

    given = results.base.given
    base = "trained in this run" if given is None else f"given, {given}"

    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())

    return (
        table(["setting", *fits], rows)
        + note(f"{'; '.join(other)}. Base: {base}.")
        + _seconds(results)
        + note(
            f"Machine: {machine.cpu}, {machine.cores} cores, {machine.system} {machine.machine}; "
            f"peak memory of a process {size(results.peak_rss_bytes)}. Versions: "
            f"{versions}."
        )
    )


def _seconds(results: Results) -> str:
    """Seconds of each stage of each member, and of the others."""
    spent = results.stage_seconds
    # what is made of the single model has no cuts of its own
    own = () if results.knows_all and results.rivals else results.sub_models
    members: dict[str, tuple[Step, ...]] = {sub.name: sub.stages for sub in own}
    members |= {key: model.stages for key, model in results.rivals.items()}
    members = {name: steps for name, steps in members.items() if steps}
    # the one model that was trained on has a stage of its own, which is told below
    members.pop("equal", None)
    names = [step.stage for steps in list(members.values())[:1] for step in steps]

    rows = []
    for member, steps in members.items():
        taken = [seconds(spent.get(f"{member}.{name}", 0), 3) for name in names]
        samples = sum(step.history.samples for step in steps)
        rows.append([member, *taken, f"{samples:,}"])

    # "submodel-00.residual" is in the table above; the shared models have no row there.
    whole = []
    for name, value in spent.items():
        if "." not in name or name.startswith("shared-"):
            whole.append(f"{name} {seconds(value)}")

    return table(["time of a stage", *names, "samples seen\nafter the base"], rows) + note(
        f"{'; '.join(whole)}; all stages {seconds(results.seconds)}. {_equal_training(results)}"
    )


def _equal_training(results: Results) -> str:
    """How the rivals' training was made equal to the fleet's."""
    if results.fleet.kind == "copies":
        return "The fleet is the single model: both have the same training."
    if results.fleet.kind == "joint":
        return (
            "The members' training together comes on top of the single model's; the model of "
            "equal training, where there is one, has as many samples as all members together."
        )
    return (
        "The single model is given as many training samples as the fleet's sub-models see "
        "together, one of another size as many as cost the same MACs."
    )


# Settings that a fit does not read: only sub-models are distilled.
_UNREAD = {
    "base_training": {"distillation", "feature_distillation"},
    "fusion_training": {
        "distillation",
        "augment",
        "label_smoothing",
        "feature_distillation",
        "mix",
        "patch_dropout",
        "ema",
        "precision",
    },
}


def _applied(fit: str, key: str, settings: dict[str, Any]) -> Any:
    """A setting, or a dash where the fit does not read it; Adam has no weight decay."""
    if settings["optimizer"] == "adam" and key in ("weight_decay", "warmup_fraction"):
        return "-"
    return "-" if key in _UNREAD.get(fit, ()) else settings[key]
