"""Text tables for a terminal, from a bundle's results and plans; MiB = 2^20 bytes, MACs without
attention products.
"""

from collections.abc import Mapping, Sequence

from edvit_tf.errors import OutputError
from edvit_tf.models import ModelConfig, architecture, costs
from edvit_tf.planning.plan import Plan

RIVALS = {
    "single": "one model of a device's size",
    "plain": "the same, not distilled",
    "total": "one model of all files' size",
}


def results_table(results: dict) -> str:
    """Accuracy, size and latency of base, single model and fleet, and what one lost sub-model
    costs.

    model                        test acc. (recording / window)  bytes per device   MACs    ms
    """
    fused = results["fusion"]
    subs = results["sub_models"]
    base = results["base"]
    name = results["data"]["name"] + (
        " (SYNTHETIC stand-in)" if results["data"]["synthetic"] else ""
    )
    lines = [
        f"{name}, test split: {fused['tflite']['recordings']} recordings, "
        f"{fused['tflite']['windows']} windows; "
        f"seed {results['seed']}; measured on the .tflite files, one thread",
        f"{'':<34}{'accuracy':>10}{'per window':>12}{'MiB/device':>12}{'M MACs':>9}{'median ms':>11}",
        _row(
            "base, unsplit",
            base.get("tflite", base["keras"]),
            base.get("file_bytes", base["weight_bytes"]),
            base["macs"],
            base.get("process"),
        ),
    ]
    for one, shown in ((results.get(key), shown) for key, shown in RIVALS.items()):
        if one:
            lines.append(_row(shown, one["tflite"], one["file_bytes"], one["macs"], one["process"]))
    names = dict.fromkeys(
        name for s in subs for name in s["devices"]
    )  # a device may hold several sub-models
    held = [[s for s in subs if name in s["devices"]] for name in names]
    biggest = max(sum(s["file_bytes"] for s in each) for each in held)
    ms, macs = max(
        (sum(s["process"]["invoke_ms"]["median"] for s in each), sum(s["macs"] for s in each))
        for each in held
    )  # of the slowest device
    process = {"invoke_ms": {"median": ms}}
    lines.append(_row(f"{len(subs)} sub-models, fused", fused["tflite"], biggest, macs, process))
    lines.append(
        _row(f"{len(subs)} sub-models, softmax average", fused["average"], biggest, macs, process)
    )
    if results["missing_one"]:
        worst = min(results["missing_one"], key=lambda m: m["tflite"]["recording"])
        lines.append(
            _row(f"  without {worst['name']} (the worst)", worst["tflite"], biggest, macs, None)
        )
    parity = results["parity"].values()
    lines.append(
        "Keras against .tflite: max relative error "
        f"{max(p['max_relative_error'] for p in parity):.1e}, "
        f"{sum(p['differing_top1'] for p in parity)} differing top-1 "
        f"(of {sum(p['samples'] for p in parity)} answers, {sum(p['ties'] for p in parity)} ties)"
    )
    lines.append(
        f"run: {results['seconds']:.0f} s in all stages, "
        f"peak memory {results['peak_rss_bytes'] / 2**20:.0f} MiB "
        f"({results['machine']['cpu']}, {results['machine']['cores']} cores)"
    )
    return "\n".join(lines)


def _row(name: str, accuracy: dict, size_bytes: int, macs: int, process: dict | None) -> str:
    latency = f"{process['invoke_ms']['median']:.2f}" if process else ""
    return (
        f"{name:<34}{accuracy['recording'] * 100:>8.2f} %{accuracy['window'] * 100:>10.2f} %"
        f"{size_bytes / 2**20:>12.2f}{macs / 1e6:>9.1f}{latency:>11}"
    )


