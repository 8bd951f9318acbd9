"""The pieces of the page: numbers with their intervals, tables, SVG charts. Every text is escaped.

Each chart is about 340 units wide and is shown at about that many pixels: its letters stay readable
on a phone. Its colours are variables of the style sheet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edvit_tf.report.entries import Step
from edvit_tf.report.steps import stage_steps

ARROW = "\N{RIGHTWARDS ARROW}"
MINUS = "\N{MINUS SIGN}"
Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % score interval (Wilson 1927) of a share seen on `count` independent trials; (0, 1)
    without trials, and where the share is no number.
    """
    if count == 0 or not math.isfinite(share):
        return 0.0, 1.0

    # Centre and half of the width, both still to be divided by 1 + z^2 / count.
    z2 = Z95**2 / count
    middle = share + z2 / 2
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / count / 4)

    low = (middle - half) / (1 + z2)
    high = (middle + half) / (1 + z2)
    return max(0.0, low), min(1.0, high)


def difference(a: float, b: float, count: int) -> tuple[float, float]:
    """95 % interval of a - b, each seen on `count` trials (Newcombe 1998, method 10), taken as
    independent samples.
    """
    low_a, high_a = wilson(a, count)
    low_b, high_b = wilson(b, count)

    down = math.hypot(a - low_a, high_b - b)
    up = math.hypot(high_a - a, b - low_b)
    return a - b - down, a - b + up


def number(value: float) -> str:
    """Three significant digits, thousands separated: 0.037, 12.3, 1,235; "inf", "nan"."""
    if not value:
        return "0"
    # A run that went astray is to be told of too.
    if not math.isfinite(value):
        return f"{value}"

    power = math.floor(math.log10(abs(value)) + 1e-9)  # log10(1000) may come out just below 3
    decimals = max(0, 2 - power)
    return f"{value:,.{decimals}f}"


def mib(size_bytes: float) -> str:
    """Bytes as MiB (2^20), without the unit."""
    return number(size_bytes / 2**20)


def _decimals(count: int) -> int:
    """Of a percentage that was seen on `count` trials."""
    return 2 if count >= 1000 else 1


def percent(share: float, count: int) -> str:
    """ "15.0 %"; a second decimal where `count` trials carry it."""
    return f"{100 * share:.{_decimals(count)}f} %"


def points(change: float, count: int) -> str:
    """A difference of shares as signed percentage points, without the unit: "+1.2", "−0.4",
    "0.0".
    """
    text = f"{100 * change:+.{_decimals(count)}f}"
    if float(text) == 0:
        return text[1:]  # without a sign
    return text.replace("-", "\N{MINUS SIGN}")


class Link(str):
    """A text of a table that leads to `href`."""

    href: str

    def __new__(cls, text: str, href: str) -> "Link":
        made = super().__new__(cls, text)
        made.href = href
        return made


def table(
    head: Sequence[str],
    rows: Sequence[Sequence],
    text: tuple[int, ...] = (0,),
    wrap: int | None = None,
    strong: tuple[int, ...] = (),
    caption: str = "",
) -> str:
    """An HTML table; columns in `text` are set left, column `wrap` may break lines, rows in
    `strong` are bold.
    """

    def cells(tag: str, values: Sequence) -> str:
        made = []
        for i, value in enumerate(values):
            kinds = []
            if i in text:
                kinds.append("t")
            if i == wrap:
                kinds.append("w")
            shown = escape(str(value))
            if isinstance(value, Link):
                shown = f'<a href="{escape(value.href)}">{shown}</a>'
            made.append(f'<{tag} class="{" ".join(kinds)}">{shown}</{tag}>')
        return "".join(made)

    body = []
    for i, row in enumerate(rows):
        kind = " class=strong" if i in strong else ""
        body.append(f"<tr{kind}>{cells('td', row)}</tr>")

    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{title}<thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


