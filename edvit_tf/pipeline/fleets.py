"""The fleet of a run: which kind, once the one model is known, where its members stand, and the
training of members of all classes as one.
"""

from functools import partial
from pathlib import Path

import numpy as np

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.view import View
from edvit_tf.evaluation.accuracy import accuracy, group_accuracy
from edvit_tf.pipeline.budget import training_macs
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.member import Member
from edvit_tf.pipeline.stage import BUDGET, TOGETHER, Run, Stage
from edvit_tf.pipeline.starts import STARTS, starts
from edvit_tf.pipeline.store import stage_seed
from edvit_tf.pipeline.views import seen, views
from edvit_tf.planning.fleets import BREAK_EVEN_EPOCHS, Choice, choose_fleet, plan_of_all, too_short
from edvit_tf.progress import tell
from edvit_tf.report.tables import plan_table


def make_fleet(run: Run, is_picture: bool) -> None:
    """Makes the stages between the fits and the fusion: views, the fleet, its own training."""
    alone = () if run.single is None else (run.single.last_stage,)
    before = ("data", "teacher", "plan", *alone)

    if run.config.views == "auto" and alone:
        run.make(Stage("views", before, partial(views, is_picture=is_picture)))
        before = (*before, "views")
    run.make(Stage("fleet", before, fleet))
    if not run.splits_classes:
        tell(plan_table(run.plan, list(run.labels)))
    if run.kind == "joint":
        before = (*before, "fleet")
        if run.config.fleet_start != "model":
            run.make(Stage(STARTS, ("base", *before), starts))
            before = (*before, STARTS)
        run.make(Stage(TOGETHER, before, together))
        _checkpoint(run).unlink(missing_ok=True)


def fleet(run: Run, folder: Path) -> dict:
    """The kind of the fleet and its plan, with what they were chosen by: validation accuracy of the
    one model, and its gap to the base.
    """
    alone = _single_validation(run)
    base = run.stages.result("teacher")["validation"]["recording"]
    gap = None if alone is None else base - alone["recording"]

    choice = _chosen(run, gap)
    plan = run.split
    if not run.splits_classes:
        # of copies as many as there are views worth it, of members of their own one a device
        count = len(run.chosen_views) if choice.kind == "copies" else None
        plan = plan_of_all(
            run.split, run.base, run.single.kept, run.config, choice.kind, members=count
        )

    # what a fleet can gain, before any of it is trained
    if gap is not None:
        tell(f"the base less the one model, on validation data: {100 * gap:+.1f} points")
    tell(f"fleet: {choice.kind} ({choice.reason})")
    return {
        "kind": choice.kind,
        "asked": run.config.fleet,
        "reason": choice.reason,
        "gap": gap,
        "single_validation": alone,
        "plan": plan.to_dict(),
    }


def _chosen(run: Run, gap: float | None) -> Choice:
    asked = run.config.fleet
    if asked == "classes":
        return Choice("classes", "asked for")
    if run.splits_classes:
        return Choice("classes", "there is one device, which holds all classes")

    epochs = float(fleet_training(run).epochs)
    if run.stages.has(BUDGET):
        epochs = run.stages.result(BUDGET)["member_epochs"]
    if asked == "auto":
        return choose_fleet(gap)
    if asked == "joint" and epochs < BREAK_EVEN_EPOCHS:
        return too_short(epochs)
    return Choice(asked, "asked for")


def together(run: Run, folder: Path) -> dict:
    """Members of all classes that start from the one model, or where `starts` put them, trained on
    as one, each with its own view; distilled from the base.
    """
    from edvit_tf.training.batches import group_targets, repeated_epoch
    from edvit_tf.training.together import fit_together

    training = fleet_training(run)
    seed = stage_seed(run.config, TOGETHER)
    train = Split(run.stages, "train")
    stored = run.stages.arrays("teacher", "teacher.npz")
    count = run.base.num_classes

    start = _start(run)
    weights, history = fit_together(
        [member.widths for member in run.sub_models],
        start,
        train.x,
        group_targets(
            train.labels,
            stored["train_probabilities"],
            tuple(range(count)),
            count,
            training.distillation,
            training.label_smoothing,
        ),
        run.given_views,
        training,
        own_weight=run.config.own_weight,
        missing_rate=run.config.fleet_missing_rate,
        epoch_indices=lambda epoch: repeated_epoch(
            len(train.labels), len(train.labels), seed, epoch
        ),
        seed=seed,
        features=stored["train_features"],
        checkpoint=_checkpoint(run),
    )

    # Each sample goes through every member, forward and backward.
    history["macs"] = 0
    accuracies = {}
    found = zip(run.sub_models, run.given_views, start, weights, strict=True)
    for member, view, first, own in found:
        history["macs"] += training_macs(member.widths, training, history["samples"])
        before = _alone(run, member, first, view)
        accuracies[member.name] = {
            "before": before,
            "cut": before,
            "fit": _alone(run, member, own, view),
        }
        np.savez(folder / member.weights_file, **own)
    return {"history": history, "accuracy": accuracies}


def _start(run: Run) -> list[dict]:
    """The weights with which each member begins."""
    if run.config.fleet_start == "model":
        return [run.fitted_weights(run.single)] * len(run.sub_models)
    return [run.stages.arrays(STARTS, member.weights_file) for member in run.sub_models]


def _alone(run: Run, member: Member, weights: dict, view: View) -> dict:
    """Validation accuracy of a member under its view, as `group_accuracy` gives it."""
    from edvit_tf.training.train import predict

    validation = Split(run.stages, "validation")
    logits = predict(member.widths, weights, seen(validation.x, view))["logits"]
    return group_accuracy(logits, validation.labels, member.classes)


def _checkpoint(run: Run) -> Path:
    """Where a long fit of all members keeps what it has; a stage's own folder is emptied when a
    killed run is started again.
    """
    return run.stages.folder / f"{TOGETHER}.checkpoint"


def fleet_training(run: Run) -> TrainConfig:
    """The fit of members that are trained together."""
    return run.config.fleet_training or run.config.stage_training


def _single_validation(run: Run) -> dict | None:
    """Accuracy of the one model on validation data; None where there is none."""
    from edvit_tf.training.train import predict, softmax

    if run.single is None:
        return None
    validation = Split(run.stages, "validation")
    said = predict(run.single.widths, run.fitted_weights(run.single), validation.x)
    return accuracy(softmax(said["logits"]), validation.labels, validation.recordings)
