"""Texts of one's own: folders of files, or a table that holds them, as people have them."""

import codecs
import csv
import unicodedata

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.data import own_table
from edvit_tf.data.folder import survey
from edvit_tf.device.model.text import MAX_TEXT_BYTES
from edvit_tf.errors import DataError
from tests.support.data_files import write_picture, write_texts, write_wav


def load(folder, **options):
    return data.load("folder", folder, **{"image_size": (1, 16), **options})


def words_of(loaded, split: str) -> list[list[str]]:
    """What a model reads of each text of a split."""
    pieces = loaded.input_files["vocab.txt"].decode().split("\n")
    return [[pieces[n] for n in x if n] for x, _, _ in loaded.iterate(split)]


def write_table(path, rows, header=("text", "label"), encoding="utf-8", delimiter=","):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


TEXT = "Caf\u00e9 \u4e2d praiseful"
ROWS = [(f"The {name} of number {i}", name) for name in ("bad", "good") for i in range(6)]


def test_a_folder_of_texts_is_a_data_set_with_a_vocabulary_of_its_own(tmp_path):
    folder = write_texts(tmp_path / "reviews", 10)
    (folder / "README.txt").write_text("About these reviews.")
    found = survey(folder)
    assert (found.kind, found.labels, found.items) == ("text", ("blame", "praise"), "texts")
    assert found.counted(1) == "1 text" and min(found.words) == 13

    loaded = load(folder)
    assert loaded.spec.shape == (16,) and loaded.spec.kind == "text"
    assert {s: len(r) for s, r in loaded.splits.items()} == {
        "train": 14,
        "validation": 2,
        "test": 4,
    }
    (first, *_) = words_of(loaded, "test")
    assert first[:4] == ["[CLS]", "the", "blameful", "thing"] and first[-1] == "[SEP]"
    assert any("made of the training texts" in note for note in loaded.notes)
    (folder / "praise" / "00.txt").write_text("something else")
    assert load(folder).contents() != loaded.contents()


def test_beside_pictures_and_sound_a_text_is_a_note(tmp_path):
    folder = write_texts(tmp_path / "birds")
    for name in ("praise", "blame"):
        for i in range(4):
            write_wav(folder / name / f"{i}.wav", np.full(800, 0.1 + 0.01 * i), 8000)
    assert survey(folder).kind == "sound"
    found = survey(folder, kind="text")
    assert found.kind == "text" and len(found.files) == 16
    assert any("8 files that are no texts are left out" in note for note in found.notes)


def test_texts_beside_the_class_folders_are_of_no_class(tmp_path):
    folder = write_texts(tmp_path / "reviews")
    (folder / "late.txt").write_text("of which class?")
    with pytest.raises(DataError, match="1 file lies beside the class folders .*late.txt"):
        survey(folder)


def test_folders_of_a_split_are_kept(tmp_path):
    for split, each in (("train", 6), ("val", 2), ("test", 3)):
        for file in write_texts(tmp_path / "own" / split, each).glob("*/*.txt"):
            file.write_text(f"{file.read_text()} Of {split}.")
    loaded = load(tmp_path / "own")
    assert [len(loaded.splits[s]) for s in ("train", "validation", "test")] == [12, 4, 6]

    known = (tmp_path / "own/train/praise/00.txt").read_text()
    (tmp_path / "own/test/praise/00.txt").write_text(f"{known}\n")
    with pytest.raises(DataError, match="is both in the train and in the test split"):
        load(tmp_path / "own")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "be", "utf-32"])
def test_every_encoding_that_names_itself_is_read_alike(tmp_path, encoding):
    folder = write_texts(tmp_path / "own", 20)
    (folder / "praise" / "other.txt").write_bytes(
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")
        if encoding == "be"
        else TEXT.encode(encoding)
    )
    loaded = load(folder, validation_fraction=0.01, test_fraction=0.01)
    read = [words for split in loaded.splits for words in words_of(loaded, split)]
    assert ["[CLS]", "cafe", "\u4e2d", "praiseful", "[SEP]"] in read
    assert not loaded.skipped


