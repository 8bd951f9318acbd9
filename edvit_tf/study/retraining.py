"""What retraining is worth (the paper's Table 3): the softmax average, the fusion trained on frozen
sub-models, both trained on together, and the fleet that the recipe makes by itself.

Three runs of one recipe from one base: "frozen" and "joint" are the paper's fleet, a class group a
device, and have the same sub-models before the last training; "own" is the recipe as it is. Each
run takes from the one before it what comes out the same. Accuracies are the .tflite files'.
"""

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edvit_tf.checked import digest
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.evaluation.paired import paired
from edvit_tf.evaluation.predictions import stored_top1
from edvit_tf.pipeline.elsewhere import check_engine
from edvit_tf.report.curves import mean_and_deviation
from edvit_tf.report.figures import Bar, bars, note, panels, table, wilson
from edvit_tf.report.results import Results, read_results
from edvit_tf.report.said import p_said
from edvit_tf.report.tables import LINE
from edvit_tf.study.page import text_table
from edvit_tf.study.recipe_run import at_once, run_recipe, shared_out

# what a run is called -> its options; the last has none of its own
PAPERS = ("--fleet", "classes", "--views", "none")
RUNS = {
    "frozen": (*PAPERS, "--fusion", "tower"),
    "joint": (*PAPERS, "--fusion", "joint"),
    "own": (),
}
FIRST = "frozen"  # the others take from it what comes out the same
WAYS = ("average", "frozen", "joint", "own")
TITLES = {
    "average": "softmax average, no retraining",
    "frozen": "fusion trained, sub-models frozen",
    "joint": "all trained on together",
    "own": "the fleet that the recipe makes",
}
# of the style sheet
COLOURS = {"average": "average", "frozen": "fused", "joint": "equal", "own": "copies"}


def retraining(
    recipe: Path,
    out: Path,
    *,
    devices: int | None = None,
    seeds: Sequence[int] = (0,),
    options: Sequence[str] = (),
    jobs: int = 1,
    ray: str | None = None,
) -> list[dict]:
    """Runs `recipe` three times a seed in `out` (finished runs are kept) and returns `rows_of` all.

    `options` are the rest of its command line; they may not say what the runs differ in
    (ConfigError). The second and the third run of a seed need nothing of each other: `jobs` go on
    at once, and with `ray` the members of all are fitted on the cluster at that address. Raises
    OutputError when a run fails: its output is in `out`/<run>.log; ClusterError where there is no
    cluster.
    """
    if ray is not None:
        check_engine(1, ray)
    if not recipe.is_file():
        raise OutputError(f"{recipe} is not a file; give a recipe, such as recipes/mnist.py.")
    _check_options(options)
    out.mkdir(parents=True, exist_ok=True)

    shared = [] if devices is None else ["--devices", str(devices)]
    if ray is not None:
        shared += ["--ray", ray]

    rows = []
    for seed in seeds:
        runs = {
            name: partial(
                run_recipe,
                recipe,
                out,
                f"seed-{seed}-{name}",
                ["--seed", str(seed), *own, *shared, *options],
                None if name == FIRST else f"seed-{seed}-{FIRST}",
                shared_out(jobs, ray),
            )
            for name, own in RUNS.items()
        }
        runs.pop(FIRST)()
        at_once(list(runs.values()), jobs)
        rows += rows_of({name: out / f"seed-{seed}-{name}" for name in RUNS})
    return rows


def _check_options(options: Sequence[str]) -> None:
    """The runs say these themselves: given again they would make three equal ones."""
    taken = ("--fleet", "--fusion", "--views", "--seed", "--out", "--reuse", "--devices")
    for word in options:
        if word.partition("=")[0] in taken:
            raise ConfigError(
                f"{word} is not for the recipe here: the runs that are compared differ in it, or "
                "it is an option of this command. Leave it out after --."
            )


def rows_of(bundles: dict[str, Path]) -> list[dict]:
    """A row for each of WAYS from the bundles of "frozen", "joint" and "own" (each may be missing):
    way, seed, devices, kind, fusion, accuracy, recordings, total_bytes, training_macs, data,
    synthetic; and of it less the frozen one: difference, low, high, p_value (None where the answers
    are not stored).

    Raises BundleError for a bundle that is not whole; OutputError for bundles of other test splits.
    """
    opened = {name: read_results(open_bundle(path).path) for name, path in bundles.items()}
    _check_alike(bundles)
    rows = []
    for way in WAYS:
        run = "frozen" if way == "average" else way
        if run in opened:
            rows.append(_row(way, opened[run], bundles[run]))

    if "frozen" in bundles:
        answers, labels = stored_top1(bundles["frozen"])
        for row in rows:
            row |= _less(row["way"], bundles, answers.get("fused"), labels)
    return rows


