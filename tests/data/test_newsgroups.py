"""20 Newsgroups: what is read of a post, the split, and the vocabulary of the training texts."""

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.data import newsgroups, texts
from edvit_tf.device.model.text import TextSpec
from edvit_tf.device.model.wordpiece import SPECIAL, piece_numbers, vocabulary
from edvit_tf.errors import DataError
from tests.support.data_files import write_newsgroups

SIZE = {"image_size": (1, 12)}
POSTS = [
    "From: a@b\n\nIn article <1> somebody wrote:\n> quoted\n| too\nmine\n--\nname\n",
    "no header at all",
    "From: a\n\n\n\nfirst\n\nlast\n",
    "From: a\n\n--\nonly a signature",
    "From: a\n\nonly one line",
    "From: a\n\nA -- B\n----\nC said:\nD\n \n",
]


def vocabulary_of(loaded) -> list[str]:
    return loaded.input_files["vocab.txt"].decode().split("\n")[:-1]


def test_what_is_taken_away_is_what_scikit_learn_takes():
    theirs = pytest.importorskip("sklearn.datasets._twenty_newsgroups")
    for post in POSTS:
        for ours, name in (
            (newsgroups.without_header, "strip_newsgroup_header"),
            (newsgroups.without_footer, "strip_newsgroup_footer"),
            (newsgroups.without_quotes, "strip_newsgroup_quoting"),
        ):
            assert ours(post) == getattr(theirs, name)(post), (name, post)


def test_posts_are_read_without_what_tells_the_group(tmp_path):
    loaded = data.load("newsgroups", write_newsgroups(tmp_path / "20news"), **SIZE)
    assert loaded.labels == ("rec.autos", "sci.med")
    assert loaded.spec == TextSpec(12, len(vocabulary_of(loaded)))
    known = vocabulary_of(loaded)
    assert "own" in known and "cafe" in known
    assert not {"quoted", "signature", "from", "thread"} & set(known)

    x, label, _ = next(loaded.iterate("test"))
    assert x.shape == (12,) and x.dtype == np.int32 and label == 0
    read = [known[number] for number in x[:6]]
    assert read == ["[CLS]", "own", "words", "of", "rec", "."]


def test_threads_stay_on_one_side_of_validation(tmp_path):
    folder = write_newsgroups(tmp_path / "20news", each=40)
    loaded = data.load("newsgroups", folder, validation_fraction=0.25, **SIZE)
    groups = {s: {r.group for r in loaded.recordings(s)} for s in ("train", "validation")}
    assert groups["train"] and groups["validation"]
    assert not groups["train"] & groups["validation"]
    assert len(loaded.recordings("test")) == 80
    assert len(loaded.recordings("train")) + len(loaded.recordings("validation")) == 80


def test_posts_that_are_empty_then_are_counted_and_left_out(tmp_path):
    folder = write_newsgroups(tmp_path / "20news")
    empty = folder / "20news-bydate-test" / "sci.med" / "1000"
    empty.write_text("Subject: x\n\n> all of it is quoted\n")
    loaded = data.load("newsgroups", folder, **SIZE)
    assert len(loaded.recordings("test")) == 23
    assert any("1 posts have no word left" in n and "sci.med/1000" in n for n in loaded.notes)


def test_a_group_of_one_side_alone_is_named(tmp_path):
    folder = write_newsgroups(tmp_path / "20news")
    (folder / "20news-bydate-test" / "sci.space").mkdir()
    with pytest.raises(DataError, match="differ between training and test: sci.space"):
        data.load("newsgroups", folder, **SIZE)


def test_texts_are_one_row(tmp_path):
    folder = write_newsgroups(tmp_path / "20news")
    with pytest.raises(DataError, match=r"image_size is \(16, 16\); texts are one row of pieces"):
        data.load("newsgroups", folder, image_size=(16, 16))
    with pytest.raises(DataError, match="TextSpec.length is 2; it must be 3 to"):
        data.load("newsgroups", folder, image_size=(1, 2))


def test_a_vocabulary_is_cut_to_the_most_frequent_pieces(tmp_path):
    given = tmp_path / "checkpoint"
    given.mkdir()
    pieces = [*SPECIAL, "zebra", "of", "words", "own", "caf", "##e", "rec", "."]
    (given / "vocab.txt").write_text("\n".join(pieces))
    folder = write_newsgroups(tmp_path / "20news")

    def load(size: int):
        return data.load("newsgroups", folder, vocabulary=str(given), vocab_size=size, **SIZE)

    assert load(50).input_files["vocab.txt"] == (given / "vocab.txt").read_bytes()
    small = load(9)
    # as often as each other: "of", "words", "own", "caf", "##e" come in every post
    assert vocabulary_of(small) == [*SPECIAL, "of", "words", "own", "caf", "##e"]
    assert any("12 pieces cut to the 9 that are most frequent" in note for note in small.notes)
    # what is not there any more is unknown, and all else read as before
    known = vocabulary(small.input_files["vocab.txt"])
    assert list(piece_numbers("own zebra café", known)) == [6, 1, 7, 8]
    assert load(9).contents() != load(8).contents()

    (given / "vocab.txt").write_text("one\ntwo")
    with pytest.raises(DataError, match=r"has no \[PAD\]"):
        load(9)
    with pytest.raises(DataError, match="cannot be read"):
        data.load("newsgroups", folder, vocabulary=str(tmp_path / "nowhere"), **SIZE)


def test_a_vocabulary_that_is_made_writes_rare_words_in_letters():
    made = texts.made_vocabulary(["the cat and the dog", "the bat"], 40)
    pieces = made.decode().split()
    assert pieces[:4] == list(SPECIAL) and pieces[4] == "t" and len(pieces) == len(set(pieces))
    known = vocabulary(made)
    assert [pieces[n] for n in piece_numbers("the tab", known)] == ["the", "t", "##a", "##b"]
    assert len(texts.made_vocabulary(["the cat and the dog"], 9).split()) == 9
    assert made == texts.made_vocabulary(["the bat", "the cat and the dog"], 40)
