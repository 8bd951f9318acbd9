"""report.html from what a bundle stores: one self-contained page for a reader who asks "why not one
small model?".

Reads manifest.json, results.json and, where it was stored, latency.json. Accuracies carry 95 %
Wilson intervals for the number of recordings (the windows of one recording are not independent, so
none for windows); MiB = 2^20 bytes.
"""

import json
from html import escape
from pathlib import Path

from edvit_tf.device.model.bundle import Bundle, BundleError, open_bundle
from edvit_tf.report import lost, measured
from edvit_tf.report.figures import CSS, mib, number, table
from edvit_tf.report.measured import note
from edvit_tf.report.tables import RIVALS
from edvit_tf.report.verdict import compared, counted, noun, verdict


def write_report(bundle_dir: Path) -> Path:
    """Writes report.html into the bundle's folder and returns its path; raises BundleError if a
    part is missing.
    """
    bundle = open_bundle(bundle_dir)
    file = bundle.path / "results.json"
    if not file.is_file():
        raise BundleError(
            f"{bundle.path} holds no results.json; the report shows what it stores. "
            "Give the folder that a recipe finished."
        )
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON ({error}). Copy the bundle again.") from error
    lost = [
        key
        for key in ("base", "sub_models", "fusion", "parity", "data", "stage_seconds")
        if key not in results
    ]
    if lost:
        raise BundleError(
            f"{file} lacks {', '.join(lost)}; it is not what a recipe wrote. Copy the bundle again."
        )
    target = bundle.path / "report.html"
    stored = bundle.path / "latency.json"
    beside = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else None
    target.write_text(page(bundle, results, beside), encoding="utf-8")
    return target


