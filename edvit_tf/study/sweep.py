"""A recipe over several numbers of devices (and seeds): one run each, a seed's all from one base;
tables and one page.

Every run is the recipe's own command in a process of its own, so that each is stored, resumed and
refused as always: the same sweep, started again, goes on where it was stopped.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edvit_tf.device.strict_json import finite_json
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.elsewhere import check_engine
from edvit_tf.report.sweep import sweep_page, sweep_row
from edvit_tf.report.sweep_csv import FILE as SWEEP_CSV
from edvit_tf.report.sweep_csv import sweep_csv
from edvit_tf.study.recipe_run import at_once, run_recipe, shared_out


def sweep(
    recipe: Path,
    out: Path,
    devices: Sequence[int],
    seeds: Sequence[int],
    options: Sequence[str],
    jobs: int = 1,
    strategies: Sequence[str] = (),
    budgets: Sequence[str] = (),
    ray: str | None = None,
) -> list[dict]:
    """Runs `recipe` for every seed, number of devices, way to group classes and training budget
    (none given of the last two: the recipe's own), `options` being the rest of its command line;
    returns the rows (see `edvit_tf.report.sweep.sweep_row`), which are stored in `out`/sweep.json
    and sweep.csv with `out`/report.html.

    The first run of a seed reads the data, trains or loads the base and takes its answers; the
    others take all that from it. Of those `jobs` go on at once, with as many threads each as leaves
    the cores shared out. With `ray` members of all of them are fitted on the cluster at that
    address. Raises OutputError when a run fails: its output is in `out`/<run>.log; ClusterError
    where there is no cluster.
    """
    if ray is not None:
        check_engine(1, ray)
    if not recipe.is_file():
        raise OutputError(f"{recipe} is not a file; give a recipe, such as recipes/mnist.py.")
    out.mkdir(parents=True, exist_ok=True)
    ways = [
        (way, budget) for way in list(strategies) or [None] for budget in list(budgets) or [None]
    ]

    for seed in seeds:
        # The first makes what the others of its seed take over.
        runs = [_Run(seed, count, *way) for count in devices for way in ways]
        first, *others = runs
        _start(recipe, out, first, options, jobs, ray)

        at_once(
            [partial(_start, recipe, out, run, options, jobs, ray, first) for run in others], jobs
        )

    # In the order of the table: seeds of one fleet side by side.
    rows = []
    for count in devices:
        for way in ways:
            for seed in seeds:
                rows.append(sweep_row(out / _Run(seed, count, *way).name))

    command = _command(recipe, out, devices, seeds, strategies, budgets, options, ray)
    title = f"{recipe.stem}: a sweep over the number of devices"
    (out / "sweep.json").write_text(json.dumps(finite_json(rows), indent=1), encoding="utf-8")
    (out / SWEEP_CSV).write_text(sweep_csv(rows), encoding="utf-8")
    (out / "report.html").write_text(sweep_page(title, rows, command), encoding="utf-8")
    return rows


@dataclass(frozen=True)
class _Run:
    """One run of the sweep."""

    seed: int
    devices: int
    strategy: str | None  # None: the recipe's own
    budget: str | None = None  # of training, as "16e"; None: the recipe's own

    @property
    def name(self) -> str:
        """Of its bundle's folder."""
        way = f"-{self.strategy}" if self.strategy else ""
        budget = f"-{self.budget}" if self.budget else ""
        return f"seed-{self.seed}-n{self.devices}{way}{budget}"


def _start(
    recipe: Path,
    out: Path,
    run: _Run,
    options: Sequence[str],
    jobs: int,
    ray: str | None,
    first: _Run | None = None,
) -> None:
    """Runs the recipe, one of `jobs` at once, with what `first` has made; OutputError if it
    fails.
    """
    words = ["--devices", str(run.devices), "--seed", str(run.seed)]
    if run.strategy:
        words += ["--strategy", run.strategy]
    if run.budget:
        words += ["--training-budget", run.budget]
    if ray is not None:
        words += ["--ray", ray]
    words += options

    reuse = None if first is None else first.name
    run_recipe(recipe, out, run.name, words, reuse, shared_out(jobs, ray))


def _command(
    recipe: Path,
    out: Path,
    devices: Sequence[int],
    seeds: Sequence[int],
    strategies: Sequence[str],
    budgets: Sequence[str],
    options: Sequence[str],
    ray: str | None,
) -> str:
    """The command that makes this sweep, or goes on with it, to be pasted into a shell."""
    words = ["edvit", "sweep", str(recipe), "--devices", ",".join(map(str, devices))]
    words += ["--seeds", ",".join(map(str, seeds)), "--out", str(out)]
    if strategies:
        words += ["--strategies", ",".join(strategies)]
    if budgets:
        words += ["--budgets", ",".join(budgets)]
    if ray is not None:
        words += ["--ray", ray]
    if options:
        words += ["--", *options]
    return shlex.join(words)
