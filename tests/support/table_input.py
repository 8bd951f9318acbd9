"""A kind of input that the package does not know: tables of whole numbers, in text. Importing this
module makes it known, as a later kind of the package would be.

    1,2,3,4
    5,6,7,8
                    an empty line, then the next table of the file

A bundle for it holds unit.txt: the number by which the file's numbers are multiplied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import InputError, InputTooLarge
from edvit_tf.device.model.input_kinds import KINDS
from edvit_tf.device.model.input_spec import Files, InputSpec, Source, file_bytes

PRELUDE = "import tests.support.table_input\n"  # of a process that is to know the kind
UNIT = {"unit.txt": b"3"}


@dataclass(frozen=True)
class TableSpec(InputSpec):
    """Tables of `rows` lines of `columns` whole numbers, neither uint8 nor float32."""

    rows: int
    columns: int

    kind = "csv"
    name = "table"
    dtype = "int32"
    modality = "table"
    item = "table"
    described = "table of whole numbers (int32)"
    files = ("unit.txt",)

    def __post_init__(self) -> None:
        self.check_fields()

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.rows, self.columns, 1

    @property
    def largest_file_bytes(self) -> int:
        return 12 * self.rows * self.columns

    def probe(self, source: Source) -> None:
        count = len(_tables(source))
        if count > 1:
            raise InputTooLarge(f"{count} tables", "one; send each table by itself")

    def from_file(self, source: Source, files: Files) -> np.ndarray:
        try:
            tables = [
                [[int(cell) for cell in line.split(",")] for line in table.splitlines()]
                for table in _tables(source)
            ]
            numbers = np.array(tables, np.int32).reshape(-1, *self.shape)
        except ValueError as error:
            raise InputError(f"no table ({error}); write whole numbers with commas.") from error
        return numbers * np.int32(files["unit.txt"])

    def golden_sample(self, seed: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        numbers = np.random.default_rng(seed).integers(-9, 10, (1, *self.shape))
        return numbers.astype(np.int32)


def _tables(source: Source) -> list[str]:
    return file_bytes(source).decode("utf-8", "replace").strip().split("\n\n")


def text(tables: np.ndarray) -> bytes:
    """The file of whole numbers (n, rows, columns)."""
    lines = ["\n".join(",".join(map(str, row)) for row in table) for table in tables.tolist()]
    return "\n\n".join(lines).encode()


def write_bundle(folder: Path) -> Path:
    """A bundle of two sub-models that takes 16 x 16 tables."""
    from tests.support import made_bundle

    return made_bundle.write(folder, spec=TableSpec(16, 16), files=UNIT)


KINDS[TableSpec.kind] = TableSpec
