"""The stand-in of texts: ten made-up topics, each with words of its own among those of all."""

import numpy as np

TOPICS = 10
_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu")
_OWN_WORDS = 40  # of a topic
_COMMON_WORDS = 200
_OWN_SHARE = 0.12
_LENGTHS = (20, 150)  # words of a text


def text(rng: np.random.Generator, label: int) -> str:
    """Words of all topics, and among them some of one."""
    count = int(rng.integers(*_LENGTHS))
    own = rng.random(count) < _OWN_SHARE
    # the first words are the frequent ones
    common = (_COMMON_WORDS * rng.random(count) ** 2).astype(int)
    theirs = (_OWN_WORDS * rng.random(count)).astype(int)
    numbers = np.where(own, _COMMON_WORDS + label * _OWN_WORDS + theirs, common)
    return " ".join(_word(int(number)) for number in numbers)


def _word(number: int) -> str:
    """Another word for each number."""
    syllables = [_SYLLABLES[int(digit)] for digit in f"{number:03d}"]
    return "".join(syllables)
