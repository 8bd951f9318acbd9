"""One table of exit codes: what a command ends with, what its help says, and what the docs say."""

import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import edvit_tf
from edvit_tf.cli.main import _parser as edvit_parser
from edvit_tf.cli.recipe import _parser as recipe_parser
from edvit_tf.device.__main__ import _parser as device_parser
from edvit_tf.device.errors import DeviceError, DeviceExit, exit_codes_text, permanent
from edvit_tf.device.update.commands import _parser as update_parser
from edvit_tf.errors import EXIT_CODES, EdvitError, HostExit

ROOT = Path(__file__).parents[1]
WITHOUT_AN_ERROR = {
    DeviceExit.DONE,
    DeviceExit.FAILED,
    DeviceExit.USAGE,
    DeviceExit.STUCK,  # os._exit, when nothing can be raised any more
    DeviceExit.INTERRUPTED,  # KeyboardInterrupt
}
OF_ONE_REQUEST = {"WireError", "AuthFailed"}  # answered to a peer; no command ends with them


def errors_below(base: type) -> set[type]:
    found = set(base.__subclasses__())
    for error in base.__subclasses__():
        found |= errors_below(error)
    return {error for error in found if error.__module__.startswith("edvit_tf.")}


@pytest.fixture(scope="module")
def all_errors() -> set[type]:
    """Every error of ours, after all modules without TensorFlow were imported."""
    for room in ("device", "aggregate", "data", "operate", "planning"):
        folder = ROOT / "edvit_tf" / room
        for module in pkgutil.walk_packages([str(folder)], f"edvit_tf.{room}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return errors_below(DeviceError) | errors_below(EdvitError)


def test_no_code_is_taken_twice():
    assert len({int(code) for code in EXIT_CODES}) == len(EXIT_CODES)
    assert set(EXIT_CODES) == set(DeviceExit) | set(HostExit)
    assert len({code.meaning for code in EXIT_CODES}) == len(EXIT_CODES)


def test_every_error_has_a_code_of_the_table_and_every_code_an_error(all_errors):
    ending = {error for error in all_errors if error.__name__ not in OF_ONE_REQUEST}
    assert all(error.exit_code in EXIT_CODES for error in ending)
    assert {error.exit_code for error in ending} - WITHOUT_AN_ERROR == (
        set(EXIT_CODES) - WITHOUT_AN_ERROR
    )


def test_the_package_has_no_other_exceptions():
    """`class X(Exception)` stands in the two modules of errors alone."""
    found = set()
    for file in (ROOT / "edvit_tf").rglob("*.py"):
        for name in re.findall(r"^class (\w+)\(Exception\)", file.read_text("utf-8"), re.M):
            found.add(name)
    assert found == {"DeviceError", "EdvitError"}


@pytest.mark.parametrize("parser", [device_parser, update_parser], ids=["device", "update"])
def test_the_device_s_help_lists_every_code(parser):
    shown = parser().format_help()
    assert exit_codes_text(DeviceExit) in shown
    assert all(f"{code:>3}  {code.meaning}" in shown for code in DeviceExit)


def test_the_help_of_edvit_and_of_recipes_lists_every_code():
    """Fault (e): they listed fewer codes than they returned."""
    config = runpy.run_path(str(ROOT / "recipes" / "mnist.py"))["CONFIG"]
    for parser in (edvit_parser(), recipe_parser("A card.", config)):
        shown = parser.format_help()
        for code in EXIT_CODES:
            assert f"{code:>3}  {code.meaning}" in shown, code


def test_the_docs_list_every_code():
    lines = (ROOT / "docs" / "reference" / "exit_codes.md").read_text("utf-8").splitlines()
    shown = [line for line in lines if re.match(r"[ \d]{3}  [a-z]", line)]
    assert shown == [f"{code:>3}  {code.meaning}" for code in EXIT_CODES]


def test_the_guide_says_which_restart_helps():
    guide = (ROOT / "docs" / "reference" / "exit_codes.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| .* \|(.*)\|$", guide, re.M)
    said = {int(code): restart.partition(",")[0].strip() for code, restart in rows}
    of_the_table = {int(code): code.restart for code in DeviceExit}
    without_a_row = {DeviceExit.INPUT, DeviceExit.TUNING}  # no server and no update ends so
    assert said == {n: r for n, r in of_the_table.items() if n not in without_a_row}


def test_a_restart_does_not_help_after_these():
    """Usage, bundle, runtime, identity, wrong answers, descriptors: a server meets them again."""
    assert permanent() == [2, 7, 9, 15, 16, 22]


def test_each_public_name_is_the_same_object_twice():
    """Fault (f): `edvit_tf.evaluate` was a function at first, and a module after its import."""
    first = {name: getattr(edvit_tf, name) for name in edvit_tf.__all__}
    submodules = {module.name for module in pkgutil.iter_modules(edvit_tf.__path__)}
    assert not submodules & set(edvit_tf.__all__)
    for name in submodules:
        importlib.import_module(f"edvit_tf.{name}")
    for name, value in first.items():
        assert getattr(edvit_tf, name) is value, name
        assert type(value).__name__ != "module", name
