"""Text: a file, or what was typed -> numbers of WordPieces, int32, as BERT takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import InputError, InputTooLarge
from edvit_tf.device.model.input_spec import Files, InputSpec, Source, file_bytes, unreadable
from edvit_tf.device.model.wordpiece import encode, vocabulary

VOCABULARY = "vocab.txt"  # in a bundle: a piece a line, as BERT's checkpoints have it
# Of a text: a book's worth. Of a longer one no more was read anyway.
MAX_TEXT_BYTES = 1 << 20
_MOST_PIECES = 1 << 14  # of a text that a model reads
_LEAST_PIECES = 3  # a start, a piece, an end
# Of decoding: the bytes, their characters (four bytes each), three for each that stands alone.
_DECODING_TIMES = 1 + 4 + 3 * 4 + 4 * 4
_PAD = 0


@dataclass(frozen=True)
class TextSpec(InputSpec):
    """The first pieces of a text as numbers below `vocab_size`, (length,) int32: a start, the
    pieces, an end, and zeros to the length. The model leaves out what is 0.
    """

    length: int
    vocab_size: int
    lower_case: bool = True  # as the vocabulary is: without capitals and accents

    kind = name = modality = "text"
    dtype = "int32"
    item = "text"
    described = "text (int32, numbers of its WordPieces in vocab.txt, zeros behind)"
    is_text = True
    has_views = False
    is_prepared_once = True
    files = (VOCABULARY,)
    largest_file = f"text of {MAX_TEXT_BYTES >> 10} KiB"

    def __post_init__(self) -> None:
        self.check_fields()
        if not _LEAST_PIECES <= self.length <= _MOST_PIECES:
            raise ValueError(
                f"TextSpec.length is {self.length}; it must be {_LEAST_PIECES} to {_MOST_PIECES}."
            )

    @property
    def shape(self) -> tuple[int]:
        """(length,)."""
        return (self.length,)

    @property
    def model_fields(self) -> dict[str, int]:
        """The size of the table of pieces."""
        return {"vocab_size": self.vocab_size}

    @property
    def largest_file_bytes(self) -> int:
        """MAX_TEXT_BYTES."""
        return MAX_TEXT_BYTES

    @property
    def decoding_bytes(self) -> int:
        """Of the largest text, which may be one word."""
        return _DECODING_TIMES * MAX_TEXT_BYTES

    def probe(self, source: Source) -> None:
        """InputTooLarge for more than MAX_TEXT_BYTES."""
        try:
            size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        except OSError as error:
            raise InputError(unreadable(error)) from error
        if size > MAX_TEXT_BYTES:
            raise InputTooLarge(f"a text of {size} bytes", f"at most {MAX_TEXT_BYTES}")

    def from_file(self, source: Source, files: Files) -> np.ndarray:
        """A text in UTF-8 -> int32 (1, length). InputError for another encoding, and for a text
        without a word.
        """
        self.probe(source)
        data = file_bytes(source)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"no text in UTF-8 (byte {error.start} is {data[error.start]:#04x}). Save it as "
                "UTF-8."
            ) from error
        return self.from_text(text, files)

    def from_text(self, text: str, files: Files) -> np.ndarray:
        """As `from_file`, of characters."""
        numbers = encode(text, vocabulary(files[VOCABULARY]), self.length, self.lower_case)
        if len(numbers) < _LEAST_PIECES:
            raise InputError(
                f"a text of {len(text)} characters without a word; at least one is needed. Write "
                "letters, digits or signs."
            )
        x = np.full((1, self.length), _PAD, np.int32)
        x[0, : len(numbers)] = numbers
        return x

    def golden_sample(self, seed: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        """int32 (1, length): any pieces on three quarters of it."""
        x = np.full((1, self.length), _PAD, np.int32)
        some = max(_LEAST_PIECES, 3 * self.length // 4)
        drawn = np.random.default_rng(seed).integers(1, max(2, self.vocab_size), some)
        x[0, :some] = drawn
        return x

    def why_not(self, x: np.ndarray) -> tuple[str, str] | None:
        """A number that the vocabulary has not would be looked up beyond the table's end."""
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= self.vocab_size:
            return f"numbers {low} to {high}", f"0 to {self.vocab_size - 1}"
        return None

    def check_files(self, files: Files) -> None:
        """ValueError unless the vocabulary is one, and of `vocab_size` pieces."""
        known = vocabulary(files[VOCABULARY])
        if known.size != self.vocab_size:
            raise ValueError(
                f"{VOCABULARY} has {known.size} pieces; the models were made for "
                f"{self.vocab_size}: it is of another checkpoint"
            )
