"""A table of somebody's own files: CSV with a header, a file a row, and what it shows.

    file,label,group
    morning/IMG_0001.jpg,blackbird,garden
    morning/IMG_0002.jpg,robin,garden

`group` may be left out. Paths are relative to the table. Or a text a row:

    text,label,group
    "Arrived late, and broken.",complaint,customer 17
"""

import contextlib
import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.terminal import are, counted
from edvit_tf.errors import DataError

from .lists import AROUND, MAX_LIST_BYTES, decoded
from .named_files import named_files
from .names import printable

COLUMNS = ("file", "text", "label", "group")
FORM = "Its first line names the columns: file,label or text,label, and group where there are some."
MAX_TEXTS_BYTES = 256 << 20  # of a table that holds the texts themselves
_LONGEST_TITLE = 40  # characters that are shown of what stands in the place of a column's name
# Share of the rows that may name files that are not there.
UNKNOWN_LIMIT = 0.5


@dataclass(frozen=True)
class Row:
    """What a line of a table says of a file that is there, or of a text that stands in it."""

    path: Path  # of a text the table's, and the line that it begins in: no file
    label: str
    group: str  # "": none was said
    text: str | None = None


def read_table(table: Path, notes: list[str]) -> list[Row]:
    """The rows of the files that are there, or all texts; other files are counted in `notes`.

    DataError: no table, no such columns, a row without a label, one file with two labels, or most
    files are not there.
    """
    columns, lines = _lines(table)
    if "text" not in columns:
        return _file_rows(table, lines, notes)

    rows = []
    for line, fields in lines:
        if not fields["label"]:
            raise DataError(
                f"Line {line} of {printable(table.name)} has no label. {FORM} Fill it in."
            )
        row = Row(table / f"line {line}", fields["label"], fields.get("group", ""), fields["text"])
        rows.append(row)
    return rows


def _file_rows(table: Path, lines: list[tuple[int, dict[str, str]]], notes: list[str]) -> list[Row]:
    shown = printable(table.name)
    rows: dict[str, Row] = {}  # by the real path: a file may be named in several ways
    unknown: list[str] = []
    repeated = 0
    paths = named_files(table.parent, [fields["file"] for _, fields in lines])

    for line, fields in lines:
        name = fields["file"]
        label = fields["label"]
        if not name or not label:
            missing = "label" if name else "file"
            raise DataError(f"Line {line} of {shown} has no {missing}. {FORM} Fill it in.")

        path = paths[name]
        if path is None:
            unknown.append(printable(name))
            continue

        row = Row(path, label, fields.get("group", ""))
        earlier = rows.setdefault(os.path.realpath(path), row)
        if earlier.label != label:
            raise DataError(
                f"{shown} calls {printable(name)} both {earlier.label!r} and {label!r} (line "
                f"{line}); a file has one label. Correct the table."
            )
        repeated += earlier is not row

    _check_unknown(table, unknown, len(rows) + len(unknown) + repeated, notes)
    if repeated:
        rows_said = counted(repeated, f"row of {shown} names", f"rows of {shown} name")
        notes.append(f"{rows_said} a file again and {are(repeated)} left out")
    return list(rows.values())


def _lines(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns; and of each row that is not empty the number of the line that it begins in, with
    its fields by column.
    """
    text = decoded(_content(table), table)
    first = text.split("\n", 1)[0]
    # a spreadsheet writes what its language takes for a comma
    separator = max(",;\t", key=first.count)
    # else a quotation mark that is never closed takes in all rows after it
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)

    found = []
    columns: list[str] = []
    begins = 1
    try:
        with _long_fields():
            for values in reader:
                line, begins = begins, reader.line_num + 1
                values = [value.strip(AROUND) for value in values]
                if not columns:
                    columns = [value.casefold() for value in values]
                    _check_columns(table, columns)
                elif any(values):
                    found.append((line, dict(zip(columns, values, strict=False))))
    except csv.Error as error:
        raise DataError(
            f"The row that begins in line {begins} of {printable(table.name)} is no CSV ({error}). "
            "A field that begins with a quotation mark ends with one, and those within it are "
            "doubled. Correct it."
        ) from error

    if not found:
        raise DataError(f"{printable(table.name)} has no rows. {FORM} Then comes a row a file.")
    # a row that ends early lacks columns
    return columns, [(line, dict.fromkeys(columns, "") | fields) for line, fields in found]


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lets a field be as long as the longest text that is read, of characters of four bytes, while
    a table is; csv has one limit for a whole process.
    """
    before = csv.field_size_limit(MAX_TEXTS_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _content(table: Path) -> bytes:
    most = MAX_LIST_BYTES
    try:
        with open(table, "rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
            if len(data) > most and _has_texts(data):
                most = MAX_TEXTS_BYTES
                data += file.read(most)
    except OSError as error:
        raise DataError(
            f"{printable(str(table))} cannot be read ({error.strerror}). Check its permissions."
        ) from error

    if len(data) > most:
        what = "texts" if most == MAX_TEXTS_BYTES else "files"
        raise DataError(
            f"{printable(table.name)} has more than {most >> 20} MiB; a table of {what} has less. "
            "Split the data, or give class folders."
        )
    return data


def _has_texts(data: bytes) -> bool:
    """Whether the first line names a column of texts, whatever the encoding."""
    # a file of zero bytes has no line
    first = (data[:4096].replace(b"\0", b"").splitlines() or [b""])[0].lower()
    return re.search(rb"(^|[^a-z])text($|[^a-z])", first) is not None


def _check_columns(table: Path, columns: list[str]) -> None:
    what = "text" if "text" in columns else "file"
    missing = [name for name in (what, "label") if name not in columns]
    if missing:
        # without a header a text may stand there
        shown = [
            name if len(name) <= _LONGEST_TITLE else f"{name[:_LONGEST_TITLE]}..."
            for name in columns[:5]
        ]
        raise DataError(
            f"{printable(table.name)} has the columns {', '.join(map(repr, shown))}, and no "
            f"{' and no '.join(missing)}. {FORM}"
        )
    if "file" in columns and "text" in columns:
        raise DataError(
            f"{printable(table.name)} has both a column file and a column text; a row is one of "
            f"them. {FORM} Rename the other."
        )
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(f"{printable(table.name)} has {twice[0]!r} more than once. {FORM}")


def _check_unknown(table: Path, unknown: list[str], total: int, notes: list[str]) -> None:
    if not unknown:
        return
    told = (
        f"{len(unknown)} of {total} rows of {printable(table.name)} name files that are not there, "
        f"e.g. {', '.join(unknown[:3])}"
    )
    if len(unknown) > UNKNOWN_LIMIT * total:
        raise DataError(
            f"{told}. Paths are relative to the table. Correct them, or move the table."
        )
    notes.append(told)