@pytest.mark.parametrize(
    "content, words",
    [
        (b"caf\xe9", r"no text in UTF-8 \(byte 3 is 0xe9\)"),
        ("good day".encode("utf-16-le"), "a zero byte .*UTF-16 without its signature"),
        (b"good\0day", "a zero byte"),
        (b"\xff\xfeg", "no text in UTF-16"),
        (b"", "it is empty"),
        (b" \n\t ", "it is empty"),
        (b"\xe2\x80\x8b", "no word in it"),
        (b"w " * (MAX_TEXT_BYTES // 2 + 1), "1,048,578 bytes of text; at most 1,048,576 are read"),
    ],
)
def test_what_is_no_text_is_named_counted_and_left_out(tmp_path, content, words):
    folder = write_texts(tmp_path / "own", 20)
    bad = folder / "praise" / "odd.txt"
    bad.write_bytes(content)
    found = survey(folder)
    assert [one.path for one in found.skipped] == ["own/praise/odd.txt"]
    assert len(found.files) == 40
    for i in range(3):
        (folder / "blame" / f"odd{i}.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"4 of 44 recordings of own cannot be read.*{words}"):
        survey(folder)


def test_the_largest_text_is_read(tmp_path):
    folder = write_texts(tmp_path / "own", 20)
    (folder / "praise" / "long.txt").write_bytes(b"w " * (MAX_TEXT_BYTES // 2))
    found = survey(folder)
    assert len(found.files) == 41 and max(found.words) == 512


def test_equal_texts_stay_on_one_side_whatever_their_encoding(tmp_path):
    folder = write_texts(tmp_path / "own", 12)
    for i in range(12):
        text = (folder / "praise" / f"{i:02d}.txt").read_text()
        copy = text.upper().replace(" ", "\r\n  ")
        (folder / "praise" / f"copy of {i}.txt").write_text(copy, encoding="utf-16")
    found = survey(folder)
    assert len(set(found.groups.values())) == 24
    assert any("12 texts are copies of others" in note for note in found.notes)
    loaded = load(folder)
    groups = [{r.group for r in loaded.recordings(s)} for s in loaded.splits]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 24


def test_equal_texts_stay_on_one_side_however_their_accents_are_written(tmp_path):
    folder = write_texts(tmp_path / "own", 12)
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, "D\u00e9j\u00e0 vu, \u00c9mile")
        (folder / "praise" / f"{form}.txt").write_text(text, encoding="utf-8")
    found = survey(folder)
    assert len(found.files) == 26 and len(set(found.groups.values())) == 25


@pytest.mark.parametrize(
    "encoding, delimiter", [("utf-8", ","), ("utf-8-sig", ";"), ("utf-16", "\t")]
)
def test_a_table_holds_the_texts_themselves(tmp_path, encoding, delimiter):
    rows = [*ROWS, ('Two\nlines, and a "quotation"', "good"), ("after them", "good")]
    table = write_table(tmp_path / "own.csv", rows, encoding=encoding, delimiter=delimiter)
    found = survey(table)
    assert (found.name, found.kind, found.labels) == ("own", "text", ("bad", "good"))
    assert found.per_class == {"bad": 6, "good": 8}
    # known by the line that it begins in
    assert [file.path.name for file in found.files][-2:] == ["line 14", "line 16"]
    loaded = load(table, validation_fraction=0.01, test_fraction=0.01)
    read = [words for split in loaded.splits for words in words_of(loaded, split)]
    assert any(words[1:4] == ["two", "lines", ","] for words in read)


def test_groups_and_copies_of_a_table_stay_on_one_side(tmp_path):
    rows = [(f"{text} {i}", label, f"customer {i % 4}") for i, (text, label) in enumerate(ROWS)]
    rows += [(rows[0][0].upper(), "bad", ""), (rows[1][0], "good", "")]
    found = survey(write_table(tmp_path / "own.csv", rows, ("text", "label", "group")))
    assert len(set(found.groups.values())) == 4
    assert any("1 text is there in two classes" in note for note in found.notes)


def test_what_many_groups_say_word_for_word_does_not_make_them_one(tmp_path):
    rows = []
    for i in range(12):
        label = ROWS[i][1]
        rows += [(*ROWS[i], f"customer {i}"), ("Thank you!", label, f"customer {i}")]
        # twice of one customer is no reason to leave it out
        rows.append((ROWS[i][0].upper(), label, f"customer {i}"))
    found = survey(write_table(tmp_path / "own.csv", rows, ("text", "label", "group")))
    # of each class one greeting is kept, and the two customers are one group
    assert len(found.files) == 26 and len(set(found.groups.values())) == 11
    assert any("10 texts are left out, which another group says" in note for note in found.notes)
    loaded = load(tmp_path / "own.csv")
    assert sum(len(loaded.splits[split]) for split in loaded.splits) == 26
    # nothing is divided where all is for the test
    assert len(survey(tmp_path / "own.csv", is_divided=False).files) == 36


def test_texts_are_asked_of_a_folder_of_pictures_in_vain(tmp_path):
    for name in ("robin", "wren"):
        write_picture(tmp_path / "own" / name / "0.png")
    with pytest.raises(DataError, match="'robin', 'wren' in own hold no text"):
        survey(tmp_path / "own", kind="text")


def test_a_table_of_text_files_may_lie_beside_them(tmp_path):
    (tmp_path / "more").mkdir()
    rows = []
    for i, (text, label) in enumerate(ROWS):
        name = f"more/{i}.txt" if i % 2 else f"{i}.txt"
        (tmp_path / name).write_text(text)
        rows.append((name, label))
    found = survey(write_table(tmp_path / "own.csv", rows, ("file", "label")))
    assert found.kind == "text" and len(found.files) == 12


def test_a_large_file_of_zero_bytes_is_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(own_table, "MAX_LIST_BYTES", 1 << 20)
    (tmp_path / "own.csv").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(DataError, match="own.csv has more than 1 MiB"):
        survey(tmp_path / "own.csv")


def test_a_text_is_known_in_another_table_and_in_a_file(tmp_path):
    """What was learnt is told by what it says: line 2 of another table is another text."""
    loaded = load(write_table(tmp_path / "own.csv", ROWS))
    again = write_texts(tmp_path / "files")
    (again / "praise" / "00.txt").write_text(ROWS[0][0])
    known = {d for split in loaded.splits for d in loaded.file_digests(split).values()}
    files = load(again)
    met = {i for split in files.splits for i, d in files.file_digests(split).items() if d in known}
    assert met == {"praise/00.txt"} and len(known) == 12

    (tmp_path / "b").mkdir()
    moved = load(write_table(tmp_path / "b" / "own.csv", ROWS[::-1]))
    ids = [{r.id for s in one.splits for r in one.recordings(s)} for one in (loaded, moved)]
    assert not ids[0] & ids[1]


def test_a_long_text_fits_into_a_field(tmp_path):
    before = csv.field_size_limit()
    table = write_table(tmp_path / "own.csv", [*ROWS, ("word " * 200_000, "good")])
    assert max(survey(table).words) == 512
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    "lines, words",
    [
        (
            ["It broke at once,bad", "Fine,good"],
            "has the columns 'it broke at once', 'bad', and no",
        ),
        (["x" * 500 + ",bad", "Fine,good"], f"has the columns '{'x' * 40}\\.\\.\\.', 'bad'"),
        (["text,stars", "Fine,5"], "'text', 'stars', and no label"),
        (["text,file,label", "Fine,a.txt,good"], "both a column file and a column text"),
        (["text,label", "Fine,", "Bad,bad"], "Line 2 of own.csv has no label"),
        (["text,label"], "own.csv has no rows"),
        (
            ["text,label", "Fine,good", '"Never closed,bad', "Well,good", "Oh,bad"],
            "begins in line 3 of own.csv is no CSV",
        ),
        (
            ["text,label", '"Closed by the next,bad', '"Well,good', "Oh,bad"],
            "begins in line 2 of own.csv is no CSV .*are doubled",
        ),
        (["text,label", "Fine,good", "Well,good"], "has one class, 'good'"),
        (["text,label", ",good", ",bad", ",bad"], "3 of 3 recordings of own cannot be read"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, lines, words):
    (tmp_path / "own.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=words):
        survey(tmp_path / "own.csv")


def test_a_text_in_no_known_script_is_left_out_when_it_is_read(tmp_path):
    folder = write_texts(tmp_path / "own", 20)
    (folder / "praise" / "runes.txt").write_text("\u16a0\u16a2\u16a6", encoding="utf-8")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "thing", "is", "of"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    loaded = load(folder, vocabulary=str(tmp_path / "vocab.txt"))
    assert sum(len(words_of(loaded, split)) for split in loaded.splits) == 40
    assert [one.path for one in loaded.skipped] == ["praise/runes.txt"]
    assert "of which the vocabulary knows no piece" in loaded.skipped[0].reason