def page(bundle: Bundle, results: dict, beside: dict | None = None) -> str:
    """The HTML text; `beside` is what `edvit bench latency --store` kept."""
    manifest, data = bundle.manifest, results["data"]
    count, used = (
        len(results["sub_models"]),
        {device for sub in results["sub_models"] for device in sub["devices"]},
    )
    title = f"{manifest['name']}: a Vision Transformer split over {counted(len(used), 'device')}"
    facts = (
        f"{manifest['task']}, {len(results['labels'])} classes, {counted(count, 'sub-model')}; "
        f"data: {data['name']}, {data['source']}; seed {results['seed']}; bundle "
        f"{bundle.digest[:12]}"
    )
    rows = compared(manifest, results)
    first, *rest = verdict(results, rows)
    sections = [
        ("Models compared", measured.models(results, rows)),
        ("Accuracy by pruning stage", measured.stages(results)),
        ("Sub-models: size and latency", measured.sub_models(manifest, results)),
        ("Loss of one sub-model", lost.sub_model(results)),
        *([("Loss of several sub-models", lost.several(results))] if results.get("losses") else []),
        *(
            [("Calibration", measured.calibration(results))]
            if "calibration" in results["fusion"]
            else []
        ),
        ("Confusion matrix", measured.confusion(results)),
        ("Keras against TFLite", measured.parity(results)),
        *(
            [("Flavours and runtimes", measured.flavours(results))]
            if results.get("flavours")
            else []
        ),
        *([("Latency beside other runtimes", measured.latency(beside))] if beside else []),
        ("Class groups and plan", _plan(manifest, results)),
        ("Data", _data(data)),
        ("Training, versions, machine", _training(manifest, results)),
        ("How to run it", _usage(data)),
    ]
    banner = (
        '<p class="banner" role="alert">SYNTHETIC DATA. A made-up stand-in took the place of the real data set: '
        "these accuracies show that the program runs, and nothing else.</p>\n"
    )
    links = "".join(f'<a href="#s{i}">{escape(head)}</a>' for i, (head, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{escape(head)}</h2>\n{html}</section>\n'
        for i, (head, html) in enumerate(sections)
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{CSS}</style></head><body><main>
{banner if data["synthetic"] else ""}<h1>{escape(title)}</h1>
<p class="soft">{escape(facts)}</p>
{measured.tiles(rows, data)}
<p class="verdict"><strong>{escape(first)}</strong> {escape(" ".join(rest))}</p>
<nav>{links}</nav>
{body}</main></body></html>
"""


def _plan(manifest: dict, results: dict) -> str:
    """Which classes go together, and what each device may hold and holds."""
    plan, subs = manifest["plan"], results["sub_models"]
    groups = [[sub["name"], ", ".join(sub["devices"]), ", ".join(sub["labels"])] for sub in subs]
    rows = []
    for device in plan["devices"]:
        held = [sub for sub in subs if device["name"] in sub["devices"]]
        memory, compute = device["memory_bytes"], device["compute_macs"]
        rows.append(
            [
                device["name"],
                "none" if memory is None else mib(memory),
                "none" if compute is None else number(compute / 1e6),
                mib(sum(sub["file_bytes"] for sub in held)),
                number(plan["samples"] * sum(sub["macs"] for sub in held) / 1e6),
                ", ".join(sub["name"] for sub in held) or "nothing",
            ]
        )
    planned = results["plan"].get("deployed_bytes", results["plan"]["total_bytes"])
    budget = (
        "no budget"
        if plan["budget_bytes"] is None
        else f"a budget of {mib(plan['budget_bytes'])} MiB"
    )
    return (
        table(["sub-model", "devices", "classes"], groups, text=(0, 1, 2), wrap=2)
        + table(
            ["device", "limit,\nMiB", "limit,\nM MACs", "file MiB\nheld", "M MACs\nheld", "holds"],
            rows,
            text=(0, 5),
            wrap=5,
        )
        + note(
            f"Classes grouped by: {plan['strategy']}; assignment: {plan['assignment']}; "
            f"{mib(planned)} MiB of files were planned at most, {budget}; MACs of "
            f"{counted(plan['samples'], 'sample')}."
        )
    )


def _data(data: dict) -> str:
    """Where the data come from, how they were split, what was left out."""
    splits, what = data["splits"], noun(data)
    windowed = any(split["windows"] != split["recordings"] for split in splits.values())

    def cell(sizes: dict) -> str:
        return f"{sizes['recordings']:,}" + (f" / {sizes['windows']:,}" if windowed else "")

    rows = [
        [label, *(cell(split["per_class"][label]) for split in splits.values())]
        for label in data["labels"]
    ]
    rows.append(["all", *(cell(split) for split in splits.values())])
    named = ", ".join(data["skipped_files"])
    more = data["skipped"] - len(data["skipped_files"])
    lines = [
        f"{data['name']}, {data['source']}; seed of the split {data['seed']}",
        *data["notes"],
        f"padded because shorter than the window: {data['padded']}",
        f"left out because unreadable: {data['skipped']}"
        + (f": {named}" if named else "")
        + (f" and {more} more" if more > 0 else ""),
    ]
    return (
        "<ul>"
        + "".join(f"<li>{escape(line)}</li>" for line in lines)
        + "</ul>"
        + table(
            ["class", *splits],
            rows,
            strong=(len(rows) - 1,),
            caption=f"{what}s{' / windows' if windowed else ''}",
        )
    )


def _training(manifest: dict, results: dict) -> str:
    """Settings, samples seen, seconds of each stage, versions and the machine."""
    run, seconds, machine = manifest["run"], results["stage_seconds"], results["machine"]
    fits = {
        "base": "base_training",
        "after each cut": "stage_training",
        "fusion": "fusion_training",
    }
    fits |= {
        name: key
        for name, key in (("shared model", "shared_training"), ("joint", "joint_training"))
        if run.get(key)
    }
    settings = [
        [key.replace("_", " "), *(_applied(fit, key, run[fit]) for fit in fits.values())]
        for key in run["base_training"]
    ]
    members = {sub["name"]: sub["stages"] for sub in results["sub_models"]}
    members |= {key: results[key]["stages"] for key in RIVALS if results.get(key)}
    names = [stage["stage"] for stage in next(iter(members.values()))]
    times = [
        [
            member,
            *(number(seconds.get(f"{member}.{stage}", 0)) for stage in names),
            f"{sum(stage['history'].get('samples', 0) for stage in history):,}",
        ]
        for member, history in members.items()
    ]
    whole = "; ".join(
        f"{name} {number(value)} s"
        for name, value in seconds.items()
        if "." not in name or name.startswith("shared-")
    )
    other = "; ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in run.items()
        if value is not None and not isinstance(value, dict | list)
    )
    given = results["base"]["given"]
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    return (
        table(["setting", *fits], settings)
        + note(f"{other}. Base: {'trained in this run' if given is None else f'given, {given}'}.")
        + table(["seconds of a stage", *names, "samples seen\nafter the base"], times)
        + note(
            f"{whole}; all stages {number(results['seconds'])} s. The single model is given as "
            "many training samples "
            "as the fleet's sub-models see together, one of another size as many as cost the same "
            "MACs."
        )
        + note(
            f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']} "
            f"{machine['machine']}; peak "
            f"memory of a process {results['peak_rss_bytes'] / 2**20:,.0f} MiB. Versions: "
            f"{versions}."
        )
    )


def _applied(fit: str, key: str, settings: dict):
    """A setting, or a dash where the fit does not read it: only sub-models are distilled, Adam has
    no weight decay.
    """
    unread = {
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
    if settings["optimizer"] == "adam" and key in ("weight_decay", "warmup_fraction"):
        return "-"
    return "-" if key in unread.get(fit, ()) else settings[key]


def _usage(data: dict) -> str:
    """The two commands: on a device, and on the computer with the data."""
    where = "" if data["synthetic"] else " --data-dir DATA"
    return (
        "<p>BUNDLE is the folder of this report. The first on a Raspberry Pi, after <code>pip "
        "install "
        "'./edvit_tf[device]'</code> of a clone; the second on the computer that has the "
        "data.</p>\n"
        "<pre>python -m edvit_tf.device BUNDLE --predict FILE...\nedvit evaluate "
        f"BUNDLE{where}</pre>"
    )
