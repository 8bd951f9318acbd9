"""Texts as a kind of input: what a file becomes, and what is refused before any model sees it."""

import numpy as np
import pytest

from edvit_tf.device.errors import InputError, InputTooLarge
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.model.text import MAX_TEXT_BYTES, TextSpec
from edvit_tf.device.model.view import View
from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.request_input import decoded, message_limit, request_input

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "day", "##s", "!"]
FILES = {"vocab.txt": "\n".join(PIECES).encode()}
SPEC = TextSpec(length=8, vocab_size=8)
INPUT = BundleInput(SPEC, FILES)


def test_a_text_and_its_file_are_the_same_numbers(tmp_path):
    expected = np.array([[2, 4, 5, 6, 7, 3, 0, 0]], np.int32)
    (tmp_path / "x.txt").write_bytes("\ufeffGood\u00a0days!\r\n".encode())
    for source in (b"good days!", tmp_path / "x.txt", str(tmp_path / "x.txt")):
        found = SPEC.from_file(source, FILES)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int32
    np.testing.assert_array_equal(SPEC.from_text("GOOD days!", FILES), expected)
    # as many as there is room for
    assert SPEC.from_text("good " * 99, FILES).tolist() == [[2, 4, 4, 4, 4, 4, 4, 3]]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "a text of 0 characters without a word"),
        (b" \n \xef\xbb\xbf", "a text of 4 characters without a word"),
        (b"caf\xe9 au lait", r"no text in UTF-8 \(byte 3 is 0xe9\)"),
        (b"good\0day", r"a zero byte \(character 4\): no text, or one in UTF-16 without"),
        ("good day".encode("utf-16-le"), r"a zero byte \(character 1\)"),
        (b"\xff\xfeg", r"no text in UTF-16 \(byte 2 is 0x67\)"),
        ("\U0001e900\U0001e901 \u1bc0".encode(), "of which the vocabulary knows no piece"),
        (b"w" * MAX_TEXT_BYTES, "a text of 1048576 characters of which the vocabulary knows no"),
    ],
)
def test_what_is_no_text_is_named(content, message):
    with pytest.raises(InputError, match=message):
        SPEC.from_file(content, FILES)


def test_words_in_no_known_script_are_unknown_beside_one_that_is_known():
    assert SPEC.from_text("\U0001e900\U0001e901 \u1bc0 day", FILES).tolist() == [
        [2, 1, 1, 5, 3, 0, 0, 0]
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_text_whose_encoding_names_itself_is_read(encoding):
    expected = SPEC.from_text("Good days!", FILES)
    np.testing.assert_array_equal(SPEC.from_file("Good days!".encode(encoding), FILES), expected)


def test_the_largest_text_is_read_and_a_longer_one_refused_unread(tmp_path):
    largest = b"good " * (MAX_TEXT_BYTES // 5)
    assert SPEC.from_file(largest, FILES)[0, 6] == 4
    assert message_limit(INPUT) == MAX_TEXT_BYTES + 65_536
    longer = largest + b"day !"
    (tmp_path / "long.txt").write_bytes(longer)
    for source in (longer, tmp_path / "long.txt"):
        with pytest.raises(InputTooLarge, match=f"{len(longer)} bytes; expected at most 1048576"):
            SPEC.from_file(source, FILES)
    with pytest.raises(messages.WireError, match="got a text of 1048580 bytes; expected at most"):
        decoded(longer, INPUT)


def test_numbers_that_the_vocabulary_has_not_are_refused():
    good = SPEC.from_text("good", FILES)
    np.testing.assert_array_equal(request_input({"text": good}, INPUT), good)
    for number in (-1, 8, 2**31 - 1):
        bad = good.copy()
        bad[0, 3] = number
        with pytest.raises(messages.WireError, match=f"got numbers .*{number}.*; expected 0 to 7"):
            request_input({"text": bad}, INPUT)
    with pytest.raises(messages.WireError, match="datatype: got INT64; expected INT32, or BYTES"):
        request_input({"text": good.astype(np.int64)}, INPUT)
    assert request_input({"text": [b"good"]}, INPUT) == b"good"


def test_a_vocabulary_of_another_checkpoint_is_refused():
    SPEC.check_files(FILES)
    with pytest.raises(ValueError, match=r"has 8 pieces; the models were made for 9: it is of"):
        TextSpec(8, 9).check_files(FILES)
    with pytest.raises(ValueError, match=r"has no \[UNK\]"):
        SPEC.check_files({"vocab.txt": b"[PAD]\n[CLS]\n[SEP]"})


@pytest.mark.parametrize("length", [0, 2, 1 << 15])
def test_a_length_that_holds_no_text_is_refused(length):
    with pytest.raises(ValueError, match=f"TextSpec.length is {length}"):
        TextSpec(length, 8)


def test_texts_have_no_views():
    assert not SPEC.has_views
    with pytest.raises(ValueError, match=r"shape \[8\].*texts have none"):
        View(right=1).check(SPEC.shape)
