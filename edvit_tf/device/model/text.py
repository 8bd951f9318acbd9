"""Text: a file, or what was typed -> numbers of WordPieces, int32, as BERT takes them."""

import codecs
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
# Signatures of encodings that are read, the longer first: UTF-32's begins as UTF-16's does.
_SIGNATURES = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(data: bytes) -> str:
    """The text in the bytes of a file: in the encoding that its signature names, else UTF-8.
    InputError for another encoding, and for zero bytes, as of UTF-16 without its signature.
    """
    encoding = "utf-8"
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            encoding = name
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"no text in {encoding.upper()} (byte {error.start} is {data[error.start]:#04x}). Save "
            "it as UTF-8."
        ) from error
    if "\0" in text:
        raise InputError(
            f"a zero byte (character {text.index(chr(0))}): no text, or one in UTF-16 without its "
            "signature. Save it as UTF-8."
        )
    return text.removeprefix("\ufeff")


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
        """A text as `text_of` reads it -> int32 (1, length). InputError as there, for a text
        without a word, and for one of which the vocabulary knows nothing.
        """
        self.probe(source)
        return self.from_text(text_of(file_bytes(source)), files)

    def from_text(self, text: str, files: Files) -> np.ndarray:
        """As `from_file`, of characters."""
        known = vocabulary(files[VOCABULARY])
        numbers = encode(text, known, self.length, self.lower_case)
        if len(numbers) < _LEAST_PIECES:
            raise InputError(
                f"a text of {len(text)} characters without a word; at least one is needed. Write "
                "letters, digits or signs."
            )
        # an answer to it would be one to nothing, and sound as sure as any
        if set(numbers[1:-1]) == {known.unknown}:
            raise InputError(
                f"a text of {len(text)} characters of which the vocabulary knows no piece, as of "
                "another language or script. Write it in that of the texts that were trained on."
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
