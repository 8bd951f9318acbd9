"""Options that change a configuration, as rows of a table: what is typed, the field that it sets,
what the help says. `planning_options` and `recipe` hold the tables.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from edvit_tf.checked import Checked

Config = TypeVar("Config", bound=Checked)


@dataclass(frozen=True)
class Option:
    """One option of a command line, and what it does to a configuration."""

    name: str  # as it is typed: "--budget"
    help: str  # the default is put behind it
    field: str = ""  # that it sets; "pruning.heads" is a field of a field
    type: Callable[[str], Any] = str  # as argparse's: a word -> a value
    choices: Sequence[str] | None = None
    metavar: str | None = None
    is_switch: bool = False  # no value follows: it is there or not
    if_none: str = ""  # what the help says where the configuration has None
    change: Callable[[Any, Any], Any] | None = None  # (config, value) -> config; None: set `field`
    former_name: str = ""  # still read, with a note

    @property
    def attribute(self) -> str:
        """Its name in the namespace that argparse returns."""
        return self.name.removeprefix("--").replace("-", "_")


def add_options(parser, options: Sequence[Option], config: Checked) -> None:
    """Adds each option to a parser (or a group of one); the help names the defaults of `config`.

    An option that is not given is None in the namespace.
    """
    for option in options:
        # None where it is not given, so that "off" and "not given" do not mix.
        if option.is_switch:
            parser.add_argument(option.name, action="store_true", default=None, help=option.help)
            continue

        # A former name takes what the new one takes, and is not in the help.
        form = {"type": option.type, "choices": option.choices, "metavar": option.metavar}
        parser.add_argument(option.name, help=_help(option, config), **form)
        if option.former_name:
            parser.add_argument(
                option.former_name,
                dest=option.attribute,
                action=_FormerName,
                new_name=option.name,
                help=argparse.SUPPRESS,
                **form,
            )


def changed(config: Config, options: Sequence[Option], args: argparse.Namespace) -> Config:
    """`config` with the changes of the options that were given, one after the other.

    Raises ConfigError for a value that the configuration refuses.
    """
    for option in options:
        # None: not given, whatever the type of the option.
        value = getattr(args, option.attribute)
        if value is None:
            continue
        if option.change is not None:
            config = option.change(config, value)
        else:
            config = _with_field(config, option.field, value)
    return config


class _FormerName(argparse.Action):
    """Stores the value under the new name, and says so on standard error."""

    def __init__(self, *args, new_name: str, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.new_name = new_name

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        print(
            f"note: {option_string} is called {self.new_name} now; the old name still works here.",
            file=sys.stderr,
        )
        setattr(namespace, self.dest, values)


def _help(option: Option, config: Checked) -> str:
    if not option.field:
        return option.help

    value = _field(config, option.field)
    if value is None:
        shown = option.if_none
    elif isinstance(value, tuple):
        shown = ",".join(value)
    else:
        shown = str(value)

    return f"{option.help} (default {shown})" if shown else option.help


def _field(config: Any, path: str) -> Any:
    """The value at "a.b"."""
    for name in path.split("."):
        config = getattr(config, name)
    return config


def _with_field(config: Any, path: str, value: Any) -> Any:
    """A copy with another value at "a.b"."""
    name, _, rest = path.partition(".")
    if rest:
        value = _with_field(getattr(config, name), rest, value)
    return config.replace(**{name: value})
