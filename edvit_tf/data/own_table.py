"""A table of somebody's own files: CSV with a header, a file a row, and what it shows.

    file,label,group
    morning/IMG_0001.jpg,blackbird,garden
    morning/IMG_0002.jpg,robin,garden

`group` may be left out. Paths are relative to the table.
"""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.errors import DataError

from .lists import AROUND, MAX_LIST_BYTES, decoded
from .names import printable

COLUMNS = ("file", "label", "group")
NEEDED = ("file", "label")
FORM = "Its first line names the columns: file,label or file,label,group."
# Share of the rows that may name files that are not there.
UNKNOWN_LIMIT = 0.5


@dataclass(frozen=True)
class Row:
    """What a line of a table says of a file that is there."""

    path: Path
    label: str
    group: str  # "": none was said


def read_table(table: Path, notes: list[str]) -> list[Row]:
    """The rows of the files that are there; others are counted in `notes`.

    DataError: no table, no such columns, a row without a label, one file with two labels, or most
    files are not there.
    """
    shown = printable(table.name)
    rows: dict[str, Row] = {}  # by the real path: a file may be named in several ways
    unknown: list[str] = []
    repeated = 0

    for line, fields in _lines(table):
        name = fields["file"]
        label = fields["label"]
        if not name or not label:
            missing = "label" if name else "file"
            raise DataError(f"Line {line} of {shown} has no {missing}. {FORM} Fill it in.")

        path = _file(table.parent, name)
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
        notes.append(f"{repeated} rows of {shown} name a file again and are left out")
    return list(rows.values())


def _lines(table: Path) -> list[tuple[int, dict[str, str]]]:
    """(number, fields by column) of each row that is not empty."""
    text = decoded(_content(table), table)
    first = text.split("\n", 1)[0]
    # a spreadsheet writes what its language takes for a comma
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)

    found = []
    columns: list[str] = []
    try:
        for values in reader:
            values = [value.strip(AROUND) for value in values]
            if not columns:
                columns = [value.casefold() for value in values]
                _check_columns(table, columns)
            elif any(values):
                found.append((reader.line_num, dict(zip(columns, values, strict=False))))
    except csv.Error as error:
        raise DataError(
            f"Line {reader.line_num} of {printable(table.name)} is no CSV ({error}). Correct it."
        ) from error

    if not found:
        raise DataError(f"{printable(table.name)} has no rows. {FORM} Then comes a row a file.")
    # a row that ends early lacks columns
    return [(line, dict.fromkeys(NEEDED, "") | fields) for line, fields in found]


def _content(table: Path) -> bytes:
    try:
        with open(table, "rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{printable(str(table))} cannot be read ({error.strerror}). Check its permissions."
        ) from error

    if len(data) > MAX_LIST_BYTES:
        raise DataError(
            f"{printable(table.name)} has more than {MAX_LIST_BYTES >> 20} MiB; a table of files "
            "has less. Split the data, or give class folders."
        )
    return data


def _check_columns(table: Path, columns: list[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"{printable(table.name)} has the columns {', '.join(map(repr, columns))}, and no "
            f"{' and no '.join(missing)}. {FORM}"
        )
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(f"{printable(table.name)} has {twice[0]!r} more than once. {FORM}")


def _file(folder: Path, name: str) -> Path | None:
    """The file that a row names; None: there is none."""
    # a table from Windows has its own slashes
    for written in (name, name.replace("\\", "/")):
        try:
            if os.path.isfile(folder / written):
                return folder / written
        except ValueError:  # a name that no file can have
            continue
    return None


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
