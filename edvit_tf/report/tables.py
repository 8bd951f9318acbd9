"""Text tables for a terminal, from a bundle's results and plans; MiB = 2^20 bytes, MACs without
attention products.
"""

import textwrap
from collections.abc import Mapping, Sequence

from edvit_tf.data.names import few
from edvit_tf.models import ModelConfig, architecture, costs
from edvit_tf.planning.plan import Plan
from edvit_tf.report.entries import Accuracy, Comparison, Model, Step, SubModel
from edvit_tf.report.floor import floor_said
from edvit_tf.report.results import Results
from edvit_tf.report.steps import stage_steps

LINE = 118  # characters of a line at most
# Those for a sub-model's classes in a table of the page; its "Class groups and plan" has all.
CLASSES_ROOM = 80


def results_table(results: Results) -> str:
    """Accuracy, size and latency of base, single model and fleet, and what one lost sub-model
    costs.

    model                        test acc. (recording / window)  bytes per device   MACs    ms
    """
    fused, data = results.fusion.tflite, results.data
    name = f"{data.name} (SYNTHETIC stand-in)" if data.synthetic else data.name

    lines = [
        f"{name}, test split: {fused.recordings} recordings, {fused.windows} windows; seed "
        f"{results.seed}; measured on the .tflite files, one thread",
        f"{'':<34}{'accuracy':>10}{'per window':>12}{'MiB/device':>12}{'M MACs':>9}"
        f"{'median ms':>11}",
    ]
    lines[:0] = map(wrapped, floor_said(results))
    floor = results.floor
    if floor is not None:
        name = "floor: linear, on pooled inputs"
        lines.append(_row(name, floor.accuracy, floor.weight_bytes, floor.macs, None))
    lines.append(_model_row("base, unsplit", results.base))

    for key, model in results.rivals.items():
        lines.append(_model_row(results.rival_name(key), model))

    lines += _copies_rows(results)
    lines += _fleet_rows(results)
    lines += _against(results)

    parities = results.parity.values()
    largest = max(one.max_probability_error or one.max_relative_error or 0.0 for one in parities)
    lines.append(
        f"Keras against .tflite: largest error {largest:.1e}, "
        f"{sum(one.differing_top1 for one in parities)} differing top-1 "
        f"(of {sum(one.samples for one in parities)} answers, "
        f"{sum(one.ties for one in parities)} ties)"
    )

    machine = results.machine
    lines.append(
        f"run: {results.seconds:.0f} s in all stages, peak memory "
        f"{results.peak_rss_bytes / 2**20:.0f} MiB ({machine.cpu}, {machine.cores} cores)"
    )

    return "\n".join(lines)


def _copies_rows(results: Results) -> list[str]:
    """Copies of the single model beside another kind of fleet, as many as there are views."""
    copies = results.copies_beside
    if copies is None or copies.most is None:
        return []

    single, most = results.rivals["single"], copies.most
    ms = single.process.invoke_ms.median if single.process else None
    size = copies.file_bytes or single.deployed_bytes
    name = f"{most.devices} copies of it, a view each"
    return [_row(name, most.tflite, size, single.macs, ms)]


def _fleet_rows(results: Results) -> list[str]:
    """The fleet fused, averaged, and without its most missed sub-model; of a device that holds
    several sub-models all of them count.
    """
    subs = results.sub_models
    by_device: dict[str, list[SubModel]] = {}
    for sub in subs:
        for device in sub.devices:
            by_device.setdefault(device, []).append(sub)

    sizes, costs = [], []
    for held in by_device.values():
        sizes.append(sum(sub.file_bytes for sub in held))
        ms = sum(sub.process.invoke_ms.median for sub in held)
        costs.append((ms, sum(sub.macs for sub in held)))

    # The fullest device and the slowest one need not be the same.
    size = max(sizes)
    ms, macs = max(costs)  # of the slowest device

    fusion = results.fusion
    fleet = f"{len(subs)} sub-model{'' if len(subs) == 1 else 's'}"
    lines = [
        _row(f"{fleet}, fused", fusion.tflite, size, macs, ms),
        _row(f"{fleet}, softmax average", fusion.average, size, macs, ms),
    ]
    if results.missing_one:
        worst = min(results.missing_one, key=lambda lost: lost.tflite.recording)
        name = f"  without {worst.name} (the worst)"
        lines.append(_row(name, worst.tflite, size, macs, None))
    return lines