def _check_alike(bundles: dict[str, Path]) -> None:
    """OutputError unless all were tested on the same recordings."""
    splits = {}
    for name, path in bundles.items():
        manifest = open_bundle(path).manifest
        splits[name] = digest([manifest.data["name"], manifest.data["splits"]["test"]])
    if len(set(splits.values())) > 1:
        raise OutputError(
            f"{', '.join(str(path) for path in bundles.values())} have other test data; give "
            "bundles of one recipe and seed."
        )


def _row(way: str, results: Results, path: Path) -> dict:
    fusion = results.fusion
    found = fusion.average if way == "average" else fusion.tflite
    manifest = open_bundle(path).manifest
    return {
        "way": way,
        "seed": results.seed,
        "devices": len(manifest.plan.devices),
        "kind": results.fleet.kind,
        "fusion": "average" if way == "average" else fusion.kind,
        "accuracy": found.recording,
        "recordings": found.recordings,
        "total_bytes": sum(sub.file_bytes for sub in results.sub_models),
        "training_macs": (results.training_macs or {}).get("fleet"),
        "base": results.base.accuracy.recording,
        "data": results.data.name,
        "synthetic": results.data.synthetic,
        "bundle": path.name,
    }


def _less(way: str, bundles: dict[str, Path], frozen, labels) -> dict:
    """This way less the frozen one, by the answers to the same recordings."""
    nothing = {"difference": None, "low": None, "high": None, "p_value": None}
    if way == "frozen" or frozen is None:
        return nothing
    run, model = ("frozen", "average") if way == "average" else (way, "fused")
    theirs, their_labels = stored_top1(bundles[run])
    if model not in theirs or their_labels.shape != labels.shape:
        return nothing
    found = paired(theirs[model], frozen, labels)
    return {name: found[name] for name in nothing}


def retraining_text(rows: Sequence[dict]) -> str:
    """The table for a terminal."""
    made_up = ["SYNTHETIC stand-in: these accuracies mean nothing."] if _is_made_up(rows) else []
    return "\n".join(
        [*made_up, text_table(_grid(rows), left=(0, 6)), "", textwrap.fill(_said(rows), LINE)]
    )


def _is_made_up(rows: Sequence[dict]) -> bool:
    return any(row["synthetic"] for row in rows)


def _grid(rows: Sequence[dict]) -> list[list[str]]:
    grid = [
        [
            "way",
            "seed",
            "accuracy %",
            "less\nfrozen",
            "exact\nMcNemar",
            "MiB of\nall files",
            "made as",
        ]
    ]
    for row in rows:
        less = "-" if row["difference"] is None else f"{100 * row['difference']:+.2f}"
        grid.append(
            [
                TITLES[row["way"]],
                str(row["seed"]),
                f"{100 * row['accuracy']:.2f}",
                less,
                p_said(row["p_value"]),
                f"{row['total_bytes'] / 2**20:.2f}",
                f"{row['kind']}, {row['fusion']}",
            ]
        )
    return grid


def _said(rows: Sequence[dict]) -> str:
    """Mean and deviation over the seeds, and what the figures are of."""
    first = rows[0]
    parts = []
    for way in WAYS:
        shares = [100 * row["accuracy"] for row in rows if row["way"] == way]
        if len(shares) > 1:
            mean, spread = mean_and_deviation(shares)
            parts.append(f"{TITLES[way]}: {mean:.2f} +- {spread:.2f} %")
    seeds = {row["seed"] for row in rows}
    over = f" Over {len(seeds)} seeds: {'; '.join(parts)}." if parts else ""
    return (
        f"{first['data']}, N = {first['devices']}, {first['recordings']} test recordings, .tflite "
        f"files; base {100 * first['base']:.2f} %.{over}"
    )


def retraining_html(rows: Sequence[dict]) -> str:
    """Bars and the table, for a page."""
    drawn = []
    for way in WAYS:
        own = [row for row in rows if row["way"] == way]
        if own:
            mean, _ = mean_and_deviation([row["accuracy"] for row in own])
            low, high = wilson(mean, own[0]["recordings"])
            whiskers = (100 * low, 100 * high)
            drawn.append(Bar(way, 100 * mean, f"{100 * mean:.2f} %", COLOURS[way], whiskers))
    head, *body = _grid(rows)
    made_up = note("SYNTHETIC DATA: these accuracies mean nothing.") if _is_made_up(rows) else ""
    chart = bars("Test accuracy, %; whiskers: 95 % Wilson intervals", drawn, top=100)
    return made_up + panels([chart], "large") + table(head, body, text=(0, 6)) + note(_said(rows))
