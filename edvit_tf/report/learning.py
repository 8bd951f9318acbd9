"""The pictures of how the models learnt: loss and accuracy of every fit, epoch by epoch."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from edvit_tf.report.compared import SHORT, counted
from edvit_tf.report.curves import ticks
from edvit_tf.report.entries import History, Step
from edvit_tf.report.figures import note, panels
from edvit_tf.report.results import Results

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 30
# Models whose curves are seen at once; those of the others are folded.
OPEN = 4


class Fit(NamedTuple):
    """One fit of a model: the stage that it belongs to, and what each of its epochs came to."""

    stage: str
    loss: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


def learning(results: Results) -> str:
    """Two charts for each model that was fitted; "" where no fit was stored."""
    rows = [
        (name, _chart(name, "loss", fits), _chart(name, "accuracy", fits))
        for name, fits in fits_of(results).items()
    ]
    drawn = [[chart for chart in charts if chart] for _, *charts in rows]
    drawn = [charts for charts in drawn if charts]
    if not drawn:
        return ""

    shown = [chart for charts in drawn[:OPEN] for chart in charts]
    rest = [chart for charts in drawn[OPEN:] for chart in charts]
    html = panels(shown, "small")
    if rest:
        more = f"<summary>{counted(len(drawn) - OPEN, 'more model')}</summary>"
        html += f"<details>{more}{panels(rest, 'small')}</details>"
    return html + note(
        "By epoch, on the training data as they were augmented, so an accuracy may stay below that "
        "of the test. Dashed: a cut, then the next fit. Losses of a distilled model hold the "
        "teacher's part too."
    )


def fits_of(results: Results) -> dict[str, list[Fit]]:
    """The fits of each model, in order. Members that are made of the one model have no own."""
    found = {"base": [_fit("base", results.base.training)]}
    for name, steps in results.shared.items():
        found[name] = _fits(steps)
    for key, model in results.rivals.items():
        found[SHORT[key]] = _fits(model.stages)
    for sub in results.sub_models:
        if results.fleet.kind != "copies":
            own = [step for step in sub.stages if not _is_rivals(results, step)]
            found[sub.name] = _fits(own)
    if results.fusion.history is not None:
        found["fusion"] = [_fit("fusion", results.fusion.history)]
    if results.fusion.joint is not None:
        found["joint"] = [_fit("joint", results.fusion.joint)]
    return {name: fits for name, fits in found.items() if any(fit.loss for fit in fits)}


def _is_rivals(results: Results, step: Step) -> bool:
    """Whether a stage of a member is the single model's, whose curves stand there."""
    single = results.rivals.get("single")
    return single is not None and step in single.stages


def _fits(steps: Sequence[Step]) -> list[Fit]:
    return [_fit(step.stage, step.history) for step in steps if step.history.loss]


def _fit(stage: str, history: History) -> Fit:
    return Fit(stage, history.loss, history.accuracy)


def _chart(name: str, what: str, fits: Sequence[Fit]) -> str:
    """One curve over all fits of a model, one after the other; "" where there is no number."""
    scale = 100 if what == "accuracy" else 1
    curves: list[tuple[str, list[float | None]]] = []
    for fit in fits:
        values = fit.accuracy if what == "accuracy" else fit.loss
        curves.append((fit.stage, [_finite(value, scale) for value in values]))
    known = [value for _, values in curves for value in values if value is not None]
    total = sum(len(values) for _, values in curves)
    if len(known) < 2:
        return ""

    marks = ticks(min(known), max(known), 4)
    low, high = marks[0], max(marks[-1], marks[0] + 1e-9)

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch + 0.5) / total

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    parts = []
    for mark in marks:
        parts.append(
            f'<path class="grid" d="M{LEFT} {y(mark):.1f}H{WIDTH - RIGHT}"/>'
            f'<text class="dim" x="{LEFT - 5}" y="{y(mark) + 4:.1f}" text-anchor="end">'
            f"{mark:.10g}</text>"
        )

    colour = "single" if what == "loss" else "fused"
    start = 0
    for stage, values in curves:
        if start:
            parts.append(f'<path class="cut" d="M{x(start - 0.5):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts += _curve(stage, values, start, x, y, colour)
        start += len(values)
    parts.append(
        f'<text class="dim" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">'
        f"{total} epochs</text>"
    )

    unit = ", %" if what == "accuracy" else ""
    title = f"{name}: training {what}{unit}"
    words = f"{title}: from {known[0]:.3g} to {known[-1]:.3g} in {total} epochs"
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(words)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _curve(stage: str, values: Sequence[float | None], start: int, x, y, colour: str) -> list[str]:
    """The line of one fit, broken where a value is no number, and the name of its stage below."""
    pieces: list[list[str]] = [[]]
    for i, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x(start + i):.1f} {y(value):.1f}")

    parts = []
    for piece in pieces:
        if len(piece) == 1:  # a line of one point is not seen
            across, down = piece[0].split()
            parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="var(--{colour})"/>')
        elif piece:
            parts.append(
                f'<path d="M{"L".join(piece)}" style="fill:none;stroke:var(--{colour});'
                'stroke-width:2;stroke-linecap:round"/>'
            )
    middle = x(start + (len(values) - 1) / 2)
    parts.append(
        f'<text class="dim" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle" '
        f'style="font-size:10px">{escape(stage)}</text>'
    )
    return parts


def _finite(value: float | None, scale: float) -> float | None:
    return None if value is None or not math.isfinite(value) else scale * value
