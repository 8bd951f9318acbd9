"""WordPiece on a device: what BERT's tokenizers give, in time that is linear in the text."""

import itertools
import random
import time

import pytest

from edvit_tf.device.model import wordpiece_characters
from edvit_tf.device.model.wordpiece import (
    _CHARACTERS,
    _REMEMBERED,
    encode,
    piece_numbers,
    vocabulary,
    words,
)

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "runn", "##ing", ",", "a"]
KNOWN = vocabulary("\n".join(PIECES).encode())


def pieces(text: str) -> list[str]:
    return [PIECES[number] for number in piece_numbers(text, KNOWN)]


def test_a_word_becomes_the_longest_pieces_that_there_are():
    assert pieces("UNAFFABLE, Running") == ["un", "##aff", "##able", ",", "runn", "##ing"]
    assert pieces("unknown") == ["[UNK]"]  # "un" alone is there, the rest is not
    assert pieces("à") == ["a"] and pieces("a" * 101) == ["[UNK]"]
    assert encode("a a a a a", KNOWN, 5) == [2, 10, 10, 10, 3]
    assert encode("", KNOWN, 5) == [2, 3]


def test_a_text_cannot_name_what_stands_for_something_else():
    assert list(words("[CLS] [SEP]")) == ["[", "cls", "]", "[", "sep", "]"]
    assert pieces("[SEP]") == ["[UNK]"] * 3


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Ça ira: naïve CAFÉ", ["ca", "ira", ":", "naive", "cafe"]),
        ("ΣΊΣΥΦΟΣ", ["σισυφοσ"]),
        ("東京2020", ["東", "京", "2020"]),
        ("a\0b\ufeffc\u200bd\x07", ["abcd"]),
        ("tab\tline\u2028next\u00a0last", ["tab", "line", "next", "last"]),
        ("$5+5=<10>~", ["$", "5", "+", "5", "=", "<", "10", ">", "~"]),
        ("👩‍👩‍👧 ok", ["👩👩👧", "ok"]),
        (" \t\n", []),
    ],
)
def test_words_of_a_text(text, expected):
    assert list(words(text)) == expected


def test_capitals_and_accents_stay_where_the_vocabulary_has_them():
    assert list(words("Café, ΣΑΣ", lower_case=False)) == ["Café", ",", "ΣΑΣ"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[PAD]\n[CLS]\n[SEP]\na", r"of 4 lines has no \[UNK\]; BERT's has"),
        (b"", r"has no \[PAD\], no \[UNK\], no \[CLS\], no \[SEP\]"),
        (b"[UNK]\n[PAD]\n[CLS]\n[SEP]", r"\[PAD\] is in line 2 of the vocabulary; it must be"),
        (b"[PAD]\n[UNK]\ncaf\xe9\n", "line 3 of the vocabulary is no UTF-8"),
    ],
)
def test_what_is_no_vocabulary_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        vocabulary(content)


def test_a_vocabulary_from_windows_and_pieces_of_odd_lines():
    assert vocabulary("\r\n".join(PIECES).encode()).pieces == KNOWN.pieces
    known = vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\u2028x\n".encode())
    assert known.size == 5 and known.pieces["\u2028x"] == 4


MARKS = "\u0301\u0316"  # above and below: canonical order would sort a million of them


