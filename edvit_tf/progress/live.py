"""A terminal: a line for every stage that has ended, and below them what is at work, with a bar and
the time that is left.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from edvit_tf.progress.events import Event

WIDE = 64  # columns of what is at work, before its bar


class Live:
    """Shows events on a terminal; `shown()` is the context in which it may."""

    def __init__(self, console: Console | None = None):
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}", markup=False),
            TimeElapsedColumn(),
            _Left(),
            console=console or Console(highlight=False, soft_wrap=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._begun = ""

    @contextlib.contextmanager
    def shown(self) -> Iterator["Live"]:
        with self.progress:
            yield self

    def hear(self, event: Event) -> None:
        facts = event.facts
        if event.kind == "trial":
            self.progress.console.print(event.text, markup=False)
        if event.kind in ("stage", "trial"):
            self._begin(facts)
        elif event.kind == "fit" and self._task is not None:
            # A bar of its own for each fit of a stage; what it says stands in the bar, not above.
            total = facts["epochs"] * facts["steps"]
            self.progress.reset(self._task, total=total, said=_epoch(0, facts["epochs"]))
        elif event.kind == "step" and self._task is not None:
            # some come with words, for a log
            self.progress.update(self._task, completed=facts["done"], total=facts["total"])
        elif event.kind == "epoch" and self._task is not None:
            said = f"{_epoch(facts['epoch'], facts['epochs'])}, loss {facts['loss']:.3f}"
            self.progress.update(self._task, said=said)
        elif event.text:
            self._end_of(event)
            style = "yellow" if event.kind == "warning" else None
            self.progress.console.print(event.text, markup=False, style=style)

    def _begin(self, facts: Any) -> None:
        number = f"{facts['number']}/{facts['total'] or '?'}"
        shown = f"{number:>5} {facts['title']}"
        if len(shown) > WIDE:
            shown = shown[: WIDE - 1] + "…"
        if self._task is not None:
            self.progress.remove_task(self._task)
        self._task = self.progress.add_task(shown, total=None, said="")

    def _end_of(self, event: Event) -> None:
        if event.kind in ("stage-end", "trial-end") and self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None


class _Left(ProgressColumn):
    """The time that is left, where there is a bar to tell it by."""

    def __init__(self) -> None:
        super().__init__()
        self._remaining = TimeRemainingColumn(compact=True)

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text()
        return Text.assemble(("left ", "dim"), self._remaining.render(task))


def _epoch(done: int, epochs: int) -> str:
    return f"epoch {min(done + 1, epochs)} of {epochs}"
