"""A terminal: a line for every stage that has ended, and below them what is at work, each with a
bar and the time that is left.
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
        # the bars by name of a stage, the last one begun at the end: fits elsewhere are several
        self._tasks: dict[str, TaskID] = {}

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
        elif event.kind in ("fit", "step", "epoch") and self._tasks:
            self._move(event)
        elif event.text:
            self._end_of(event)
            style = "yellow" if event.kind == "warning" else None
            self.progress.console.print(event.text, markup=False, style=style)

    def _move(self, event: Event) -> None:
        """Moves the bar of the stage that a fit is of: the last one begun, unless it has its
        name.
        """
        facts = event.facts
        task = self._tasks.get(facts["title"], list(self._tasks.values())[-1])
        if event.kind == "fit":
            # A bar of its own for each fit of a stage; what it says stands in the bar, not above.
            total = facts["epochs"] * facts["steps"]
            self.progress.reset(task, total=total, said=_epoch(0, facts["epochs"]))
        elif event.kind == "step":
            # some come with words, for a log
            self.progress.update(task, completed=facts["done"], total=facts["total"])
        else:
            loss = float("nan") if facts["loss"] is None else facts["loss"]
            said = f"{_epoch(facts['epoch'], facts['epochs'])}, loss {loss:.3f}"
            self.progress.update(task, said=said)

    def _begin(self, facts: Any) -> None:
        number = f"{facts['number']}/{facts['total'] or '?'}"
        shown = f"{number:>5} {facts['title']}"
        if len(shown) > WIDE:
            shown = shown[: WIDE - 1] + "…"
        # what is made by this process ends before the next begins, or has failed
        if "node" not in facts:
            self._remove(*self._tasks)
        name = facts.get("name", "")
        self._remove(name)  # begun again, on another node
        self._tasks[name] = self.progress.add_task(shown, total=None, said="")

    def _end_of(self, event: Event) -> None:
        if event.kind in ("stage-end", "trial-end"):
            self._remove(event.facts.get("name", ""))

    def _remove(self, *names: str) -> None:
        for name in names:
            if name in self._tasks:
                self.progress.remove_task(self._tasks.pop(name))


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
