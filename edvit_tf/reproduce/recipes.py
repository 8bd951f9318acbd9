"""Runs of the recipes, each the recipe's own command in a process of its own: stored, resumed and
refused as always.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import OutputError
from edvit_tf.report.results import Results, read_results
from edvit_tf.report.sweep import sweep_row
from edvit_tf.reproduce.asked import Asked
from edvit_tf.study.recipe_run import run_recipe

FOLDER = "runs"  # of the output: bundles and work folders of the recipes
QUICK = ("-m", "edvit_tf.reproduce.quick")


@dataclass(frozen=True)
class RecipeRun:
    """A recipe with a number of devices and a seed. `data` is the data set's name; `base` is the
    field of `Asked` that has weights to start from.
    """

    recipe: str  # file name without .py
    data: str
    devices: int
    seed: int
    options: tuple[str, ...] = ()
    base: str = "base"
    reuse: str | None = None  # name of an earlier run, whose inputs and base are taken
    variant: str = ""  # of the name, where options differ

    @property
    def name(self) -> str:
        """Of its bundle's folder, and of its stage."""
        return f"{self.recipe}{self.variant}-n{self.devices}-s{self.seed}"


def started(asked: Asked, run: RecipeRun, missing: frozenset[str]) -> dict:
    """Runs the recipe, or goes on with it; returns `summary` of its bundle. `missing` are data sets
    that are not there, for which a stand-in is taken. Raises OutputError where it fails.
    """
    recipe = _recipe(asked, run)
    folder = asked.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)

    words = _words(asked, run, missing)
    run_recipe(recipe, folder, run.name, words, run.reuse, program=_program(asked))
    return summary(folder / run.name, shown(asked, run, missing))


def shown(asked: Asked, run: RecipeRun, missing: frozenset[str]) -> str:
    """The command, to be pasted into a shell in the clone."""
    words = ["python", *_program(asked), f"recipes/{run.recipe}.py", *_words(asked, run, missing)]
    return shlex.join([*words, "--out", str(asked.out / FOLDER / run.name)])


def _recipe(asked: Asked, run: RecipeRun) -> Path:
    path = asked.recipes / f"{run.recipe}.py"
    if not path.is_file():
        raise OutputError(
            f"{path} is not there; recipes come with a clone of the repository. Name their folder "
            "with --recipes."
        )
    return path


def _program(asked: Asked) -> tuple[str, ...]:
    """What runs a recipe's file in the place of itself."""
    return QUICK if asked.is_quick else ()


def _words(asked: Asked, run: RecipeRun, missing: frozenset[str]) -> list[str]:
    """What the recipe is given, but for --out and --reuse."""
    words = ["--devices", str(run.devices), "--seed", str(run.seed), *run.options]
    weights = getattr(asked, run.base)
    if weights is not None and not asked.is_quick:
        words += ["--base", weights]
    if asked.mode == "full":
        words += ["--profile", "paper"]
    if run.data in missing:
        words.append("--synthetic")
    return words


def summary(bundle: Path, command: str) -> dict:
    """What a page needs of a finished bundle: `sweep_row` of it, where its data and its base come
    from, spikes of an SNN, the fleet's parts by recording. Plain JSON.
    """
    results = read_results(open_bundle(bundle).path)
    return {
        **sweep_row(bundle),
        "command": command,
        "source": results.data.source,
        "splits": {name: size.recordings for name, size in results.data.splits.items()},
        "given": results.base.given,
        "base_params": results.base.params,
        "spikes": _spikes(results),
        "peak_rss_bytes": results.peak_rss_bytes,
    }


def _spikes(results: Results) -> float | None:
    """Of one inference of the whole fleet."""
    found = [sub.spikes.spikes for sub in results.sub_models if sub.spikes is not None]
    return sum(found) if found else None


def data_said(row: dict) -> str:
    """Where the data come from and how many there are."""
    counts = " / ".join(f"{count:,}" for count in row["splits"].values())
    made_up = "SYNTHETIC stand-in, " if row["synthetic"] else ""
    return f"{row['data']}: {made_up}{counts} ({' / '.join(row['splits'])})"


def base_said(row: dict) -> str:
    """What the sub-models were cut from."""
    weights = f"{row['base_params'] / 1e6:.2f} M weights"
    return f"{row['given'] or 'trained from scratch'}, {weights}"
