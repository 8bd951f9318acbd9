"""Writes the parts of the reference that the code knows: `python docs/generate.py`.

A page has such a part between `<!-- generated: NAME -->` and `<!-- end -->`. What stands there is
replaced; the rest is written by hand. A test says when a page is behind the code.
"""

import argparse
import ast
import dataclasses
import inspect
import io
import re
import runpy
import tokenize
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

from edvit_tf.cli.main import _parser as edvit_parser
from edvit_tf.cli.recipe import _parser as recipe_parser
from edvit_tf.device.__main__ import _parser as device_parser
from edvit_tf.device.model import manifest
from edvit_tf.device.rpc.metrics import PHASES
from edvit_tf.device.update.commands import _parser as update_parser
from edvit_tf.errors import EXIT_CODES
from edvit_tf.report import entries, fleet_entries, results

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    typing.Any: "anything",
    object: "anything",
}
PART = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.S)


def pages() -> dict[Path, str]:
    """Each page of the reference that has such parts, as it is to be."""
    found = {}
    for path in sorted(REFERENCE.glob("*.md")):
        text = path.read_text("utf-8")
        if PART.search(text):
            found[path] = PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", text)

    return found


# ---- commands, from their parsers


def host_commands() -> str:
    """Every command of `edvit`, with its options."""
    lines = []
    for words, parser in commands(edvit_parser(), ("edvit",)):
        lines += [f"### {' '.join(words)}", "", *command(parser, words)]
    return "\n".join(lines)


def device_commands() -> str:
    """What a device runs: the worker and the updates."""
    words = ("python -m edvit_tf.device",)
    lines = [f"### {words[0]}", "", *command(device_parser(), words)]
    for words, parser in commands(update_parser(), ("python -m edvit_tf.device.update STORE",)):
        lines += [f"### {' '.join(words)}", "", *command(parser, words)]
    return "\n".join(lines)


def recipe_options() -> str:
    """What every recipe takes; the defaults are those of one of them."""
    config = runpy.run_path(str(ROOT / "recipes" / "mnist.py"))["CONFIG"]
    return "\n".join(command(recipe_parser("", config), ("python recipes/mnist.py",)))


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """The commands below a parser that have no further ones, each with the words that call it."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield words, parser
    for action in inner:
        for name, below in action.choices.items():
            yield from commands(below, (*words, name))


def command(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> list[str]:
    """A command as Markdown: how it is called, what it does, a table of its options."""
    positional = [plain(a) for a in parser._get_positional_actions()]
    lines = ["```text", " ".join([*words, *positional, "[OPTIONS]"]), "```", ""]
    said = (parser.description or "").strip()
    if said and not said.startswith("`python"):
        lines += [linked(said.partition("\n\n")[0].replace("\n", " ")), ""]

    rows = [row(parser, action) for action in parser._actions if shown(action)]
    return [*lines, "| option | what it does |", "|---|---|", *rows, ""] if rows else lines


def shown(action: argparse.Action) -> bool:
    hidden = isinstance(action, argparse._HelpAction) or "--print-completion" in (
        action.option_strings
    )
    return action.help != argparse.SUPPRESS and not hidden


def row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """A line of the table: the option as it is typed, and what it does."""
    value = "" if action.nargs == 0 else plain(action)
    names = list(action.option_strings) or [value]
    if action.option_strings and value:
        names[-1] += f" {value}"
    typed = ", ".join(f"`{name}`" for name in names)
    return f"| {cell(typed)} | {cell(help_of(parser, action))} |"


def plain(action: argparse.Action) -> str:
    """What stands for the value of an option, or for an argument: FILE, {one,two}."""
    if action.metavar:
        name = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    elif action.choices:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = action.dest.upper().replace("-", "_")

    return f"{name} ..." if action.nargs in ("+", "*") else name


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help of an option, with its default put in."""
    return " ".join(parser._get_formatter()._expand_help(action).split()) if action.help else ""


