"""Printing on a terminal that cannot show every letter, and obeys some; what `--version` prints."""

import argparse
import contextlib
import io
import os
import platform
import sys

# What a stream does with a letter that it has not: these raise.
ENDING = ("strict", "surrogateescape")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Adds `--version`: ours, and Python's."""
    ours = sys.modules[__name__.partition(".")[0]].__version__
    said = f"edvit_tf {ours}, Python {platform.python_version()}"
    parser.add_argument("--version", action="version", version=said)


def print_anything() -> None:
    """Lets this process, and those that it starts, print what the terminal's encoding has not: as
    \\\\xe9 or \\\\u732b, in the place of a UnicodeEncodeError that ends hours of work.

    A name of a file or a class may hold any letter, or bytes that are none; a terminal may be ASCII
    or Latin-1, and so may a log that standard output goes to.
    """
    for stream in (sys.stdout, sys.stderr):
        # A stream may be none (a service without one), a buffer of a test, or have what its user
        # chose.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ENDING:
            stream.reconfigure(errors="backslashreplace")

    given = os.environ.get("PYTHONIOENCODING", "")
    if ":" not in given:
        os.environ["PYTHONIOENCODING"] = f"{given}:backslashreplace"


def printable(text: str, most: int | None = None) -> str:
    """A text for one line of a terminal: what would move its cursor, change its colours or pretend
    to be another line is escaped, and so are bytes that are no text. Of a text that another machine
    sent, `most` characters.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    characters = []
    for character in text:
        escaped = character.encode("unicode_escape", "surrogatepass").decode("ascii")
        characters.append(character if character.isprintable() else escaped)

    return "".join(characters)


def printable_lines(text: str) -> str:
    """As `printable`, of a text whose lines stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def counted(count: int, thing: str, things: str | None = None) -> str:
    """ "1 device", "5 devices"; `things` where that takes more than an s."""
    return f"{count} {thing if count == 1 else things or f'{thing}s'}"


def are(count: int) -> str:
    """The verb behind so many."""
    return "is" if count == 1 else "are"


def say_error(error: BaseException | str) -> None:
    """What every command ends with that cannot do what it was asked. It may have another machine's
    words in it, or a file's name. Where nobody reads it (`2>&1 | head`), the exit code says it.
    """
    with contextlib.suppress(OSError):
        print(f"error: {printable_lines(str(error))}", file=sys.stderr, flush=True)


def flushed(code: int) -> int:
    """`code`, once standard output is written: a reader that has left (`| head`) is found out here,
    by a BrokenPipeError, and not when the interpreter ends.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def reader_left() -> int:
    """After such a BrokenPipeError: what is still buffered goes nowhere, and the exit code is a
    shell's for a program that was ended by it (128 + SIGPIPE).
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
