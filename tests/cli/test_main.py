"""The command `edvit` itself: every command has a help, and a help loads nothing heavy."""

import argparse
import dataclasses
import re
import subprocess
import sys

import pytest

from edvit_tf.cli import main as edvit
from edvit_tf.cli.planning_options import PLANNING
from edvit_tf.config import PlanConfig
from tests.support.commands import ROOT, run_command, run_host

HEAVY = ("tensorflow", "keras", "tf_keras", "keras_cv", "librosa", "matplotlib", "scipy")


def commands(parser: argparse.ArgumentParser) -> list[tuple[str, ...]]:
    """Every path of words that ends in a command: ("plan",), ("bench", "latency") ..."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                paths = commands(inner) or [()]
                found += [(name, *path) for path in paths]
    return found


COMMANDS = commands(edvit._parser())


def test_there_are_as_many_commands_as_the_docs_tell_of():
    page = (ROOT / "docs" / "reference" / "at_a_glance.md").read_text("utf-8")
    assert len(COMMANDS) == 52
    for words in COMMANDS:
        assert re.search(rf"^edvit {' '.join(words)}( |$)", page, re.M), words


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_help(words):
    code, out, err = run_command([*words, "--help"])
    assert code == 0 and err == ""
    assert f"usage: edvit {' '.join(words)}" in out


def test_no_help_loads_anything_heavy():
    """In one process of its own: this one has loaded TensorFlow for other tests."""
    code = f"""
import sys
from edvit_tf.cli.main import main
for words in {COMMANDS!r}:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
    print([words, *[name for name in {HEAVY} if name in sys.modules]], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [str([words]) for words in COMMANDS]


def test_the_module_is_the_command():
    done = run_host("-m", "edvit_tf.cli", "plan", "--devices", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == run_command(["plan", "--devices", "3"])[1]
    assert run_host("-m", "edvit_tf.cli").returncode == 2


@pytest.mark.parametrize("option", PLANNING, ids=lambda option: option.name)
def test_a_planning_option_is_one_and_the_same_in_recipes_and_in_edvit_plan(option):
    for words in (["plan"], ["recipes/mnist.py"]):
        text = " ".join(run_command([*words, "--help"])[1].split())
        told = option.help if option.is_switch else f"{option.help} (default "
        assert told in text, words


def test_a_mode_and_a_number_never_share_a_name():
    kinds: dict[str, set] = {}
    for words in COMMANDS:
        parser = edvit._parser()
        for word in words:
            choices = next(
                a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)
            )
            parser = choices[word]
        for action in parser._actions:
            if action.help is argparse.SUPPRESS:
                continue
            for name in action.option_strings:
                kinds.setdefault(name, set()).add("mode" if action.choices else "other")
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_every_field_that_planning_reads_has_an_option():
    fields = {field.name for field in dataclasses.fields(PlanConfig)}
    # one without a field says in one word what another option says in two
    set_by_options = {option.field.partition(".")[0] for option in PLANNING if option.field}
    # --devices FILE gives the one, --fleet of METHOD and of `edvit plan` the other
    assert set_by_options == fields - {"devices", "fleet"}
