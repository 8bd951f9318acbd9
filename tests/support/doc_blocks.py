"""The fenced blocks of the documentation, and what stands in them.

A block of `sh` or `python` is run, in the order of its page, in a folder of that page. Where it is
not, an HTML comment before it says so:

    <!-- not run: why -->          its commands are parsed alone
    <!-- checked: parses -->       the same: the paths are the reader's
    <!-- slow -->                  run by `pytest -m slow_docs`, as `.ci/run` does
    <!-- background: words -->     started, and left running once it has printed these words
    <!-- stops -->                 it ends what runs in the background, as Ctrl-C does

Whatever the mark, each line of a shell block that calls a program of ours is read by its parser.
"""

import argparse
import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tests.support.commands import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
MARKS = ("not run: ", "checked: parses", "slow", "background: ", "stops")
LANGUAGES = ("sh", "python", "text", "toml", "json", "yaml")
SEPARATORS = ("|", "||", "&&", "&", ";", "(", ")")


@dataclass(frozen=True)
class Block:
    """A block, where it stands, and what is to be done with it."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is a program that somebody runs here, at once or by `-m slow_docs`."""
        told = self.mark.startswith(("not run: ", "checked: "))
        return self.language in ("sh", "python") and not told

    @property
    def is_slow(self) -> bool:
        return self.mark == "slow"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    text = page.read_text("utf-8")
    found = []
    for one in FENCED.finditer(text):
        line = text.count("\n", 0, one.start("language")) + 1
        found.append(Block(page, line, one["language"], one["mark"] or "", one["text"]))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, as lists of words: without comments, redirections, sudo."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(word)
                continue
            if words:
                yield words
            words = []


def ours(words: list[str]) -> list[str] | None:
    """What a command gives to a program of ours: its name, then its arguments. None: of others."""
    words = list(words)
    while words and (words[0] == "sudo" or re.match(r"\w+=", words[0])):
        del words[0]
    if words[:1] == ["ssh"]:
        return ours(words[2:])

    for place, word in enumerate(words):
        if word in (">", ">>", "<"):
            words = words[:place]
            break
    program = Path(words[0]).name if words else ""
    if program == "edvit":
        return ["edvit", *words[1:]]
    if not re.fullmatch(r"python[\d.]*", program):
        return None
    if words[1:2] == ["-m"] and re.match(r"(edvit_tf|tests)\b", words[2]):
        return words[2:]
    return words[1:] if words[1:] and words[1].startswith("recipes/") else None


class Parsed(Exception):
    """A parser has taken all that was given."""


def parse(words: list[str]) -> str:
    """Gives `words` of `ours` to the program's own parser, and runs nothing.

    Returns "" where it takes them, else what it says.
    """
    real = argparse.ArgumentParser.parse_args

    def parse_and_end(self, args=None, namespace=None):
        real(self, args, namespace)
        raise Parsed

    said = io.StringIO()
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_end),
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
        contextlib.chdir(ROOT),
    ):
        try:
            _main(words[0])(words[1:])
        except Parsed:
            return ""
        except SystemExit as end:
            return f"{' '.join(words)}: ends with {end.code}\n{said.getvalue()}"
    return f"{' '.join(words)}: no parser was asked"


def _main(program: str) -> Callable[[list[str]], object]:
    if program.startswith("recipes/"):
        return lambda _: runpy.run_path(str(ROOT / program), run_name="__main__")
    if program == "edvit":
        program = "edvit_tf.cli.main"
    elif program in ("edvit_tf.device", "edvit_tf.device.update", "edvit_tf.study.fleet"):
        program += ".__main__"
    return importlib.import_module(program).main