def stages_table(results: dict) -> str:
    """Validation accuracy of each sub-model before and after every cut, after its repair and after
    the fit, in percent.

    Balanced over the group's classes and "other"; results.json and the report have the group's own
    samples too.
    """
    rows = [(s["name"], ", ".join(s["labels"]), s["stages"]) for s in results["sub_models"]]
    names = [stage["stage"] for stage in rows[0][2]]
    rows += [
        (key, "all classes", results[key]["stages"][-len(names) :])
        for key in RIVALS
        if results.get(key)
    ]
    keys = {name: list(stage_steps(stage)) for name, stage in zip(names, rows[0][2], strict=True)}
    steps = {name: " -> ".join(keys[name]) for name in names}
    widths = {
        name: 3 + max(len(steps[name]), len(" -> ".join(["100.0"] * len(keys[name]))))
        for name in names
    }
    lines = [
        f"{'validation, balanced %':<24}" + "".join(f"{name:>{widths[name]}}" for name in names),
        f"{'':<24}" + "".join(f"{steps[name]:>{widths[name]}}" for name in names),
    ]
    for name, labels, stages in rows:
        cells = "".join(
            f"{stage_cell(s, keys[s['stage']], ' -> '):>{widths[s['stage']]}}" for s in stages
        )
        lines.append(f"{name:<24}{cells}  {labels}")
    return "\n".join(lines)


def stage_cell(
    stage: dict, steps: Sequence[str], arrow: str, which: str = "all", width: int = 5
) -> str:
    """The accuracies of `stage_steps` in percent in the order of `steps`; "-" for one that this
    stage has not.
    """
    known = stage_steps(stage, which)
    return arrow.join(
        f"{'-' if known.get(step) is None else f'{100 * known[step]:.1f}':>{width}}"
        for step in steps
    )


def stage_steps(stage: dict, which: str = "all") -> dict[str, float]:
    """Accuracies 0..1 of one stage in order: "before" (of the first stage: the base's or the shared
    model's; of the others it is the fit of the stage before), "cut", "repair" (where there was one;
    in the stage "group" the fit of the head alone), "fit". `which`: "all", or "group" (None: no
    samples).

    Raises OutputError for results of a version that did not store them so.
    """
    if "accuracy" not in stage:
        raise OutputError(
            f"stage {stage.get('stage')!r} of results.json has no 'accuracy'; this bundle was "
            "written by an earlier "
            "version. Run its recipe again with --overwrite, or report with the version that wrote "
            "it."
        )
    steps = (*(["before"] if stage["stage"] in ("head", "group") else []), "cut", "repair", "fit")
    return {step: stage["accuracy"][step][which] for step in steps if step in stage["accuracy"]}


def plan_table(plan: Plan, labels: list[str] | None = None) -> str:
    """Sub-models of a plan: classes, widths, file bytes, MACs, devices; and all copies against the
    budget.
    """
    lines = [
        f"{'sub-model':<14}{'heads':>6}{'d':>6}{'c':>6}{'MiB':>9}{'M MACs':>9}  "
        f"{'devices':<22}classes"
    ]
    for sub in plan.sub_models:
        names = [labels[c] if labels else str(c) for c in sub.classes]
        lines.append(
            f"{sub.name:<14}{sub.config.num_heads:>6}{sub.config.hidden_dim:>6}{sub.config.mlp_dim:>6}"
            f"{sub.size_bytes / 2**20:>9.2f}{sub.macs / 1e6:>9.1f}  {', '.join(sub.devices):<22}"
            f"{', '.join(names)}"
        )
    budget = (
        "no budget" if plan.budget_bytes is None else f"budget {plan.budget_bytes / 2**20:.2f} MiB"
    )
    if plan.idle:
        lines.append(f"idle: {', '.join(plan.idle)}")
    copies = f", {plan.replicas} copies of each" if plan.replicas > 1 else ""
    lines.append(
        f"total {plan.deployed_bytes / 2**20:.2f} MiB of {plan.flavour} files at most{copies} "
        f"({budget}); "
        f"MACs without attention products; assignment: {plan.assignment}"
    )
    return "\n".join(lines)


def cost_table(configs: Mapping[str, ModelConfig]) -> str:
    """What named models cost, as text: parameters in millions, MACs in G, float32 weights in MiB.

    Example:

        model       heads      d      c  params M  MACs G  full G      MiB
        vit_base       12    768   3072     85.81   16.85   17.56   327.33
    """
    name_width = max([len("model"), *map(len, configs)])
    lines = []
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