@pytest.mark.parametrize(
    "text",
    [
        "a" * (1 << 20),
        "a" + MARKS * (1 << 19),
        "\U0001e8d0\U00010a0f" * (1 << 18),
        "," * (1 << 18),
        "ab\0" * (1 << 18),
        "".join(map(chr, range(0x10000, 0x10000 + (1 << 16)))),
    ],
    ids=["letters", "marks", "kept marks", "punctuation", "controls", "every character"],
)
def test_a_long_text_takes_time_that_is_linear_in_it(text):
    def seconds(some: str) -> float:
        started = time.process_time()
        for _ in piece_numbers(some, KNOWN):
            pass
        return time.process_time() - started

    seconds(text[:64])  # the characters are met before
    part, whole = seconds(text[: len(text) // 8]), seconds(text)
    # eight times as long; with the square of it it would be 64 times, and minutes
    assert whole < 24 * part + 0.2, (part, whole)
    assert all(len(known) <= _REMEMBERED for known in _CHARACTERS.values())


def test_no_more_of_a_text_is_read_than_there_is_room_for():
    started = time.process_time()
    assert len(encode("a " * (1 << 22), KNOWN, 128)) == 128
    assert time.process_time() - started < 0.1


def hostile_texts(count: int) -> list[str]:
    """Texts of every script and length, from a seed."""
    rng = random.Random(0)
    blocks = [(low, low + 0xFF) for low in (*range(0, 0x3400, 0x100), 0xA600, 0xFB00, 0xFF00)]
    blocks += [(0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0x1F300, 0x1FAFF)]
    blocks += [(0x10000, 0x1FFFF), (0x2B740, 0x2B91F), (0xE0000, 0xE01FF), (0x300, 0x36F)]
    kinds = ("of one block", "of many", "latin", "marked", "controls")

    def character(low: int, high: int) -> str:
        code = low + int(rng.random() * (high - low + 1))
        return chr(code) if not 0xD800 <= code < 0xE000 else " "

    found = ["", " ", "\0", "\ufffd" * 9, "a" * 101, "a" * 100]
    while len(found) < count:
        kind = rng.choice(kinds)
        length = int(2 ** rng.uniform(0, 8))
        block = rng.choice(blocks)
        text = ""
        for _ in range(length):
            if kind == "of many":
                block = rng.choice(blocks)
            if kind == "latin":
                text += rng.choice("etaoin shrdluETAOIN  ,.;'!-éüß0123[]##")
            elif kind == "controls":
                text += character(0, 0x20) if rng.random() < 0.3 else character(0x20, 0x17F)
            else:
                text += character(*block)
            if kind == "marked":
                text += character(0x300, 0x36F) * rng.randint(0, 3)
            if rng.random() < 0.1:
                text += " "
        found.append(text)
    return found


@pytest.mark.reference
def test_it_is_what_tokenizers_gives_on_20_000_texts_of_every_script():
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import normalizers, pre_tokenizers

    texts = hostile_texts(20_000)
    rng = random.Random(1)
    # pieces of the texts themselves: some words are known, some in part, some not at all
    pool = [word for text in texts[::4] for word in words(text)]
    made = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    for word in pool:
        start = rng.randrange(len(word))
        part = word[start : start + rng.randint(1, 4)]
        made |= dict.fromkeys([part if not start else f"##{part}", word[0], f"##{word[-1]}"])
    lines = [piece for piece in made if piece == piece.strip()]
    known = vocabulary("\n".join(lines).encode())

    theirs = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(known.pieces, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    for lower_case in (True, False):
        theirs.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
        theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        wrong = [
            text
            for text, found in zip(texts, theirs.encode_batch(texts), strict=True)
            if list(piece_numbers(text, known, lower_case)) != found.ids
        ]
        assert not wrong, (lower_case, len(wrong), wrong[:3])

    long = "".join(itertools.islice(itertools.cycle(texts[:2000]), 2000))
    theirs.normalizer = normalizers.BertNormalizer(lowercase=True)
    assert len(long.encode()) > 1 << 18
    assert list(piece_numbers(long, known)) == theirs.encode(long).ids


@pytest.mark.reference
def test_every_character_is_taken_for_what_tokenizers_takes_it_for():
    pytest.importorskip("tokenizers")
    from tests.support.wordpiece_ranges import classes, ranges

    for name, codes in classes().items():
        assert getattr(wordpiece_characters, name) == ranges(codes), name

    from tokenizers.normalizers import BertNormalizer

    theirs = BertNormalizer(handle_chinese_chars=False)
    for code in (*range(0xD800), *range(0xE000, 0x1F000)):
        # words of one character each: what it is decomposed to, and its small letter
        expected = theirs.normalize_str(chr(code)).replace(" ", "")
        assert "".join(words(chr(code))) == expected, hex(code)
