"""Types of command-line values: whole numbers and lists, each with its own message."""

import argparse
from pathlib import Path


def counts(text: str) -> tuple[int, ...]:
    """ "3,2" -> (3, 2), each 1 or more."""
    found = naturals(text)
    if 0 in found:
        raise argparse.ArgumentTypeError(
            f"{text!r} holds 0; each number must be 1 or more, e.g. 3,2"
        )
    return found


def naturals(text: str) -> tuple[int, ...]:
    """ "0,1" -> (0, 1), each 0 or more, and once: two runs of one seed are one trial."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers; write e.g. 3,2")

    return tuple(dict.fromkeys(int(part) for part in parts))


def user_path(text: str) -> Path:
    """A path, with the home folder in the place of a "~" at its start: the shell leaves it as it is
    in `--out=~/x`. An empty one, which would be the folder one is in, is refused: it is mostly a
    variable that is not set.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no path; write . for the folder that you are in"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} begins with the home folder of a user that is not known here; write the "
            "path out"
        ) from None


def base_source(text: str) -> str:
    """What a base is read from: a path, as `user_path`, or a name on the hub."""
    return str(user_path(text)) if text.startswith("~") or not text.strip() else text


def positive(text: str) -> int:
    """An integer, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def minutes(text: str) -> float:
    """A number of minutes, more than 0."""
    try:
        value = float(text.removesuffix("m"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0, e.g. 30")
    return value


def natural(text: str) -> int:
    """An integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def share(text: str) -> float:
    """A number from 0 up to, and without, 1."""
    # -1: refused below, with the same words as a number out of range.
    try:
        value = float(text)
    except ValueError:
        value = -1.0

    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of at least 0 and below 1, e.g. 0.5"
        )

    return value


def names(text: str) -> tuple[str, ...]:
    """ "random,similar" -> ("random", "similar")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def indices(text: str) -> tuple[int, ...]:
    """ "0,3" -> (0, 3); sub-models are counted from 0."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of sub-models; write numbers, e.g. 0,3"
        ) from None


def number_from_0(text: str) -> float:
    """A number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more, e.g. 2.5")
    return value
