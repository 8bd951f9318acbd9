"""Lists of recordings, one path a line, as people and their editors write them.

A line is matched with the files on the disk by its last folder and its name. What a list says of a
recording must not get lost by how it is written: a recording that was listed for the test and is
trained on spoils the figures without a word.
"""

import codecs
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.errors import DataError

from .names import one_form, printable

# Signatures of encodings, the longer ones first: UTF-32's begins as UTF-16's does.
ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Around a line: spaces, quotes of a table, a byte-order mark (also of a second file behind the
# first), a space of no width.
AROUND = " \t\"'\ufeff\u200b\u00a0\f\v"
# Share of a list's lines that may name no recording, of those whose class folder is there.
UNMATCHED_LIMIT = 0.5
# Of a list: 100,000 lines of 160 bytes, as Speech Commands has recordings; its longer list has
# 0.3 MB.
MAX_LIST_BYTES = 16 << 20


def recording_key(path: str, suffixes: Sequence[str]) -> str:
    """What a line of a list and a file are matched by: class folder and name, without the suffix if
    it is one of `suffixes`.

    The same for "./yes/a.wav", "yes\\\\a.WAV", "/data/yes/a.flac"; and for both forms of an accent.
    Letters of another size make no difference: a list from Windows may have them.
    """
    parts = [part for part in re.split(r"[/\\]+", path.strip(AROUND)) if part not in ("", ".")]
    key = one_form("/".join(parts[-2:])).casefold()
    for suffix in suffixes:
        if key.endswith(suffix):
            return key.removesuffix(suffix)
    return key


def read_list(path: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """Key -> line of a list, in its order; empty lines are left out. DataError if it cannot be
    read, is no text, or has more than MAX_LIST_BYTES.
    """
    data = _content(path)
    lines = {}
    for line in re.split(r"\r\n|\r|\n", decoded(data, path)):
        line = line.strip(AROUND)
        if line:
            lines[recording_key(line, suffixes)] = line
    return lines


def _content(path: Path) -> bytes:
    try:
        # a pipe would be waited for
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(0, "it is no file")
        with open(path, "rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{printable(str(path))} cannot be read ({error.strerror}). Make it readable, or "
            "remove it to have the split drawn."
        ) from error

    if len(data) > MAX_LIST_BYTES:
        raise DataError(
            f"{printable(str(path))} has more than {MAX_LIST_BYTES >> 20} MiB; a list has less. "
            "Correct it, or remove it to have the split drawn."
        )
    return data


def decoded(data: bytes, path: Path) -> str:
    """The text of a list, in the encoding that its signature names, else UTF-8."""
    encoding = "utf-8"
    for signature, name in ENCODINGS:
        if data.startswith(signature):
            encoding = name
            break

    try:
        # Bytes that are no UTF-8 are kept as Python keeps those of file names, so that they match.
        text = data.decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{printable(str(path))} is no {encoding.upper()} text ({error.reason} at byte "
            f"{error.start}), which its first bytes promise. Save it as UTF-8."
        ) from error

    if "\0" in text:
        raise DataError(
            f"{printable(str(path))} holds zero bytes, so it is no UTF-8 text. Save it as UTF-8."
        )
    return text


@dataclass(frozen=True)
class Matched:
    """What the lines of a list name, counted or to show."""

    named: int  # lines that name a recording
    unmatched: list[str]  # those that name none, though their class folder is there
    elsewhere: list[str]  # those of a class folder that is not: whoever keeps some words has these

    @property
    def is_list(self) -> bool:
        """Whether it is a list of these recordings, as far as their class folders are there."""
        present = self.named + len(self.unmatched)
        return self.named > 0 and len(self.unmatched) <= UNMATCHED_LIMIT * present


def match(lines: dict[str, str], known: Collection[str]) -> Matched:
    """The lines (key -> line) by whether they name one of the `known` keys."""
    folders = {key.rpartition("/")[0] for key in known}
    named = 0
    unmatched = []
    elsewhere = []
    for key, line in lines.items():
        if key in known:
            named += 1
            continue

        # Without the folders above: a note goes into manifests.
        shown = printable("/".join(re.split(r"[/\\]+", line)[-2:]))
        folder, slash, _ = key.rpartition("/")
        # a line without a folder is of none that was left out: it is no line of a list
        is_elsewhere = slash and folder not in folders
        (elsewhere if is_elsewhere else unmatched).append(shown)
    return Matched(named, unmatched, elsewhere)


def check_matched(path: Path, lines: dict[str, str], known: Collection[str]) -> list[str]:
    """Notes on lines that name none of the `known` keys; DataError if most do not of those whose
    class folder is there, or if none does.
    """
    found = match(lines, known)
    if lines and not found.is_list:
        astray = [*found.unmatched, *found.elsewhere]
        raise DataError(
            f"{len(astray)} of {len(lines)} lines of {printable(str(path))} name no recording "
            f"there: {', '.join(astray[:3])}. A line is a class folder and a file name, such as "
            "yes/0a7c2a8d_nohash_0.wav. Correct the list, or remove it to have the split drawn."
        )

    notes = []
    for what, shown in (
        ("name no recording", found.unmatched),
        ("are of class folders that are not there", found.elsewhere),
    ):
        if shown:
            notes.append(
                f"{len(shown)} of {len(lines)} lines of {printable(path.name)} {what}, "
                f"e.g. {', '.join(shown[:3])}"
            )
    return notes
