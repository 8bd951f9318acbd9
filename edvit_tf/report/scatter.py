"""A chart of points with names: accuracy against what it costs, on an axis by powers of ten."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from edvit_tf.report.curves import ticks

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 16, 12, 40
LINE = 13  # between two names
DOT = 7  # a dot's radius, with room around it


class Point(NamedTuple):
    """A model: what it costs, its accuracy in percent with an interval, its colour in the style
    sheet; `is_own` is drawn larger.
    """

    name: str
    cost: float
    accuracy: float
    low: float
    high: float
    colour: str
    is_own: bool = False


def scatter(
    title: str,
    points: Sequence[Point],
    said: Callable[[float], str],
    across: str,
    level: tuple[str, float] | None = None,
) -> str:
    """An SVG figure, "" without two points that can be drawn: costs are said by `said`, the axis
    named `across`; `level` is a dashed line with its name, of what has no cost.
    """
    drawn = [one for one in points if one.cost > 0 and _is_finite(one)]
    if len(drawn) < 2:
        return ""

    shares = [share for one in drawn for share in (one.low, one.high)]
    if level is not None and math.isfinite(level[1]):
        shares.append(level[1])
    marks = ticks(min(shares), max(shares), 5)
    low, high = marks[0], marks[-1]

    left, right = _ends([one.cost for one in drawn])

    def x(cost: float) -> float:
        place = (math.log10(cost) - left) / (right - left)
        return LEFT + (WIDTH - LEFT - RIGHT) * place

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (share - low) / (high - low)

    parts = [*_rows(marks, y), *_columns(left, right, x, said)]
    parts.append(
        f'<text class="dim" x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(across)}</text>"
    )
    if level is not None and low <= level[1] <= high:
        at = y(level[1])
        parts.append(
            f'<path class="cut" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
            f'<text class="dim" x="{WIDTH - RIGHT}" y="{at - 4:.1f}" text-anchor="end">'
            f"{escape(level[0])}</text>"
        )
    parts += _dots(drawn, x, y, said)

    words = "; ".join(f"{one.name}: {one.accuracy:.1f} % at {said(one.cost)}" for one in drawn)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(f"{title}. {words}")}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg></figure>'
    )


def _is_finite(one: Point) -> bool:
    return all(map(math.isfinite, (one.cost, one.accuracy, one.low, one.high)))


def _ends(costs: Sequence[float]) -> tuple[float, float]:
    """Of the axis, as powers of ten: the costs with some room at both sides."""
    least, most = math.log10(min(costs)), math.log10(max(costs))
    room = max(0.15, 0.12 * (most - least))
    return least - room, most + room


def _rows(marks: Sequence[float], y: Callable[[float], float]) -> list[str]:
    parts = []
    for mark in marks:
        at = y(mark)
        parts.append(
            f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
            f'<text class="dim" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
            f"{mark:.10g}</text>"
        )
    return parts


def _columns(
    left: float, right: float, x: Callable[[float], float], said: Callable[[float], str]
) -> list[str]:
    """Lines at 1, 10, 100 ...; where there are few of these at 2 and 5 of them too."""
    powers = range(math.floor(left) - 1, math.ceil(right) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        costs = [step * 10.0**power for power in powers for step in steps]
        costs = [cost for cost in costs if left <= math.log10(cost) <= right]
        if len(costs) >= 3:
            break

    parts = []
    last = -math.inf
    for cost in costs:
        at = x(cost)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        if at - last >= 52:  # a number is as wide
            last = at
            parts.append(
                f'<text class="dim" x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">'
                f"{escape(said(cost))}</text>"
            )
    return parts


def _dots(
    points: Sequence[Point],
    x: Callable[[float], float],
    y: Callable[[float], float],
    said: Callable[[float], str],
) -> list[str]:
    """Whiskers, then dots, then names beside them, none over another."""
    whiskers, dots, names = [], [], []
    places = _places([(x(one.cost), y(one.accuracy), one.name) for one in points])
    for one, (at, anchor, down) in zip(points, places, strict=True):
        across, height = x(one.cost), y(one.accuracy)
        colour = f"var(--{one.colour})"
        whiskers.append(
            f'<path d="M{across:.1f} {y(one.low):.1f}V{y(one.high):.1f}" '
            f'style="stroke:{colour};stroke-width:1.5;opacity:.6"/>'
        )
        tip = (
            f"{one.name}: {one.accuracy:.2f} % ({one.low:.2f} to {one.high:.2f}) at "
            f"{said(one.cost)}"
        )
        dots.append(
            f'<circle cx="{across:.1f}" cy="{height:.1f}" r="{6 if one.is_own else 4}" '
            f'fill="{colour}"><title>{escape(tip)}</title></circle>'
        )
        weight = ' style="font-weight:650"' if one.is_own else ""
        names.append(
            f'<text x="{at:.1f}" y="{down:.1f}" text-anchor="{anchor}"{weight}>'
            f"{escape(one.name)}</text>"
        )
    return [*whiskers, *dots, *names]


def _places(dots: Sequence[tuple[float, float, str]]) -> list[tuple[float, str, float]]:
    """Where each name goes: (x, anchor, y), beside its dot, and lower or higher where another name
    or dot is in its way.
    """
    order = sorted(range(len(dots)), key=lambda i: dots[i][1])
    taken: list[tuple[float, float, float]] = []  # from x, to x, y
    places: dict[int, tuple[float, str, float]] = {}
    for i in order:
        across, height, name = dots[i]
        wide = 6.2 * len(name)

        # the nearest free line, below or above, to the right or the left
        for start, down in _tries(across, height, wide, len(dots)):
            names_free = all(
                start > b or start + wide < a or abs(down - at) >= LINE for a, b, at in taken
            )
            if names_free and not any(
                start - DOT < x < start + wide + DOT and down - 10 - DOT < y < down + 3 + DOT
                for x, y, _ in dots
            ):
                break
        else:
            start, down = next(_tries(across, height, wide, len(dots)))
        taken.append((start, start + wide, down))
        to_right = start > across
        places[i] = (across + 10 if to_right else across - 10, "start" if to_right else "end", down)
    return [places[i] for i in range(len(dots))]


def _tries(across: float, height: float, wide: float, count: int) -> Iterator[tuple[float, float]]:
    """(left end, baseline) of the places for a name, the best first; within the figure."""
    starts = [across + 10, across - 10 - wide]
    inside = [start for start in starts if LEFT <= start <= WIDTH - wide] or starts[:1]
    for step in range(2 * count + 1):
        shift = LINE * ((step + 1) // 2) * (1 if step % 2 else -1)
        down = min(max(height + 4 + shift, TOP + 8), HEIGHT - BOTTOM - 3)
        for start in inside:
            yield start, down