def cell(text: str) -> str:
    """Text in a table: a line, whose bars are no borders; pages that it names are links."""
    return linked(" ".join(text.split()).replace("|", "\\|"))


def linked(text: str) -> str:
    return re.sub(r"\bdocs/([\w/]+\.md)", r"[\1](../\1)", text)


# ---- the files of a bundle, from the dataclasses that read them


def manifest_fields() -> str:
    """The entries of manifest.json."""
    return described(manifest, manifest.Manifest)


def results_fields() -> str:
    """The entries of results.json."""
    return "\n".join(
        [described(results, results.Results), described(entries), described(fleet_entries)]
    )


def described(module, first: type | None = None) -> str:
    """The dataclasses of a module as tables: the key, what it holds, what is said of it."""
    kinds = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and dataclasses.is_dataclass(kind)
        and kind.__module__ == module.__name__
    ]
    kinds.sort(key=lambda kind: kind is not first)
    lines = []
    for kind in kinds:
        said, held = comments(kind), typing.get_type_hints(kind)
        lines += [f"### {kind.__name__}", "", (inspect.getdoc(kind) or "").replace("\n", " "), ""]
        lines += ["| key | holds | what it is |", "|---|---|---|"]
        for each in dataclasses.fields(kind):
            holds = type_name(held[each.name])
            lines.append(f"| `{each.name}` | {holds} | {cell(said.get(each.name, ''))} |")
        lines.append("")

    return "\n".join(lines)


def type_name(kind) -> str:
    """A type in the words of JSON: text, number, list of ..., and a link to another table."""
    if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"

    inner = [one for one in typing.get_args(kind) if one not in (Ellipsis, types.NoneType)]
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return f"{type_name(inner[0])}, or null"
    if origin is tuple:
        return f"list of {type_name(inner[0])}"
    if origin is dict:
        return f"object of {type_name(inner[1])}"
    return WORDS[kind]


def comments(kind: type) -> dict[str, str]:
    """The comment behind each field in the source of a dataclass."""
    found = {}
    source = inspect.getsource(kind)
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            name = re.match(r"\s+(\w+):", lines[token.start[0] - 1])
            if name:
                found[name[1]] = token.string.lstrip("# ")

    return found


# ---- exit codes, metrics


def exit_codes() -> str:
    """The table of exit codes, as help texts have it."""
    rows = [f"{code:>3}  {code.meaning}" for code in EXIT_CODES]
    return "\n".join(["```text", *rows, "```", ""])


def metrics() -> str:
    """The metrics of workers and aggregators, each with its help."""
    places = {
        "both": ("device/rpc/base_service.py", "device/rpc/metrics.py"),
        "worker": ("device/worker/service.py", "device/worker/power_watch.py"),
        "aggregator": ("aggregate/told.py", "aggregate/conditions.py", "aggregate/traces.py"),
        "relay": ("aggregate/relay_service.py",),
    }
    lines = ["| metric | of | what it says |", "|---|---|---|"]
    for owner, files in places.items():
        for file in files:
            for name, said in gauges((ROOT / "edvit_tf" / file).read_text("utf-8")):
                lines.append(f"| `{name}` | {owner} | {cell(said)} |")

    for phase in PHASES:
        said = f"Seconds of inferences, {phase}: a histogram."
        lines.append(f"| `edvit_{phase}_seconds` | both | {said} |")

    return "\n".join([*lines, ""])


def gauges(source: str) -> Iterator[tuple[str, str]]:
    """Name and help of each `Gauge("name", "help", ...)` in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Gauge":
            name, said = node.args[:2]
            assert isinstance(name, ast.Constant) and isinstance(said, ast.Constant)
            yield str(name.value), str(said.value)


PARTS: dict[str, Callable[[], str]] = {
    "commands of the host": host_commands,
    "commands of a device": device_commands,
    "options of recipes": recipe_options,
    "manifest": manifest_fields,
    "results": results_fields,
    "exit codes": exit_codes,
    "metrics": metrics,
}

if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
