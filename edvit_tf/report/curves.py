"""Charts of several models against the number of devices N: means over the seeds, with whiskers."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 26


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample deviation (0 for one value)."""
    mean = sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / max(1, len(values) - 1))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Up to about `count` round numbers, 1, 2 or 5 times a power of ten apart, that hold `low` and
    `high`.
    """
    span = max(high - low, 1e-9)

    # The smallest round step that covers the span in `count` of them; 0.999 and 1e-9 forgive
    # float rounding.
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * count >= span * 0.999)

    first = math.floor(low / step + 1e-9)
    return [step * i for i in range(first, math.ceil(high / step - 1e-9) + 1)]


Series = tuple[str, str, Mapping[float, tuple[float, float, float]]]


def _finite(series: Sequence[Series]) -> tuple[list[Series], str]:
    """The series with the points that can be drawn; those that cannot, in words ("" for none)."""
    drawn: list[Series] = []
    astray = []
    for name, colour, found in series:
        good = {n: figures for n, figures in found.items() if all(map(math.isfinite, figures))}
        drawn.append((name, colour, good))
        astray += [f"{name} at {n:g}: {found[n][0]:.4g}" for n in found if n not in good]
    return drawn, ", ".join(astray)


class _Point(NamedTuple):
    """A value in the figure's units: across, down, and its tooltip."""

    x: float
    y: float
    low: float  # below the value, so the larger number
    high: float
    said: str


def _line(colour: str, points: list[_Point]) -> list[str]:
    """The line of one model, then whiskers and dot of each of its values."""
    path = "L".join(f"{point.x:.1f} {point.y:.1f}" for point in points)
    parts = [f'<path d="M{path}" style="fill:none;stroke:var(--{colour});stroke-width:1.5"/>']

    for point in points:
        at = f"{point.x:.1f}"
        if point.high < point.low:
            parts.append(
                f'<path d="M{at} {point.low:.1f}V{point.high:.1f}" '
                f'style="stroke:var(--{colour});stroke-width:1.2"/>'
            )
        parts.append(
            f'<circle cx="{at}" cy="{point.y:.1f}" r="3" fill="var(--{colour})">'
            f"<title>{escape(point.said)}</title></circle>"
        )
    return parts


def curves(
    title: str,
    series: Sequence[Series],
    from_zero: bool = True,
    across: str = "N",
) -> str:
    """An SVG figure. A series: (name, colour of the style sheet, {N: (value, low, high)}); low and
    high are whiskers, equal to the value for none. N, or what `across` calls it, are set at even
    steps. The axis starts at 0, or near the smallest value. Points that are infinite or no numbers
    (of a run that went astray) have no place on an axis: they are named below the title.
    """
    series, astray = _finite(series)
    if not any(found for _, _, found in series):
        why = escape(astray or "no figures")
        return (
            f"<figure><figcaption>{escape(title)}<br>nothing to draw: {why}</figcaption></figure>"
        )

    seen: set[float] = set()
    values: list[float] = []
    for _, _, found in series:
        seen.update(found)
        for value, low, high in found.values():
            values += [value, low, high]
    counts = sorted(seen)

    start = 0.0 if from_zero else min(values)
    marks = ticks(start, max(values))
    bottom, top = marks[0], max(marks[-1], marks[0] + 1e-9)

    # N at even steps: 1, 2, 3, 5, 10 at their true distances would crowd on the left.
    def x(n: float, place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (counts.index(n) + 0.5) / len(counts) + place

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - bottom) / (top - bottom)

    # Grid lines with their numbers at the left, N below.
    parts = []
    for mark in marks:
        level = y(mark)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" '
            f'y2="{level:.1f}"/><text class="dim" x="{LEFT - 6}" y="{level + 4:.1f}" '
            f'text-anchor="end">{mark:.10g}</text>'
        )

    below = HEIGHT - 8
    for n in counts:
        parts.append(
            f'<text class="dim" x="{x(n, 0):.1f}" y="{below}" text-anchor="middle">{n:g}</text>'
        )
    # a word begins at the edge of the figure, which is nearer than it is long
    words = len(across) > 3
    at = 'x="0"' if words else f'x="{LEFT - 6}" text-anchor="end"'
    parts.append(f'<text class="dim" {at} y="{below}">{across}{"" if words else " ="}</text>')

    keys = []
    for i, (name, colour, found) in enumerate(series):
        # Beside each other, so that whiskers do not hide one another.
        place = 5 * (i - (len(series) - 1) / 2)

        drawn = []
        for n, figures in sorted(found.items()):
            value, low, high = map(y, figures)
            said = f"{name}, {across} = {n:g}: {figures[0]:.4g}"
            drawn.append(_Point(x(n, place), value, low, high, said))
        parts += _line(colour, drawn)

        keys.append(f'<span style="color:var(--{colour})">&#9679;</span> {escape(name)}')

    if astray:
        keys.append(f"not drawn: {escape(astray)}")
    return (
        f"<figure><figcaption>{escape(title)}<br>{' '.join(keys)}</figcaption>"
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(parts)}</svg></figure>"
    )
