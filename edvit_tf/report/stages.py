"""The section of the page that shows what each cut cost and each fit mended."""

from collections.abc import Sequence

from edvit_tf.data.names import few
from edvit_tf.report.compared import SHORT
from edvit_tf.report.entries import Step
from edvit_tf.report.figures import ARROW, note, panels, stage_chart, table
from edvit_tf.report.results import Results
from edvit_tf.report.steps import stage_steps
from edvit_tf.report.tables import CLASSES_ROOM, stage_cell, stage_rows, together_rows


def stages(results: Results) -> str:
    """What each cut cost and each fit mended, by sub-model."""
    members = stage_rows(results, SHORT)
    if not members:
        return note("No model of this run was cut and fitted.")
    first = members[0][2]

    # A stage's steps stand in the head of its column, as "cut -> repair -> fit".
    keys = [list(stage_steps(step)) for step in first]
    columns = []
    for step, names in zip(first, keys, strict=True):
        columns.append(f"{step.stage}\n{f' {ARROW} '.join(names)}")

    charts = []
    for name, _, history in members:
        # A baseline knows all classes, a sub-model its group and "other": each has its
        # own chance.
        guessing = 1 / history[-1].config["num_classes"]

        charts.append(stage_chart(f"{name}, %", history, guessing))

    last = len(first) + 1
    every = [_stage_cells(member, keys, "all") for member in members]
    group = [_stage_cells(member, keys, "group") for member in members]
    return (
        panels(charts, "small")
        + table(["balanced, %", *columns, "classes"], every, text=(0, last), wrap=last)
        + note(
            "Validation windows, balanced accuracy over the sub-model's classes and "
            '"other" (dashed: guessing). Hollow: before (of the head stage: the base) and after '
            "the cut; half: after the least-squares repair, before any training (of the stage "
            '"group": the head alone fitted); full: after the fit. The head stage cuts no widths: '
            'the rows of the group and "other" are taken from the base, and the head alone is '
            "fitted. Thin line: the table below."
        )
        + table(["own classes, %", *columns, "classes"], group, text=(0, last), wrap=last)
        + note(
            "Share of the validation windows of the sub-model's own classes alone that is named "
            "right."
        )
        + _together(results)
    )


def _together(results: Results) -> str:
    """Members of a joint fleet alone, before and after they were trained together."""
    rows = []
    for name, step in together_rows(results):
        rows.append([name, stage_cell(step, ("cut", "fit"), f" {ARROW} ", width=0)])
    if not rows:
        return ""
    head = ["balanced, %", f"together\nbefore {ARROW} after"]
    return table(head, rows) + note(
        "Validation windows, each member alone under its own view: as it started, and after all "
        "were trained together; equal: the one model, trained on as much as all of them."
    )


def _stage_cells(
    member: tuple[str, Sequence[str], Sequence[Step]], keys: list[list[str]], which: str
) -> list[str]:
    name, labels, history = member
    cells = [name]
    for step, names in zip(history, keys, strict=True):
        cells.append(stage_cell(step, names, f" {ARROW} ", which, width=0))
    return [*cells, few(labels, CLASSES_ROOM, "classes")]
