"""What can be run, as types."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.recipes import FOLDER, RecipeRun


@dataclass(frozen=True)
class Now:
    """A run in progress: what was asked, and who makes or finds the rows of the recipes' runs."""

    asked: Asked
    row: Callable[[RecipeRun], dict]

    def bundle(self, run: RecipeRun) -> Path:
        """The finished bundle of a run."""
        self.row(run)
        return self.asked.out / FOLDER / run.name


@dataclass(frozen=True)
class Item:
    """Something to run. `seconds` by mode are an estimate on two cores; `runs` are the recipes'
    runs that it needs. `needs` is the field of `Asked` without which only a quick run has it.
    """

    name: str
    title: str
    where: tuple[str, ...]
    build: Callable[[Now], dict]
    seconds: dict[str, float]
    is_exact: bool = False  # instant, and on every page
    runs: Callable[[Asked], list[RecipeRun]] = lambda asked: []
    needs: str = ""

    def waits_for(self, asked: Asked) -> str:
        """The option that it lacks; "" for none."""
        if not self.needs or asked.is_quick or getattr(asked, self.needs) is not None:
            return ""
        return f"--{self.needs.replace('_', '-')} WEIGHTS"

    def needed_runs(self, asked: Asked) -> list[RecipeRun]:
        """Its runs; none while it waits for an option."""
        return [] if self.waits_for(asked) else self.runs(asked)
