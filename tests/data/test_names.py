"""Names of classes: two that look alike are one, and one that nobody sees is none."""

import pytest

from edvit_tf.data.folder import survey
from edvit_tf.data.names import alike, names_a_class, spelled
from edvit_tf.errors import DataError
from tests.support.data_files import write_picture


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cat\u200b"),
        ("cat", "cat\ufeff"),
        ("cat", "ca\u00adt"),
        ("cat", "\u200ecat"),
        ("cat", "cat\ufe0f"),
        ("cat", "cat\U000e0020\U000e0041"),
        ("a b", "a  b"),
        ("a b", "a\u00a0\tb "),
        ("a b", "a\u2800b"),
        ("istanbul", "\u0130stanbul"),
        ("caf\u00e9", "CAFE\u0301"),
        ("caf\u00e9", "cafe\u034f\u0301"),
    ],
)
def test_names_that_look_alike_are_alike(one, other):
    assert alike(one) == alike(other)


def test_names_that_are_seen_to_differ_do():
    england, scotland = (
        "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
        for region in ("gbeng", "gbsct")
    )
    names = ("ab", "a b", "cafe", "caf\u00e9", "\u0131l\u0131k", "ilik", england, scotland)
    assert len({alike(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["\u3164", "\u2800", "\u200b\u200b", "\u00ad", " \u00a0"])
def test_a_name_that_nobody_sees_is_none(name):
    assert not names_a_class(name)


def test_what_is_not_seen_of_a_name_is_shown():
    assert spelled("ca\u00adt\u200b") == "ca\\xadt\\u200b"
    assert spelled("caf\u00e9 \u00fc") == "caf\u00e9 \u00fc"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cat", "cat\u200b"), r"'cat' and 'cat\\u200b', which nobody could tell apart"),
        (("cat", "\u3164"), r"'\\u3164' in .* cannot be the name of a class"),
    ],
)
def test_folders_of_such_names_are_refused(tmp_path, names, words):
    for name in names:
        write_picture(tmp_path / name / "a.png")
    with pytest.raises(DataError, match=words):
        survey(tmp_path)
