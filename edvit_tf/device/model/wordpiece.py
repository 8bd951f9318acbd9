"""WordPiece as BERT's tokenizers have it, in plain Python: text -> numbers of a vocabulary.

First words: characters are cleaned, accents and capitals taken away, punctuation and ideographs set
apart. Then of each word the longest piece that the vocabulary has, again and again. Time is linear
in the text, whatever it holds, and no more of it is read than fills the length that is asked for.
"""

import functools
import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from edvit_tf.device.model.wordpiece_characters import (
    CAPITALS,
    DECOMPOSED,
    DROPPED,
    IDEOGRAPHS,
    MARKS,
    MOVED,
    PUNCTUATION,
    SPACES,
)

PAD = "[PAD]"  # number 0: what fills a text that is shorter than asked for
UNKNOWN = "[UNK]"  # of a word that no pieces make
START = "[CLS]"
END = "[SEP]"
SPECIAL = (PAD, UNKNOWN, START, END)

_MOST_CHARACTERS = 100  # of a word; a longer one is UNKNOWN, as in BERT
WITHIN = "##"  # before a piece that does not begin a word
# Characters that are remembered: those of a text, while a hostile one may have a million.
_REMEMBERED = 1 << 14


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by their text, and the numbers of those that stand for something else."""

    pieces: dict[str, int] = field(repr=False)
    size: int  # numbers there are
    longest: int  # characters of the longest piece
    unknown: int
    start: int
    end: int


@functools.lru_cache(maxsize=4)
def vocabulary(content: bytes) -> Vocabulary:
    """The vocabulary of a vocab.txt, a piece a line, whose number is its line from 0.

    Raises ValueError, with the line, for what is no UTF-8, and for a vocabulary without one of
    SPECIAL or with another piece than PAD as its first.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} of the vocabulary is no UTF-8 ({error.reason}). Fetch vocab.txt again."
        ) from error

    # not splitlines(): U+2028 and its like are pieces of some vocabularies
    lines = text.removesuffix("\n").split("\n")
    pieces = {line.rstrip(): number for number, line in enumerate(lines) if line.rstrip()}

    missing = [piece for piece in SPECIAL if piece not in pieces]
    if missing:
        raise ValueError(
            f"the vocabulary of {len(lines)} lines has no {', no '.join(missing)}; BERT's has "
            f"{', '.join(SPECIAL)}. Give the vocab.txt of a BERT."
        )
    if pieces[PAD] != 0:
        raise ValueError(
            f"{PAD} is in line {pieces[PAD] + 1} of the vocabulary; it must be the first, since a "
            "0 is no word to the model. Give the vocab.txt of a BERT."
        )

    return Vocabulary(
        pieces,
        size=len(lines),
        longest=max(map(len, pieces)),
        unknown=pieces[UNKNOWN],
        start=pieces[START],
        end=pieces[END],
    )


def encode(text: str, known: Vocabulary, length: int, lower_case: bool = True) -> list[int]:
    """At most `length` numbers: START, as many pieces of the text as have room, END.

    What a text calls [SEP] is three words to it, and not the end.
    """
    room = length - 2
    numbers = list(itertools.islice(piece_numbers(text, known, lower_case), room))
    return [known.start, *numbers, known.end]


def piece_numbers(text: str, known: Vocabulary, lower_case: bool = True) -> Iterator[int]:
    """The number of each piece of a text, one after the other."""
    for word in words(text, lower_case):
        yield from _numbers(word, known)


def words(text: str, lower_case: bool = True) -> Iterator[str]:
    """The words of a text, punctuation and ideographs as words of their own; with `lower_case`
    without capitals and accents.
    """
    known = _CHARACTERS[lower_case]
    for run in _NOT_SPACES.finditer(text):
        plain = run.group().translate(known)
        if lower_case and not plain.isascii():
            plain = _in_order(plain)
        for word in plain.split(" "):
            if word:
                yield word


def _numbers(word: str, known: Vocabulary) -> list[int]:
    """Of each piece of a word; UNKNOWN alone where one is missing."""
    if len(word) > _MOST_CHARACTERS:
        return [known.unknown]

    found = []
    start = 0
    while start < len(word):
        before = WITHIN if start else ""
        for end in range(min(len(word), start + known.longest), start, -1):
            number = known.pieces.get(before + word[start:end])
            if number is not None:
                break
        else:
            return [known.unknown]
        found.append(number)
        start = end
    return found


def _in_order(word: str) -> str:
    """The marks that were left behind a letter in Unicode's canonical order. Not by
    `unicodedata.normalize` of the whole, whose time grows with the square of their number.
    """
    if not any(map(unicodedata.combining, word)):
        return word
    ordered: list[str] = []
    for is_moved, run in itertools.groupby(word, lambda one: ord(one) in _MOVED):
        part = list(run)
        ordered += sorted(part, key=unicodedata.combining) if is_moved else part
    return "".join(ordered)


class _Ranges:
    """A set of code points, as wordpiece_characters.py writes them."""

    def __init__(self, text: str) -> None:
        ends = [part.partition("-")[::2] for part in text.split()]
        self._lows = [int(low, 16) for low, _ in ends]
        self._highs = [int(high or low, 16) for low, high in ends]

    def __contains__(self, code: int) -> bool:
        place = bisect_right(self._lows, code) - 1
        return place >= 0 and code <= self._highs[place]


_MARK = _Ranges(MARKS)
_MOVED = _Ranges(MOVED)
_DECOMPOSED = _Ranges(DECOMPOSED)
_DROPPED = _Ranges(DROPPED)
_APART = _Ranges(IDEOGRAPHS)
_PUNCTUATION = _Ranges(PUNCTUATION)


def _small_letters() -> dict[str, str]:
    found = {}
    for capitals, _, small in (part.partition(":") for part in CAPITALS.split()):
        low, _, high = capitals.partition("-")
        for place, code in enumerate(range(int(low, 16), int(high or low, 16) + 1)):
            found[chr(code)] = chr(int(small, 16) + place)
    return found


_SMALL = _small_letters()


def _pattern() -> str:
    spans = [part.split("-") for part in SPACES.split()]
    return "".join("-".join(f"\\u{int(end, 16):04x}" for end in span) for span in spans)


_NOT_SPACES = re.compile(f"[^{_pattern()}]+")


class _Characters(dict):
    """For str.translate: a code point -> what stands for it, with spaces around what is a word by
    itself. Each is made when it is first met.
    """

    def __init__(self, lower_case: bool) -> None:
        super().__init__()
        self._lower_case = lower_case

    def __missing__(self, code: int) -> str:
        found = "" if code in _DROPPED else self._made(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = found
        return found

    def _made(self, character: str) -> str:
        parts = [character]
        if self._lower_case:
            # one by one: a final sigma is a sigma like any other
            if ord(character) in _DECOMPOSED:
                parts = list(unicodedata.normalize("NFD", character))
            parts = [_SMALL.get(one) or one.lower() for one in parts if ord(one) not in _MARK]

        spaced = [f" {one} " if _is_punctuation(one) else one for one in parts]
        made = "".join(spaced)
        return f" {made} " if ord(character) in _APART else made


def _is_punctuation(text: str) -> bool:
    return len(text) == 1 and ord(text) in _PUNCTUATION


_CHARACTERS = {lower_case: _Characters(lower_case) for lower_case in (True, False)}
