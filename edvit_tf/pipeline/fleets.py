"""The fleet of a run: which kind, once the one model is known, and where its members stand."""

from functools import partial
from pathlib import Path

from edvit_tf.evaluation.accuracy import accuracy
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import BUDGET, EQUAL, TOGETHER, Run, Stage
from edvit_tf.pipeline.starts import STARTS, starts
from edvit_tf.pipeline.together import checkpoint_of, equal, fleet_training, together
from edvit_tf.pipeline.views import views
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
        _make_resumable(run, Stage(TOGETHER, before, together))
        if run.has_equal:
            _make_resumable(run, Stage(EQUAL, ("base", *before, TOGETHER), equal))


def _make_resumable(run: Run, stage: Stage) -> None:
    """Makes a stage that keeps a checkpoint, which goes when the stage is done."""
    run.make(stage)
    checkpoint_of(run, stage.name).unlink(missing_ok=True)


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


def _single_validation(run: Run) -> dict | None:
    """Accuracy of the one model on validation data; None where there is none."""
    from edvit_tf.training.train import predict, softmax

    if run.single is None:
        return None
    validation = Split(run.stages, "validation")
    said = predict(run.single.widths, run.fitted_weights(run.single), validation.x)
    return accuracy(softmax(said["logits"]), validation.labels, validation.recordings)
