"""One page: paper, ours, and why they can be compared or not; in the style of the reports."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from edvit_tf.report.figures import MINUS, note
from edvit_tf.report.style import finished, page_end, page_head
from edvit_tf.report.units import seconds as time_said
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.compare import (
    AGREES,
    DIFFERS,
    MISSING,
    NOT_COMPARABLE,
    NOT_RUN,
    PICTURE,
    Row,
)
from edvit_tf.reproduce.paper import Paper, Said

TITLE = "What the paper says, and what comes out here"
HEAD = ("the paper says", "paper", "ours", "state", "why", "ours is of")
MEANING = {
    AGREES: "comparable, and as the paper has it",
    DIFFERS: "comparable, and otherwise",
    NOT_COMPARABLE: "both stand here, and why they say nothing of each other",
    PICTURE: "the paper has no number in its text",
    NOT_RUN: "not asked for in this run",
    MISSING: "needs what is not here",
}
BANNERS = {
    "quick": "A QUICK RUN: tiny widths and few samples. Its accuracies show that all works, and "
    "nothing of the method; leave --quick out for the recipes as they are.",
    "made up": "SYNTHETIC DATA for {names}: these accuracies mean nothing.",
}


def page(
    paper: Paper,
    rows: Sequence[Row],
    results: Mapping[str, dict],
    titles: Mapping[str, str],
    asked: Asked,
    first: Sequence[str],
    command: Sequence[str],
) -> str:
    """The HTML text; `titles` of the items in `results`, `command` is what made the page, and
    `first` are the places that it was asked for.
    """
    parts = []
    for place, own in _by_place(paper, rows, first).items():
        parts.append(f"<section><h2>{escape(place)}</h2>{_table(place, own)}</section>")

    return finished(f"""{page_head(TITLE)}{_banners(results, asked)}
<h1>{escape(TITLE)}</h1>
<p class="soft">{escape(_sources(paper))}</p>
{_counts(rows)}
{"".join(parts)}
{_drawn(results, titles)}
{_made(results, titles)}
<section><h2>Command</h2><p class="soft">A click marks all of it.</p>
<pre class="paste" tabindex="0">{escape(shlex.join(command))}</pre></section>
{page_end()}""")


def _sources(paper: Paper) -> str:
    return f"{'; '.join(paper.papers.values())}. Numbers are those of its text; MB are read as MiB."


def _banners(results: Mapping[str, dict], asked: Asked) -> str:
    said = []
    if asked.is_quick:
        said.append(BANNERS["quick"])
    made_up = [name for name, result in results.items() if result.get("synthetic")]
    if made_up:
        said.append(BANNERS["made up"].format(names=", ".join(made_up)))
    return "".join(f'<p class="banner" role="alert">{escape(one)}</p>' for one in said)


def _counts(rows: Sequence[Row]) -> str:
    """How many rows are in each state."""
    counts = Counter(row.state for row in rows)
    items = []
    for state, meaning in MEANING.items():
        if counts[state]:
            kind = {AGREES: "better", DIFFERS: "worse"}.get(state, "")
            items.append(
                f'<li class="{kind}"><b>{counts[state]}<small>{escape(state)}</small></b>'
                f"<span>{escape(meaning)}</span></li>"
            )
    return f'<ul class="top">{"".join(items)}</ul>'


def _by_place(paper: Paper, rows: Sequence[Row], first: Sequence[str]) -> dict[str, list[Row]]:
    """Each row once, by the title of one of its places: one that was asked for, else the first but
    the abstract, which repeats what stands elsewhere.
    """
    order = [*first, *paper.places]
    found: dict[str, list[Row]] = {paper.places[name]: [] for name in order}
    for row in rows:
        where = row.said.where
        place = next((name for name in where if name in first), where[0])
        if place == "abstract":
            place = where[-1]
        found[paper.places[place]].append(row)
    return {title: own for title, own in found.items() if own}


def _table(place: str, rows: Sequence[Row]) -> str:
    """Every row of a place; on a narrow screen the cells of a row stand below each other."""
    head = "".join(
        f'<th class="{"t" if i in (0, 3, 4, 5) else ""}">{name}</th>' for i, name in enumerate(HEAD)
    )
    lines = "".join(_line(row) for row in rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(place)}">'
        f'<table class="stack">'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _line(row: Row) -> str:
    said = row.said
    cells = [
        ("t w", f"{escape(said.says)}<br><small>{escape(said.setting)}</small>"),
        ("", escape(_printed(said))),
        ("t w" if isinstance(row.ours, str) else "", escape(_value(row.ours, said.unit))),
        ("t", escape(row.state)),
        ("t w", escape(row.why)),
        ("t w", _about(row.about)),
    ]
    made = "".join(
        f'<td class="{kind} none">{text}</td>'
        if name == HEAD[-1] and text == "-"
        else f'<td class="{kind}" data-name="{name}">{text}</td>'
        for name, (kind, text) in zip(HEAD, cells, strict=True)
    )
    return f'<tr id="{escape(said.id)}">{made}</tr>'


def _printed(said: Said) -> str:
    """ "over 84 %", with the digits that the paper has; a dash where it gives no number."""
    if said.value is None:
        return "-"
    return " ".join(part for part in (said.bound, f"{said.value:,.10g}", said.unit) if part)


def _value(value: float | str | None, unit: str) -> str:
    """ "84.12 %"; a dash where there is none."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{number_said(value)} {unit}".rstrip()


def number_said(value: float) -> str:
    """Two decimals, three below 1; tiny ones with two digits."""
    if value and abs(value) < 0.001:
        return f"{value:.2g}".replace("-", MINUS)
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.{2 if abs(value) >= 1 else 3}f}"


def _about(about: Mapping) -> str:
    """Data, base, seeds and command of ours."""
    if not about:
        return "-"
    seeds = ", ".join(map(str, about["seeds"]))
    told = [about["data"], f"base: {about['base']}", f"seeds {seeds}" if seeds else "no seed"]
    return f"{escape('; '.join(told))}<br><code>{escape(about['command'])}</code>"


def _drawn(results: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    """What an item draws: its own HTML, made by its module."""
    found = []
    for name, result in results.items():
        if result.get("html"):
            title = titles[name][:1].upper() + titles[name][1:]
            found.append(f"<section><h2>{escape(title)}</h2>{result['html']}</section>")
    return "".join(found)


def _made(results: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    """What was run, and how long it took."""
    lines = []
    for name, result in results.items():
        seconds = time_said(result.get("seconds", 0.0))
        lines.append(
            f'<tr><td class="t">{escape(name)}</td><td class="t w">{escape(titles[name])}</td>'
            f'<td>{escape(seconds)}</td><td class="t w"><code>{escape(result["command"])}</code>'
            "</td></tr>"
        )
    return (
        '<section><h2>What was run</h2><div class="wide" tabindex="0" role="region" '
        'aria-label="what was run"><table><thead><tr><th class="t">item</th><th class="t">what'
        '</th><th>time</th><th class="t">command</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{note(_TIMES)}</section>"
    )


_TIMES = (
    "Times are of this machine, whatever else it did meanwhile; an item that was done earlier has "
    "its own."
)
