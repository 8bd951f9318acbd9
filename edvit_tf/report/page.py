"""report.html from what a bundle stores: one self-contained page for a reader who asks "why not one
small model?".

Reads manifest.json, results.json and, where it was stored, latency.json. Accuracies carry 95 %
Wilson intervals for the number of recordings (the windows of one recording are not independent, so
none for windows); MiB = 2^20 bytes.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.device.model.manifest import Manifest
from edvit_tf.report import lost
from edvit_tf.report.advice import Advice, advice
from edvit_tf.report.advised import advice_section
from edvit_tf.report.calibration import calibration
from edvit_tf.report.compared import Compared, compared, counted
from edvit_tf.report.confusion import MOST_CLASSES, confusion
from edvit_tf.report.entries import Data, Size, Step
from edvit_tf.report.figures import mib, note, number, table
from edvit_tf.report.flavours import flavours
from edvit_tf.report.fusion_choice import fusion_choice
from edvit_tf.report.latency import latency
from edvit_tf.report.models import models, tiles
from edvit_tf.report.parity import parity
from edvit_tf.report.results import Results, read_results
from edvit_tf.report.stages import stages
from edvit_tf.report.style import page_head
from edvit_tf.report.sub_models import sub_models
from edvit_tf.report.verdict import verdict


def write_report(bundle_dir: Path) -> Path:
    """Writes report.html into the bundle's folder and returns its path; raises BundleError if a
    part is missing.
    """
    bundle = open_bundle(bundle_dir)
    results = read_results(bundle.path)

    # Only there after `edvit bench latency --store`.
    stored = bundle.path / "latency.json"
    beside = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else None

    target = bundle.path / "report.html"
    target.write_text(page(bundle, results, beside), encoding="utf-8")
    return target


def page(bundle: Bundle, results: Results, beside: dict | None = None) -> str:
    """The HTML text; `beside` is what `edvit bench latency --store` kept."""
    manifest, data = bundle.manifest, results.data
    used = {device for sub in results.sub_models for device in sub.devices}
    does = "on" if results.knows_all else "split over"
    title = f"{manifest.name}: a Vision Transformer {does} {counted(len(used), 'device')}"

    facts = (
        f"{manifest.task}, {len(results.labels)} classes, "
        f"{counted(len(results.sub_models), 'sub-model')}; data: {data.name}, {data.source}; seed "
        f"{results.seed}; bundle {bundle.digest[:12]}"
    )

    rows = compared(bundle.fusion, results)
    advised = advice(manifest, results, bundle.path)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in advised.reasons)

    links, body = "", ""
    for i, (head, html) in enumerate(_sections(bundle, results, rows, advised, beside)):
        links += f'<a href="#s{i}">{escape(head)}</a>'
        body += f'<section id="s{i}"><h2>{escape(head)}</h2>\n{html}</section>\n'

    return f"""{page_head(title)}
{_BANNER if data.synthetic else ""}<h1>{escape(title)}</h1>
<p class="soft">{escape(facts)}</p>
{tiles(results, rows)}
<div class="verdict"><strong>{escape(advised.sentence)}</strong>
<ul>{reasons}</ul></div>
<nav>{links}</nav>
{body}</main></body></html>
"""


_BANNER = (
    '<p class="banner" role="alert">SYNTHETIC DATA. A made-up stand-in took the place of the real '
    "data set: these accuracies show that the program runs, and nothing else.</p>\n"
)


def _sections(
    bundle: Bundle, results: Results, rows: list[Compared], advised: Advice, beside: dict | None
) -> list[tuple[str, str]]:
    """(heading, HTML) of every section that there is something to show in."""
    manifest = bundle.manifest
    sections = [
        ("Ways to use the devices", advice_section(advised, results)),
        ("Models compared", _said(results, rows) + models(results, rows)),
        ("Accuracy by pruning stage", stages(results)),
        ("Sub-models: size and latency", sub_models(bundle.sub_models, results)),
        ("Loss of one sub-model", lost.sub_model(results)),
    ]
    chosen = fusion_choice(results)
    if chosen:
        sections.append(("Choice of the fusion", chosen))
    if results.losses:
        sections.append(("Loss of several sub-models", lost.several(results)))
    if results.fusion.calibration is not None:
        sections.append(("Calibration", calibration(results)))

    sections.append(("Confusion matrix", confusion(results)))
    sections.append(("Keras against TFLite", parity(results)))

    if results.flavours or results.flavours_on_validation:
        sections.append(("Flavours and runtimes", flavours(results)))
    if beside:
        sections.append(("Latency beside other runtimes", latency(beside)))

    return [
        *sections,
        ("Class groups and plan", _plan(manifest, results)),
        ("Data", _data(results.data)),
        ("Training, versions, machine", _training(manifest, results)),
        ("How to run it", _usage(results.data)),
    ]


def _said(results: Results, rows: list[Compared]) -> str:
    """What the figures of the fleet say, in sentences."""
    return f"<p>{escape(' '.join(verdict(results, rows)))}</p>"


def _plan(manifest: Manifest, results: Results) -> str:
    """Which classes go together, and what each device may hold and holds."""
    plan = manifest.plan
    groups = []
    for sub in results.sub_models:
        classes = results.classes_said(sub.labels)
        groups.append([sub.name, ", ".join(sub.devices), classes])

    rows = []
    for device in plan.devices:
        # By what results.json says is on a device: the plan has limits, not files.
        held = [sub for sub in results.sub_models if device["name"] in sub.devices]
        memory, compute = device["memory_bytes"], device["compute_macs"]
        rows.append(
            [
                device["name"],
                "none" if memory is None else mib(memory),
                "none" if compute is None else number(compute / 1e6),
                mib(sum(sub.file_bytes for sub in held)),
                number(plan.samples * sum(sub.macs for sub in held) / 1e6),
                ", ".join(sub.name for sub in held) or "nothing",
            ]
        )

    # Earlier versions stored no bytes of all copies, only of each file once.
    planned = results.plan.deployed_bytes
    if planned is None:
        planned = results.plan.total_bytes

    budget = "no budget"
    if plan.budget_bytes is not None:
        budget = f"a budget of {mib(plan.budget_bytes)} MiB"

    head = ["device", "limit,\nMiB", "limit,\nM MACs", "file MiB\nheld", "M MACs\nheld", "holds"]
    # Equal devices are never left so; unequal ones may be, and nothing else says it.
    idle = [row[0] for row in rows if row[-1] == "nothing"]
    several = any(", " in row[-1] for row in rows)
    left = ""
    if idle and several:
        left = f" Idle, while another holds several: {', '.join(idle)}."

    return (
        table(["sub-model", "devices", "classes"], groups, text=(0, 1, 2), wrap=2)
        + table(head, rows, text=(0, 5), wrap=5)
        + note(
            f"Classes grouped by: {plan.strategy}; assignment: {plan.assignment}; {mib(planned)} "
            f"MiB of files were planned at most, {budget}; MACs of "
            f"{counted(plan.samples, 'sample')}.{left}"
        )
    )


def _data(data: Data) -> str:
    """Where the data come from, how they were split, what was left out."""
    splits = data.splits
    # Where a recording is one window, as a picture is, a second number would only repeat the first.
    windowed = any(split.windows != split.recordings for split in splits.values())

    def cell(size: Size | None) -> str:
        if size is None:
            return "-"
        windows = f" / {size.windows:,}" if windowed else ""
        return f"{size.recordings:,}{windows}"

    rows = []
    for label in _shown_classes(data):
        rows.append([label, *(cell(split.per_class.get(label)) for split in splits.values())])
    rows.append(["all", *(cell(split) for split in splits.values())])

    # Some files by name; of the others their number.
    left_out = f"left out because unreadable: {data.skipped}"
    if data.skipped_files:
        left_out += f": {', '.join(data.skipped_files)}"
    more = data.skipped - len(data.skipped_files)
    if more > 0:
        left_out += f" and {more} more"

    lines = [
        f"{data.name}, {data.source}; seed of the split {data.seed}",
        *data.notes,
        f"padded because shorter than the window: {data.padded}",
        left_out,
    ]

    told = "".join(f"<li>{escape(line)}</li>" for line in lines)
    unlisted = len(data.labels) - (len(rows) - 1)
    some = f"; the five smallest and largest of {len(data.labels)} classes" if unlisted else ""
    caption = f"{data.noun}s{' / windows' if windowed else ''}{some}"
    last = len(rows) - 1
    return f"<ul>{told}</ul>" + table(["class", *splits], rows, strong=(last,), caption=caption)


def _shown_classes(data: Data) -> list[str]:
    """All classes, or of many the smallest and the largest by their training data."""
    labels = list(data.labels)
    sizes = data.splits["train"].per_class if "train" in data.splits else {}
    if len(labels) <= MOST_CLASSES or not sizes.keys() >= set(labels):
        return labels
    labels.sort(key=lambda label: sizes[label].recordings)
    return [*labels[:5], *labels[-5:]]


def _training(manifest: Manifest, results: Results) -> str:
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

    settings = []
    for key in run["base_training"]:
        applied = [_applied(fit, key, run[fit]) for fit in fits.values()]
        settings.append([key.replace("_", " "), *applied])

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
        table(["setting", *fits], settings)
        + note(f"{'; '.join(other)}. Base: {base}.")
        + _seconds(results)
        + note(
            f"Machine: {machine.cpu}, {machine.cores} cores, {machine.system} {machine.machine}; "
            f"peak memory of a process {results.peak_rss_bytes / 2**20:,.0f} MiB. Versions: "
            f"{versions}."
        )
    )


def _seconds(results: Results) -> str:
    """Seconds of each stage of each member, and of the others."""
    seconds = results.stage_seconds
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
        taken = [number(seconds.get(f"{member}.{name}", 0)) for name in names]
        samples = sum(step.history.samples for step in steps)
        rows.append([member, *taken, f"{samples:,}"])

    # "submodel-00.residual" is in the table above; the shared models have no row there.
    whole = []
    for name, value in seconds.items():
        if "." not in name or name.startswith("shared-"):
            whole.append(f"{name} {number(value)} s")

    return table(["seconds of a stage", *names, "samples seen\nafter the base"], rows) + note(
        f"{'; '.join(whole)}; all stages {number(results.seconds)} s. {_equal_training(results)}"
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


def _usage(data: Data) -> str:
    """The two commands: on a device, and on the computer with the data."""
    where = "" if data.synthetic else " --data-dir DATA"
    return (
        "<p>BUNDLE is the folder of this report. The first on a Raspberry Pi, after <code>pip "
        "install './edvit_tf[device]'</code> of a clone; the second on the computer that has the "
        "data.</p>\n"
        "<pre>python -m edvit_tf.device BUNDLE --predict FILE...\nedvit evaluate "
        f"BUNDLE{where}</pre>"
    )
