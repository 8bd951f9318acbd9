"""Texts as a data set: which pieces are known, and what is read of each text.

The vocabulary comes from a checkpoint, cut to the pieces that are most frequent in the training
texts (of a small model it is most of the bytes otherwise), or without one from these texts.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.text import VOCABULARY, TextSpec
from edvit_tf.device.model.wordpiece import (
    SPECIAL,
    WITHIN,
    Vocabulary,
    piece_numbers,
    vocabulary,
    words,
)
from edvit_tf.errors import DataError

from .dataset import Dataset, Recording, Skipped
from .folders import given_folder
from .names import printable

# Of every data set of texts: vocab.txt or a folder with one ("": made of the training texts), how
# many of its pieces, and whether capitals and accents are taken away.
OPTIONS: dict[str, Any] = {"vocabulary": "", "vocab_size": 8000, "lower_case": True}
_MOST_LETTERS = 256  # of a vocabulary that is made: with them most words can be written

Splits = Mapping[str, tuple[Recording, ...]]


def text_dataset(
    name: str,
    labels: tuple[str, ...],
    source: str,
    splits: Splits,
    text_of: Callable[[Any], str],
    settings,
    *,
    notes: list[str],
    skipped: list[Skipped],
    synthetic: bool = False,
) -> Dataset:
    """The data set of texts that `text_of` gives of a recording's `where`, again each time it is
    read. `settings` has image_size (1, pieces), seed and OPTIONS. DataError for another image_size,
    and for a vocabulary that cannot be read or is none.
    """
    rows, length = settings.image_size
    if rows != 1:
        raise DataError(
            f"{name}: image_size is {settings.image_size}; texts are one row of pieces, such as "
            "(1, 128)."
        )

    lower_case = settings["lower_case"]
    training = (text_of(one.where) for one in splits["train"])
    content = vocabulary_for(
        training, settings["vocabulary"], settings["vocab_size"], lower_case, notes
    )
    try:
        spec = TextSpec(length, vocabulary(content).size, lower_case)
    except ValueError as error:
        raise DataError(f"{name}: {error} image_size is (1, pieces).") from error
    files = {VOCABULARY: content}

    def text_of_recording(one: Recording) -> str:
        return text_of(one.where)

    def read(some: Sequence[Recording]) -> np.ndarray:
        return np.concatenate([spec.from_text(text_of(one.where), files) for one in some])

    return Dataset(
        name,
        labels,
        spec,
        files,
        source,
        settings.seed,
        splits,
        read,
        text_of=text_of_recording,
        synthetic=synthetic,
        rows_digest=sha256(content).hexdigest(),  # another vocabulary is another data set
        notes=notes,
        skipped=skipped,
    )


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A file's text, its first byte-order mark left out; InputError for what is none."""
    try:
        return path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"no text in UTF-8 (byte {error.start}); save it as UTF-8") from error


def has_words(text: str) -> bool:
    """Whether anything is left of a text that a model could read."""
    return next(words(text), None) is not None


def vocabulary_for(
    texts: Iterable[str], given: str, size: int, lower_case: bool, notes: list[str]
) -> bytes:
    """A vocab.txt of at most `size` pieces for training texts, by `given` (OPTIONS)."""
    if not given:
        made = made_vocabulary(texts, size, lower_case)
        count = made.count(b"\n")
        notes.append(f"vocabulary of {count} pieces, made of the training texts")
        return made

    content = _content(given)
    try:
        known = vocabulary(content)
    except ValueError as error:
        raise DataError(f"{printable(given)}: {error}") from error
    if size >= known.size:
        return content
    notes.append(
        f"vocabulary of {known.size} pieces cut to the {size} that are most frequent in the "
        "training texts"
    )
    return cut_vocabulary(texts, known, size, lower_case)


def cut_vocabulary(
    texts: Iterable[str], known: Vocabulary, size: int, lower_case: bool = True
) -> bytes:
    """A vocab.txt of SPECIAL and of the pieces that are most frequent in `texts`, the most frequent
    first; of equals the earlier one of `known`.
    """
    counted: Counter[int] = Counter()
    for text in texts:
        counted.update(piece_numbers(text, known, lower_case))

    others = [piece for piece in known.pieces if piece not in SPECIAL]
    others.sort(key=lambda piece: (-counted[known.pieces[piece]], known.pieces[piece]))
    return _lines([*SPECIAL, *others[: max(0, size - len(SPECIAL))]])


def made_vocabulary(texts: Iterable[str], size: int, lower_case: bool = True) -> bytes:
    """A vocab.txt of SPECIAL, the letters, and the most frequent words of `texts`. A word that is
    not among them is written in letters.
    """
    counted: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for text in texts:
        counted.update(words(text, lower_case))
    for word, count in counted.items():
        for letter in word:
            letters[letter] += count

    known = _most(letters, _MOST_LETTERS)
    pieces = [*SPECIAL, *known, *(f"{WITHIN}{letter}" for letter in known)]
    there = set(pieces)
    pieces += [word for word in _most(counted, len(counted)) if word not in there]
    return _lines(pieces[: max(size, len(SPECIAL))])


def _most(counted: Counter[str], count: int) -> list[str]:
    """The most frequent, of equals the first in the alphabet."""
    return sorted(counted, key=lambda one: (-counted[one], one))[:count]


def _lines(pieces: Sequence[str]) -> bytes:
    return "".join(f"{piece}\n" for piece in pieces).encode()


def _content(given: str) -> bytes:
    """Of vocab.txt, or of that in a folder."""
    path = Path(given_folder(given))
    if os.path.isdir(path):
        path = path / VOCABULARY
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The vocabulary {printable(str(path))} cannot be read ({error.strerror}). Give the "
            "vocab.txt of a BERT, or a checkpoint folder that holds one."
        ) from error
