"""The accuracies of a cut and its fit, as results.json stores them."""

from edvit_tf.errors import OutputError
from edvit_tf.report.entries import Step


def stage_steps(stage: Step, which: str = "all") -> dict[str, float | None]:
    """Accuracies 0..1 of one stage in order: "before" (of the first stage: the base's or the shared
    model's; of the others it is the fit of the stage before), "cut", "repair" (where there was one;
    in the stage "group" the fit of the head alone), "fit". `which`: "all", or "group" (None: no
    samples).

    Raises OutputError for results of a version that did not store them so.
    """
    if stage.accuracy is None:
        raise OutputError(
            f"stage {stage.stage!r} of results.json has no 'accuracy'; this bundle was written by "
            "an earlier version. Run its recipe again with --overwrite, or report with the version "
            "that wrote it."
        )

    # Of the later stages, "before" is the fit of the stage before.
    steps = ["cut", "repair", "fit"]
    if stage.stage in ("head", "group"):
        steps.insert(0, "before")

    found = {}
    for step in steps:
        if step in stage.accuracy:
            shares = stage.accuracy[step]
            found[step] = shares.all if which == "all" else shares.group
    return found
