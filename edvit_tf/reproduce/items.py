"""What can be run, in order of cost. An item gives figures by key, which paper.yaml names as
ITEM:KEY, and says of what they are.

An item's result is plain JSON: `figures` (number, or a few words), `data`, `base`, `seeds`,
`command`; and may have `commands` (of keys that begin so, up to a dot), `missing` (key: why it is
not there), `base_params`, `synthetic`, `trained`, `html`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edvit_tf.report.curves import mean_and_deviation
from edvit_tf.reproduce import exact, files
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.exact import COUNTS
from edvit_tf.reproduce.item import Item, Now
from edvit_tf.reproduce.recipes import RecipeRun, base_said, data_said
from edvit_tf.reproduce.runs import (
    caltech_runs,
    cnn_runs,
    gtzan_runs,
    joint_runs,
    mnist_runs,
    order_runs,
    retrained_runs,
    snn_runs,
    speech_runs,
    text_runs,
    vit_runs,
)
from edvit_tf.study.energy import energy_html, energy_of_bundle
from edvit_tf.study.retraining import retraining_html, rows_of

TSNE_DEVICES = (2, 3, 5, 10)
AGAINST_N = ("figure 3", "figure 4", "figure 5")
MINUTE, HOUR = 60.0, 3600.0


# ---- their figures


def _about(rows: list[dict]) -> dict:
    """Of what the figures of these runs are."""
    first = rows[0]
    return {
        "data": data_said(first),
        "base": base_said(first),
        "base_params": first["base_params"],
        "seeds": sorted({row["seed"] for row in rows}),
        "command": first["command"],
        "synthetic": any(row["synthetic"] for row in rows),
        "trained": True,
    }


def _mean(rows: list[dict], key: str, field_name: str = "accuracy") -> float | None:
    """Over the seeds, of one model of each run; None where a run has it not."""
    found = [row["models"][key][field_name] for row in rows if key in row["models"]]
    known = [value for value in found if value is not None]
    return mean_and_deviation(known)[0] if known else None


def _percent(rows: list[dict], prefix: str = "") -> dict[str, float | str]:
    """Accuracies of the models of these runs in percent, mean over the seeds."""
    figures: dict[str, float | str] = {}
    for key in ("fused", "average", "base", "single", "floor"):
        share = _mean(rows, key)
        if share is not None:
            figures[f"{prefix}{key}"] = 100 * share
    return figures


def vit(now: Now) -> dict:
    """Accuracy, bytes and milliseconds against N."""
    rows = [now.row(run) for run in vit_runs(now.asked)]
    figures: dict[str, float | str] = {}
    said = []
    for count in COUNTS:
        own = [row for row in rows if row["devices"] == count]
        figures |= _percent(own, f"n{count}.")
        figures |= _costs(own, f"n{count}.")
        said.append(f"{count}: {figures[f'n{count}.fused']:.1f} %")
    figures["said"] = f"accuracy by N, {', '.join(said)}"
    # of all fleets: the best one would be chosen by the test itself
    figures["lost"] = f"base {figures['n1.base']:.1f} %; fleets by N, {', '.join(said[1:])}"
    return {"figures": figures, **_about(rows), "commands": _commands(rows)}


def _commands(rows: list[dict]) -> dict[str, str]:
    """Of the first seed, by "n" and the number of devices."""
    return {f"n{row['devices']}": row["command"] for row in reversed(rows)}


def _costs(rows: list[dict], prefix: str = "") -> dict[str, float | str]:
    """Bytes a device and of all, MACs a device, milliseconds of a device and the fusion."""
    scales = {"device_bytes": 2**20, "total_bytes": 2**20, "device_macs": 1e6, "median": 1.0}
    names = {
        "device_bytes": "device_mib",
        "total_bytes": "total_mib",
        "device_macs": "device_mmacs",
        "median": "ms",
    }
    figures: dict[str, float | str] = {}
    for field_name, scale in scales.items():
        value = _mean(rows, "fused", field_name)
        if value is not None:
            figures[f"{prefix}{names[field_name]}"] = value / scale
    return figures


def _simple(runs: Callable[[Asked], list[RecipeRun]], now: Now) -> dict:
    """Accuracies and costs of one recipe, mean over the seeds; how many data there are."""
    rows = [now.row(run) for run in runs(now.asked)]
    splits = rows[0]["splits"]
    figures = _percent(rows) | _costs(rows)
    figures |= {
        "devices": rows[0]["devices"],
        "recordings": sum(splits.values()),
        "train_and_validation": splits["train"] + splits["validation"],
        "test": splits["test"],
    }
    figures["said"] = (
        f"N = {rows[0]['devices']}: {figures['fused']:.1f} %, {figures['device_mib']:.2f} MiB a "
        "device"
    )
    if rows[0]["spikes"] is not None:
        spikes = [row["spikes"] for row in rows]
        figures["million_spikes"] = sum(spikes) / len(spikes) / 1e6
    return {"figures": figures, **_about(rows)}


def retrained(now: Now) -> dict:
    """Table 3: the fleets of `vit`, trained on together."""
    runs = joint_runs(now.asked)
    rows = [now.row(run) for run in runs]
    figures = {}
    drawn = []
    for count in dict.fromkeys(run.devices for run in runs):
        own = [row for row in rows if row["devices"] == count]
        share = _mean(own, "fused")
        figures[f"n{count}"] = 100 * share if share is not None else "-"
        found = []
        for run in runs:
            if run.devices == count:
                pair = {"frozen": _named(now, run.reuse), "joint": now.bundle(run)}
                found += rows_of(pair)
        drawn.append(f"<h3>N = {count}</h3>{retraining_html(found)}")
    missing = {
        f"n{count}": "A quick run trains N = 2 and 5 together, no others" for count in COUNTS
    }
    return {"figures": figures, **_about(rows), "html": "".join(drawn), "missing": missing}


def _named(now: Now, name: str | None) -> Path:
    """The bundle of a run of `vit`, by its name."""
    run = next(one for one in vit_runs(now.asked) if one.name == name)
    return now.bundle(run)


def tsne(now: Now) -> dict:
    """Figure 8: features of the base, the fused model and a sub-model, as points; with numbers
    that say how far classes lie apart, since t-SNE proves nothing.
    """
    from edvit_tf.report.embedding import embedding
    from edvit_tf.study.tsne import figures as without_points
    from edvit_tf.study.tsne import tsne_study

    first = now.asked.seeds[0]
    runs = [run for run in vit_runs(now.asked) if run.seed == first]
    rows, drawn, said = [], [], []
    figures: dict[str, float | str] = {}
    for run in (one for one in runs if one.devices in TSNE_DEVICES):
        rows.append(now.row(run))
        found = tsne_study(now.bundle(run), each=20 if now.asked.is_quick else 200)
        for panel in without_points(found)["panels"]:
            key = f"n{run.devices}.{panel['key']}"
            figures[f"{key}.knn"] = "-" if panel["knn"] is None else 100 * panel["knn"]
        drawn.append(f"<h3>N = {run.devices}</h3>{embedding(found)}")
        said.append(f"{run.devices}: {_whole(figures[f'{key}.knn'])}")
    figures["said"] = f"10-NN accuracy in a sub-model's features by N, {', '.join(said)}"
    return {"figures": figures, **_about(rows), "html": "".join(drawn)}


def _whole(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.0f} %"


def order(now: Now) -> dict:
    """ViT, Split-CNN and Split-SNN at N = 10, in words, and what each question costs in energy."""
    systems, made = {}, {}
    runs = order_runs(now.asked)
    rows = [now.row(run) for run in runs]
    for name, recipe in (("ViT", runs[0].recipe), ("CNN", "cifar10_cnn"), ("SNN", "cifar10_snn")):
        own = [row for row, run in zip(rows, runs, strict=True) if run.recipe == recipe]
        systems[name] = _percent(own) | _costs(own)
        made[name] = own

    def told(key: str, unit: str) -> str:
        ranked = sorted(systems, key=lambda name: -float(systems[name].get(key, 0)))
        return ", ".join(f"{name} {float(systems[name].get(key, 0)):.2f} {unit}" for name in ranked)

    figures: dict[str, float | str] = {
        "accuracy": told("fused", "%"),
        "bytes": f"of all files: {told('total_mib', 'MiB')}",
        "cost": f"a device: {told('ms', 'ms')}; {told('device_mib', 'MiB')}",
    }
    commands = list(dict.fromkeys(row["command"] for row in rows))
    drawn = energy_html([energy_of_bundle(now.bundle(run)) for run in runs])
    about = _about(rows)
    # each system has its own pictures and its own base
    for key, said in (("data", data_said), ("base", base_said)):
        about[key] = "; ".join(
            f"{name}: {' and '.join(dict.fromkeys(map(said, own)))}" for name, own in made.items()
        )
    return {"figures": figures, **about, "command": "; ".join(commands), "html": drawn}


def _plain(build: Callable[[Asked], dict], now: Now) -> dict:
    return build(now.asked)


def _instant() -> dict[str, float]:
    return dict.fromkeys(("quick", "recipes", "full"), 1.0)


def _hours(quick_seconds: float, recipes: float, full: float) -> dict[str, float]:
    return {"quick": quick_seconds, "recipes": recipes * HOUR, "full": full * HOUR}


ITEMS = (
    Item(
        "settings",
        "settings of the paper's profile, and of spectrograms",
        ("settings", "data"),
        partial(_plain, exact.settings),
        _instant(),
        is_exact=True,
    ),
    Item(
        "flops",
        "multiply-accumulates of a sub-model against N",
        ("table 4",),
        partial(_plain, exact.flops),
        _instant(),
        is_exact=True,
    ),
    Item(
        "plans",
        "heads, widths and bytes of Small, Base and Large against N",
        (*AGAINST_N, "settings", "abstract"),
        partial(_plain, exact.plans),
        _instant(),
        is_exact=True,
    ),
    Item(
        "cases",
        "the case studies",
        ("section E.2", "section E.3"),
        partial(_plain, exact.cases),
        _instant(),
        is_exact=True,
    ),
    Item(
        "latency",
        "milliseconds of exported files, ViT-Base whole and a sub-model",
        (*AGAINST_N, "abstract"),
        partial(_plain, files.latency),
        {"quick": 60.0, "recipes": 180.0, "full": 180.0},
    ),
    Item(
        "mnist",
        "ViT on MNIST",
        ("results",),
        partial(_simple, mnist_runs),
        _hours(60, 1, 100),
        runs=mnist_runs,
    ),
    Item(
        "gtzan",
        "ViT on GTZAN",
        ("results",),
        partial(_simple, gtzan_runs),
        _hours(60, 0.1, 40),
        runs=gtzan_runs,
    ),
    Item(
        "caltech",
        "ViT on Caltech-256",
        ("results", "data"),
        partial(_simple, caltech_runs),
        _hours(60, 0.2, 40),
        runs=caltech_runs,
    ),
    Item(
        "speech",
        "ViT on Speech Commands",
        ("results",),
        partial(_simple, speech_runs),
        _hours(60, 0.4, 100),
        runs=speech_runs,
    ),
    Item(
        "vit",
        "ViT on CIFAR-10 against N",
        ("table 2", "table 3", *AGAINST_N, "results", "abstract"),
        vit,
        _hours(300, 4, 400),
        runs=vit_runs,
    ),
    Item(
        "retrained",
        "ViT on CIFAR-10, trained on together",
        ("table 3",),
        retrained,
        _hours(120, 4, 400),
        runs=retrained_runs,
    ),
    Item(
        "tsne",
        "features by class, drawn by t-SNE",
        ("figure 8",),
        tsne,
        {"quick": 60.0, "recipes": 300.0, "full": 300.0},
        runs=vit_runs,
    ),
    Item(
        "text",
        "BERT on 20 Newsgroups",
        ("table 5", "data"),
        partial(_simple, text_runs),
        _hours(90, 2, 200),
        runs=text_runs,
        # its rates are those of a pretrained BERT
        needs="text_base",
    ),
    Item(
        "cnn",
        "Split-CNN on CIFAR-10",
        ("table 2", "figure 6"),
        partial(_simple, cnn_runs),
        _hours(90, 0.6, 100),
        runs=cnn_runs,
    ),
    Item(
        "snn",
        "Split-SNN on CIFAR-10",
        ("table 2", "figure 6"),
        partial(_simple, snn_runs),
        _hours(120, 0.6, 400),
        runs=snn_runs,
    ),
    Item(
        "order",
        "ViT, Split-CNN and Split-SNN side by side",
        ("table 2", "figure 6"),
        order,
        # the CNN of few pictures, which no other item needs
        _instant() | {"recipes": 0.3 * HOUR},
        runs=order_runs,
    ),
)