@dataclass(frozen=True)
class Bar:
    """A bar of `bars`: its length, what is written beside it, its colour in the style sheet."""

    name: str
    value: float
    shown: str
    colour: str
    interval: tuple[float, float] | None = None  # whiskers


def bars(title: str, rows: list[Bar], top: float | None = None, mark: float | None = None) -> str:
    """Horizontal bars from zero to at most `top` (None: the largest); `mark`: a dashed line. What
    is infinite or no number, of a run that went astray, has its text and no bar.
    """
    # Names are about six units a letter; 56 are left for the number behind a bar.
    left = min(150, 12 + 6 * max(len(short(row.name)) for row in rows))
    room = 340 - left - 56
    bottom = 24 * len(rows) + 2
    if not top:
        top = max([1e-12, *(row.value for row in rows if math.isfinite(row.value))])

    parts = [f'<line class="grid" x1="{left}" x2="{left}" y1="2" y2="{bottom}"/>']
    for i, row in enumerate(rows):
        y = 24 * i + 5
        is_drawn = all(map(math.isfinite, (row.value, *(row.interval or ()))))
        width = room * row.value / top if is_drawn else 0.0
        end = left + width
        parts.append(
            f'<rect x="{left}" y="{y}" width="{width:.1f}" height="16" fill="var(--{row.colour})"/>'
        )

        if row.interval and is_drawn:
            low, high = (left + room * value / top for value in row.interval)
            # The number goes behind the whisker, not through it.
            end = max(end, high)

            parts.append(
                f'<path class="whisker" d="M{low:.1f} {y + 8}H{high:.1f}M{low:.1f} {y + 4}v8'
                f'M{high:.1f} {y + 4}v8"/>'
            )
        parts.append(
            f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{_named(row.name)}</text>'
            f'<text x="{end + 5:.1f}" y="{y + 12}">{escape(row.shown)}</text>'
        )

    if mark is not None:
        parts.append(f'<path class="cut" d="M{left + room * mark / top:.1f} 2V{bottom}"/>')
    return _figure(title, 340, 24 * len(rows) + 4, parts)


_DOTS = {
    "before": 'class="hollow"',
    "cut": 'class="hollow"',
    "fit": 'fill="var(--fused)"',
    "repair": 'class="hollow" style="fill:var(--fused);fill-opacity:.45"',
}


def stage_chart(title: str, stages: Sequence[Step], chance: float) -> str:
    """One sub-model's accuracy: down the dashed line at each cut (hollow), up by repair (half) and
    fit (full).

    The thin line is the accuracy on the group's own classes.
    """

    def y(share: float) -> float:
        return 112 - 100 * share

    parts = []
    for share in (0, 0.5, 1):
        parts.append(
            f'<line class="grid" x1="32" x2="236" y1="{y(share)}" y2="{y(share)}"/>'
            f'<text class="dim" x="27" y="{y(share) + 4}" text-anchor="end">'
            f"{100 * share:.0f}</text>"
        )
    level = f"{y(chance):.1f}"
    parts.append(f'<line class="cut" x1="32" x2="236" y1="{level}" y2="{level}" opacity=".6"/>')

    # Dots are drawn last, so that no line crosses them.
    dots: list[str] = []
    own: list[str] = []
    last = None
    step = 200 / max(1, len(stages))

    for i, stage in enumerate(stages):
        accuracies = stage_steps(stage)
        group = stage_steps(stage, "group")
        left = 32 + step * (i + 0.24)
        room = step * 0.58

        for n, name in enumerate(accuracies):
            share = accuracies[name] or 0.0
            x = left + room * n / (len(accuracies) - 1)
            named = group[name]
            if named is not None and math.isfinite(named):
                own.append(f"{x:.1f} {y(named):.1f}")

            # no place on an axis: the table has it
            if not math.isfinite(share):
                continue

            # What a cut costs is a dashed line, what repair and fit mend a full one.
            if last:
                line = "cut" if name == "cut" else "fit"
                start = f"{last[0]:.1f} {last[1]:.1f}"
                parts.append(f'<path class="{line}" d="M{start}L{x:.1f} {y(share):.1f}"/>')

            dots.append(f'<circle {_DOTS[name]} cx="{x:.1f}" cy="{y(share):.1f}" r="3.5"/>')
            last = (x, y(share))

        dots.append(
            f'<text class="dim" x="{left + room / 2:.1f}" y="130" text-anchor="middle" '
            f'style="font-size:10px">{escape(stage.stage)}</text>'
        )

    if own:
        parts.append(f'<path class="own" d="M{"L".join(own)}"/>')
    return _figure(title, 240, 136, parts + dots)


def matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Confusion counts as a heat map: rows true, columns predicted, shaded by share of the row;
    recall at the right.
    """
    size = 32
    widest = max(len(short(label)) for label in labels)

    # Room for the longest name: flat at the left, at 45 degrees above.
    left = 14 + 6.6 * widest
    top = 26 + 5 * widest
    right = left + size * len(labels)
    width = right + 104
    height = top + size * len(labels) + 6

    parts = [
        f'<text class="dim" x="{right + 8}" y="{top - 8}">recall</text>',
        f'<text class="dim" x="{left - 6}" y="{top - 8}" text-anchor="end">true</text>',
        f'<text class="dim" x="{left}" y="12">predicted</text>',
    ]

    for r, row in enumerate(counts):
        y = top + size * r
        total = sum(row)
        name = _named(labels[r])
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 20:.1f}" text-anchor="end">{name}</text>')

        above = f"translate({left + size * (r + 0.6):.1f} {top - 7:.1f}) rotate(-45)"
        parts.append(f'<text transform="{above}">{name}</text>')

        for c, count in enumerate(row):
            title = f"true {escape(labels[r])}, predicted {escape(labels[c])}: {count}"
            colour = "fused" if r == c else "single"
            share = count / total if total else 0
            parts.append(_cell(left + size * c, y, size, count, share, colour, title))

        recall = f"{100 * row[r] / total:.0f} % of {total}" if total else "none"
        parts.append(f'<text x="{right + 8:.1f}" y="{y + 20:.1f}">{recall}</text>')

    return (
        '<div class="wide"><svg class="matrix" role="img" aria-label="confusion matrix" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"{''.join(parts)}</svg></div>"
    )


def _cell(x: float, y: float, size: int, count: int, share: float, colour: str, title: str) -> str:
    """A square of a heat map; its number is light on a dark square, dim where it is 0."""
    if share > 0.5:
        ink = ' style="fill:var(--over)"'
    elif count == 0:
        ink = ' class="dim" opacity=".5"'
    else:
        ink = ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size}" height="{size}" fill="var(--{colour})" '
        f'fill-opacity="{share:.3f}" stroke="var(--line)"><title>{title}</title></rect>'
        f'<text x="{x + size / 2:.1f}" y="{y + 20:.1f}" text-anchor="middle"{ink}>{count}</text>'
    )


def short(text: str, limit: int = 22) -> str:
    """A name that fits beside a chart."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def _named(text: str) -> str:
    """The short name, with the whole one as a tooltip where it was cut."""
    name = short(text)
    if name == text:
        return escape(text)
    return f"{escape(name)}<title>{escape(text)}</title>"


def _figure(title: str, width: int, height: int, parts: list[str]) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}">'
        f"{''.join(parts)}</svg></figure>"
    )


def panels(charts: list[str], width: str = "") -> str:
    """Charts side by side, as many as fit; `width`: "small", "large" or neither."""
    return f'<div class="panels {width}">{"".join(charts)}</div>'


def note(text: str) -> str:
    """A paragraph in the quieter colour."""
    return f'<p class="soft">{escape(text)}</p>'