def _against(results: Results) -> list[str]:
    """The fused fleet against each of the others, by the answers to the same recordings."""
    lines = []
    for key, found in results.comparisons.items():
        interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        lines.append(
            f"fused less {key}: {100 * found.difference:+.1f} points (95 % {interval}"
            f"{_paired_said(found)}): {found.state}"
        )
    return lines


def _paired_said(found: Comparison) -> str:
    """Of answers that are known by recording."""
    if found.p_value is None:
        return ""
    return (
        f"; right alone {found.first_only} against {found.second_only}, "
        f"McNemar p {found.p_value:.2g}"
    )


def _model_row(name: str, model: Model) -> str:
    ms = model.process.invoke_ms.median if model.process else None
    return _row(name, model.accuracy, model.deployed_bytes, model.macs, ms)


def _row(name: str, accuracy: Accuracy, size_bytes: int, macs: int, ms: float | None) -> str:
    latency = "" if ms is None else f"{ms:.2f}"
    return (
        f"{name:<34}{accuracy.recording * 100:>8.2f} %{accuracy.window * 100:>10.2f} %"
        f"{size_bytes / 2**20:>12.2f}{macs / 1e6:>9.1f}{latency:>11}"
    )


def stages_table(results: Results) -> str:
    """Validation accuracy of each sub-model before and after every cut, after its repair and after
    the fit, in percent.

    Balanced over the group's classes and "other"; results.json and the report have the group's own
    samples too.
    """
    rows = stage_rows(results)
    if not rows:
        return "no model of this run was cut and fitted"
    first = rows[0][2]
    keys = [list(stage_steps(step)) for step in first]

    # Of each column: its title, or its figures where they are longer.
    widths = []
    for names in keys:
        figures = " -> ".join(["100.0"] * len(names))
        widths.append(3 + max(len(" -> ".join(names)), len(figures)))

    cuts = "".join(f"{step.stage:>{width}}" for step, width in zip(first, widths, strict=True))
    steps = "".join(
        f"{' -> '.join(names):>{width}}" for names, width in zip(keys, widths, strict=True)
    )

    lines = [f"{'validation, balanced %':<24}{cuts}", f"{'':<24}{steps}"]

    for name, labels, history in rows:
        line = f"{name:<24}"
        for step, names, width in zip(history, keys, widths, strict=True):
            line += f"{stage_cell(step, names, ' -> '):>{width}}"
        lines.append(f"{line}  {few(labels, max(30, LINE - 2 - len(line)), 'classes')}")

    for name, step in together_rows(results):
        did = "trained on" if step.stage == "equal" else "trained together"
        lines.append(f"{name:<24}{did}: {stage_cell(step, ('cut', 'fit'), ' -> ')}")
    return "\n".join(lines)


def together_rows(results: Results) -> list[tuple[str, Step]]:
    """(name, what its training with the others came to) of each member of a joint fleet, and of the
    one model that was trained on as much.
    """
    rows = []
    for sub in results.sub_models:
        rows += [(sub.name, step) for step in sub.stages if step.stage == "together"]
    for key, model in results.rivals.items():
        rows += [(key, step) for step in model.stages if step.stage == "equal"]
    return rows


def stage_rows(
    results: Results, names: Mapping[str, str] | None = None
) -> list[tuple[str, tuple[str, ...], tuple[Step, ...]]]:
    """(name, classes, stages) of each model that was cut and fitted: sub-models, then rivals, which
    `names` may call otherwise. All have the same stages: those of the first.

    Copies and members of a joint fleet are not among them: they have the single model's cuts.
    """
    # what is made of the single model has its cuts, and no row of its own
    fleet = () if results.knows_all and "single" in results.rivals else results.sub_models
    found = [(sub.name, sub.labels, sub.stages) for sub in fleet]
    for key, model in results.rivals.items():
        found.append(((names or {}).get(key, key), ("all classes",), model.stages))
    found = [row for row in found if row[2]]
    if not found:
        return []

    # a rival may have cuts of its own before those of the fleet
    wanted = [step.stage for step in found[0][2]]
    rows = []
    for name, labels, stages in found:
        own = tuple(step for step in stages if step.stage in wanted)
        if [step.stage for step in own] == wanted:
            rows.append((name, labels, own))
    return rows


