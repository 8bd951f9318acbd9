"""The files that a command line names: each as it is given, and in the place of a folder all files
in it, with names that tell them apart. Where texts are asked for, what names no file is a text.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.cli.values import user_path
from edvit_tf.data.names import names_a_file
from edvit_tf.device.errors import InputTooLarge
from edvit_tf.device.model.input_spec import read_at_most
from edvit_tf.errors import ConfigError, EdvitError, OutputError


@dataclass(frozen=True)
class GivenFile:
    """A file, and what it is called in the output; or why there is none to read."""

    name: str
    path: Path
    trouble: EdvitError | None = None
    text: str | None = None  # what was given itself, in the place of a file


_SHOWN_CHARACTERS = 40  # of a text that was given, as its name


def given_texts(arguments: Sequence[str]) -> list[GivenFile]:
    """Texts as they are given, behind the files that arguments name: what is there, or has the form
    of a path (no spaces, and a slash or a suffix of texts).
    """
    found = given_files([user_path(one) for one in arguments if names_a_file(one)])
    for argument in arguments:
        if names_a_file(argument):
            continue
        short = argument
        if len(argument) > _SHOWN_CHARACTERS:
            short = f"{argument[: _SHOWN_CHARACTERS - 3]}..."
        found.append(GivenFile(short, Path(), text=argument))
    return found


def given_files(paths: Sequence[Path]) -> list[GivenFile]:
    """The files of `paths` in their order, those of a folder sorted.

    They are named by their way from what all the paths have in common: a file alone by its name,
    those of one folder by their path in it. Hidden files (.DS_Store) in folders are left out, and
    links are followed. A folder that is empty or cannot be read stands for itself, with its
    trouble.
    """
    common = _common(paths)
    files = []
    for path in paths:
        found = list(_found(path))
        if not found:
            found = [(path, ConfigError("the folder holds no files. Name others."))]
        for file, trouble in found:
            files.append(GivenFile(_name(file, common), file, trouble))

    return files


def _common(paths: Sequence[Path]) -> str:
    """The folder from which the names count; "" where there is none (two drives of Windows)."""
    folders = []
    for path in paths:
        absolute = os.path.abspath(path)
        folders.append(absolute if os.path.isdir(absolute) else os.path.dirname(absolute))

    try:
        return os.path.commonpath(folders)
    except ValueError:
        return ""


def _name(file: Path, common: str) -> str:
    absolute = os.path.abspath(file)
    # "." is the folder that all were to be in
    name = os.path.relpath(absolute, common) if common else absolute
    return str(file) if name == "." else name


def _found(path: Path) -> Iterator[tuple[Path, EdvitError | None]]:
    """The files that one path stands for."""
    try:
        is_folder = path.is_dir()
    except OSError as error:  # in a folder that may not be entered; too long a name
        yield path, _unreadable("file", error)
        return

    if is_folder:
        yield from _inside(path, set())
    else:
        yield path, None


def _inside(folder: Path, above: set[tuple[int, int]]) -> Iterator[tuple[Path, EdvitError | None]]:
    """The files below a folder; `above` are the folders on the way, to which a link may lead
    back.
    """
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, _unreadable("folder", error)
        return

    way = above | {(status.st_dev, status.st_ino)}
    for entry in entries:
        if entry.name.startswith("."):
            continue

        try:
            is_folder, inner = entry.is_dir(), entry.lstat()
            if is_folder:
                inner = entry.stat()
        except OSError as error:
            yield entry, _unreadable("file", error)
            continue

        if not is_folder:
            yield entry, _special(entry)
        elif (inner.st_dev, inner.st_ino) not in way:
            yield from _inside(entry, way)


def _special(file: Path) -> EdvitError | None:
    """Trouble with what nobody may open without waiting for ever, such as a pipe."""
    if file.is_file() or not file.exists():
        return None  # one that is not there says so when it is read
    return ConfigError("it is neither a file nor a folder. Leave it out.")


def _unreadable(what: str, error: OSError) -> EdvitError:
    words = error.strerror or type(error).__name__
    return OutputError(f"the {what} cannot be read ({words}). Mend the path or its permissions.")


def read(file: GivenFile, most_bytes: int) -> bytes:
    """What a file holds. Raises OutputError where it cannot be read, ConfigError for more than
    `most_bytes`.
    """
    try:
        return read_at_most(file.path, most_bytes)
    except InputTooLarge as error:
        raise ConfigError(
            f"it has {error.found}; what is sent as it is has {most_bytes >> 20} MiB at most. Send "
            "a smaller one, or, of sound, cut it with --bundle."
        ) from error
    except OSError as error:
        raise _unreadable("file", error) from error
