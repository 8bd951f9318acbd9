"""What studies show: a table for a terminal, and a page of its own in the reports' style."""

import os
import shlex
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path

from edvit_tf.errors import OutputError
from edvit_tf.report.style import finished, page_end, page_head

# Colours of the style sheet, one a line of a chart; a further line begins again.
COLOURS = ("single", "fused", "average", "plain", "copies", "equal")


def text_table(grid: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Titles, which may have two lines, and rows, in columns as wide as their longest text; those
    of `left` are set left.
    """
    titles = [str(title).split("\n") for title in grid[0]]
    rows = [[str(cell) for cell in row] for row in grid[1:]]
    lines = [*zip_longest(*titles, fillvalue=""), *rows]
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for line in lines:
        cells = []
        for i, (text, size) in enumerate(zip(line, sizes, strict=True)):
            cells.append(text.ljust(size) if i in left else text.rjust(size))
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def page(title: str, sections: Sequence[tuple[str, str]], command: Sequence[str] = ()) -> str:
    """The HTML text: (heading, HTML) after each other, then the command that makes it."""
    body = "".join(
        f"<section><h2>{escape(head)}</h2>\n{html}</section>\n" for head, html in sections
    )
    if command:
        body += (
            '<section><h2>Command</h2><p class="soft">A click marks all of it.</p>\n'
            f'<pre class="paste" tabindex="0">{escape(shlex.join(command))}</pre></section>\n'
        )
    return finished(f"{page_head(title)}\n<h1>{escape(title)}</h1>\n{body}{page_end()}")


def check_new(path: Path, overwrite: bool) -> None:
    """OutputError if something is there that may not be replaced, or no file can be: before the
    work, not after it.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Pass --overwrite to replace it, or another name.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OutputError(f"{path}: {above} is no folder that can be written to. Name another.")


def write(path: Path, text: str) -> None:
    """Writes a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
