"""Stages of several members at once, where JAX computes: fits of models of one configuration are
one vectorised fit (`training.side_by_side`).

Each stage goes as far as its fit; then those that want the same kind of fit are fitted together;
then each goes on with its own weights. What a stage makes is what it would have made alone, up to
rounding.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from edvit_tf.device.model.memory import peak_rss
from edvit_tf.device.terminal import counted
from edvit_tf.pipeline.cutting import Wanted
from edvit_tf.pipeline.stage import Run, Stage
from edvit_tf.progress import tell
from edvit_tf.training.backend_process import BackendEnded

NO_ROOM = "RESOURCE_EXHAUSTED"  # what JAX says where the accelerator's memory does not do


@dataclass
class _Making:
    """A stage that is being made."""

    name: str
    parts: Generator
    seconds: float = 0.0  # of its own
    wanted: Wanted | None = None
    result: dict[str, Any] = field(default_factory=dict)

    def go_on(self, answer: tuple[dict, dict] | None) -> None:
        """To its next fit, or to its end."""
        started = time.perf_counter()
        try:
            self.wanted = self.parts.send(answer)
        except StopIteration as end:
            self.wanted, self.result = None, end.value
        self.seconds += time.perf_counter() - started


def make_side_by_side(run: Run, stages: Sequence[Stage]) -> None:
    """Makes stages that read nothing of each other, and that are made in parts (`Stage.parts`).

    Raises what a stage raises; of the others nothing is kept then that was not finished.
    """
    making = []
    for stage in stages:
        if run.stages.begin(stage.name, stage.needs) is not None:
            continue
        with run.stages.failing(stage.name):
            folder = run.stages.opened(stage.name)
            one = _Making(stage.name, stage.parts(run, folder))
            one.go_on(None)
        making.append(one)

    _close(run, [one for one in making if one.wanted is None])
    while making := [one for one in making if one.wanted is not None]:
        for alike in _alike(making):
            _fit(run, alike)
            # what is finished is kept, whatever becomes of the others
            _close(run, [one for one in alike if one.wanted is None])


def _close(run: Run, ended: Sequence[_Making]) -> None:
    for one in ended:
        figures = {"seconds": round(one.seconds, 2), "peak_rss_bytes": peak_rss()}
        run.stages.closed(one.name, one.result | figures)


def _alike(making: Sequence[_Making]) -> list[list[_Making]]:
    """Those whose fits can be one: models of the same configuration, trained alike."""
    groups: dict[tuple, list[_Making]] = {}
    for one in making:
        if one.wanted is not None:
            key = (one.wanted.widths, one.wanted.fitting.training)
            groups.setdefault(key, []).append(one)
    return list(groups.values())


def _fit(run: Run, making: Sequence[_Making]) -> None:
    """Fits what these want, and lets each go on; in halves, where they have no room together."""
    started = time.perf_counter()
    wanted = [one.wanted for one in making]
    if len(making) == 1 or wanted[0].fitting.training.epochs == 0:
        answers = [one.fit() for one in wanted]
    else:
        try:
            answers = _together(wanted)
        except (RuntimeError, BackendEnded) as error:
            if not (NO_ROOM in str(error) or getattr(error, "is_killed", False)):
                raise
            half = len(making) // 2
            tell(f"{len(making)} members have no room side by side; in two halves, then", "warning")
            _fit(run, making[:half])
            _fit(run, making[half:])
            return

    each = (time.perf_counter() - started) / len(making)
    for one, answer in zip(making, answers, strict=True):
        one.seconds += each
        with run.stages.failing(one.name):
            one.go_on(answer)


def _together(wanted: Sequence[Wanted]) -> list[tuple[dict, dict]]:
    from edvit_tf.training.side_by_side import fit_side_by_side

    first = wanted[0].fitting
    tell(
        f"{counted(len(wanted), 'member')} side by side: {first.name} to {wanted[-1].fitting.name}"
    )
    found = fit_side_by_side(
        wanted[0].widths,
        [one.weights for one in wanted],
        first.train.x,
        [one.fitting.targets for one in wanted],
        first.training,
        epoch_indices=[one.fitting.rows for one in wanted],
        seeds=[one.fitting.seed for one in wanted],
        features=first.stored["train_features"],
        titles=[one.fitting.name for one in wanted],
    )
    return [
        (weights, one.with_macs(history))
        for one, (weights, history) in zip(wanted, found, strict=True)
    ]