def stage_cell(
    stage: Step, steps: Sequence[str], arrow: str, which: str = "all", width: int = 5
) -> str:
    """The accuracies of `stage_steps` in percent in the order of `steps`; "-" for one that this
    stage has not.
    """
    known = stage_steps(stage, which)
    cells = []
    for step in steps:
        share = known.get(step)
        cells.append(f"{'-' if share is None else f'{100 * share:.1f}':>{width}}")
    return arrow.join(cells)


def plan_table(plan: Plan, labels: list[str] | None = None) -> str:
    """Sub-models of a plan: classes, widths, file bytes, MACs, devices; and all copies against the
    budget.
    """
    # All sub-models of a plan have one architecture, whose widths are the columns.
    columns = architecture(plan.sub_models[0].config).COLUMNS
    titles = "".join(f"{title:>{_width(title)}}" for title in columns)
    every = {c for sub in plan.sub_models for c in sub.classes}
    lines = [f"{'sub-model':<14}{titles}{'MiB':>9}{'M MACs':>9}  {'devices':<20}  classes"]

    for sub in plan.sub_models:
        names = [labels[c] if labels else str(c) for c in sub.classes]
        if len(plan.sub_models) > 1 and len(names) == len(every):
            names = ["all classes"]
        widths = "".join(f"{getattr(sub.config, f):>{_width(t)}}" for t, f in columns.items())
        costs_of = f"{sub.size_bytes / 2**20:>9.2f}{sub.macs / 1e6:>9.1f}"
        line = f"{sub.name:<14}{widths}{costs_of}  {few(sub.devices, 36, 'devices'):<20}  "
        lines.append(line + few(names, LINE - len(line), "classes"))

    budget = (
        "no budget" if plan.budget_bytes is None else f"budget {plan.budget_bytes / 2**20:.2f} MiB"
    )

    if plan.idle:
        lines.append(wrapped(f"idle: {', '.join(plan.idle)}"))
    if plan.warning:
        lines.append(wrapped(plan.warning))

    copies = f", {plan.replicas} copies of each" if plan.replicas > 1 else ""
    lines.append(
        wrapped(
            f"total {plan.deployed_bytes / 2**20:.2f} MiB of {plan.flavour} files at most{copies} "
            f"({budget}); "
            f"MACs without attention products; assignment: {plan.assignment}"
        )
    )
    return "\n".join(lines)


def _width(title: str) -> int:
    """Of a column of widths, with a space before its title."""
    return max(6, len(title) + 1)


def wrapped(text: str) -> str:
    """The text in lines of a terminal's width."""
    return textwrap.fill(text, LINE, subsequent_indent="  ", break_on_hyphens=False)


def cost_table(configs: Mapping[str, ModelConfig]) -> str:
    """What named models cost, as text: parameters in millions, MACs in G, float32 weights in MiB.

    Example:

        model       heads      d      c  params M  MACs G  full G      MiB
        vit_base       12    768   3072     85.81   16.85   17.56   327.33
    """
    name_width = max([len("model"), *map(len, configs)])
    lines: list[str] = []
    for name, config in configs.items():
        columns = architecture(config).COLUMNS
        if not lines:
            titles = "".join(f"{title:>7}" for title in columns)
            lines.append(f"{'model':<{name_width}}{titles}  params M  MACs G  full G      MiB")
        cells = "".join(f"{getattr(config, field):>7}" for field in columns.values())

        spent = costs(config)
        lines.append(
            f"{name:<{name_width}}{cells}  {spent['params'] / 1e6:>8.2f}  "
            f"{spent['macs'] / 1e9:>6.2f}  {spent['macs_full'] / 1e9:>6.2f}  "
            f"{spent['weight_bytes'] / 2**20:>7.2f}"
        )
    return "\n".join(lines)
