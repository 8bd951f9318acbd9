"""What people's disks hold beside and in the place of recordings: named, refused, or right."""

import itertools
import os
import tempfile
import unicodedata
from pathlib import Path

import pytest

from edvit_tf import data
from edvit_tf.data.folder import survey
from edvit_tf.data.names import printable
from edvit_tf.device.model.manifest_checks import is_plain_text
from edvit_tf.errors import DataError
from tests.support.data_files import (
    tone,
    write_caltech,
    write_gtzan,
    write_picture,
    write_speech,
    write_wav,
)

OPTIONS = {"image_size": (8, 8)}


@pytest.fixture
def animals(tmp_path) -> Path:
    """Three class folders of twenty pictures."""
    write_caltech(tmp_path, {"001.ant": 20, "002.bee": 20, "003.cat": 20})
    return tmp_path / "256_ObjectCategories"


def load(animals, **options):
    return data.load("caltech256", animals, num_classes=3, **OPTIONS, **options)


def sizes(loaded) -> dict[str, int]:
    found = dict.fromkeys(loaded.labels, 0)
    for recordings in loaded.splits.values():
        for recording in recordings:
            found[loaded.labels[recording.label]] += 1
    return found


@pytest.mark.parametrize(
    "other",
    ["README.txt", "Icon\r", "labels.csv", "index.html", "Picasa.ini", "pairs.mat", "RENAME2"],
)
def test_what_is_no_picture_is_left_out_and_told_in_a_note(animals, other):
    for n in range(30):  # else this folder would be the biggest
        (animals / "002.bee" / f"{n}{other}").write_text("no picture")
    write_caltech(animals.parent, {"004.dog": 21})
    loaded = load(animals)
    assert loaded.labels == ("ant", "bee", "dog") and not loaded.skipped
    assert sizes(loaded) == {"ant": 20, "bee": 20, "dog": 21}
    (note,) = (note for note in loaded.notes if "left out" in note)
    assert note.startswith("30 files that are no pictures") and "\r" not in note


def test_a_picture_of_any_name_is_a_picture(animals):
    for name in ("a.jfif", "b", "c.JPG", "d.x"):
        write_picture(animals / "001.ant" / "x.jpg").rename(animals / "001.ant" / name)
    assert sizes(load(animals))["ant"] == 24


@pytest.mark.parametrize("suffix", [".heic", ".svg", ".jp2"])
def test_pictures_of_kinds_that_are_not_read_are_named_and_refused(animals, suffix):
    for n in range(20):
        (animals / "001.ant" / f"{n:03d}.jpg").rename(animals / "001.ant" / f"{n}{suffix}")
        (animals / "001.ant" / f"{n}{suffix}").write_bytes(b"\0\0\0\x18ftyp" + bytes(90))
    with pytest.raises(DataError, match=r"20 of 60 .*ant/0\.\w+ \(not a picture of a kind"):
        load(animals)


def test_only_pictures_of_a_kind_that_is_not_read(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.heic").write_bytes(b"\0\0\0\x18ftyp")
    with pytest.raises(DataError, match=r"2 of 2 .*not a picture of a kind that is read"):
        data.load("caltech256", tmp_path, num_classes=2, **OPTIONS)


def test_a_pointer_of_git_lfs_is_named_as_one(animals, capsys):
    (animals / "001.ant/003.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert [s.path for s in load(animals).skipped] == ["256_ObjectCategories/001.ant/003.jpg"]
    assert "git lfs pull" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["/nowhere/003.jpg", "003.jpg"])
def test_links_to_nothing_are_named(animals, capsys, to):
    lost = animals / "001.ant/003.jpg"
    lost.unlink()
    lost.symlink_to(to)
    loaded = load(animals)
    assert [(s.path, s.reason) for s in loaded.skipped] == [
        ("256_ObjectCategories/001.ant/003.jpg", "a link to nothing")
    ]
    assert sizes(loaded)["ant"] == 19
    assert "a link to nothing" in capsys.readouterr().err


def test_many_links_to_nothing_are_refused(animals):
    for n in range(8):
        (animals / f"001.ant/{n:03d}.jpg").unlink()
        (animals / f"001.ant/{n:03d}.jpg").symlink_to(f"/nowhere/{n}")
    with pytest.raises(DataError, match="8 of 60 .*a link to nothing"):
        load(animals)


def test_a_class_folder_that_is_a_link_to_nothing_is_named(animals, capsys):
    (animals / "000.ape").symlink_to("/unplugged/ape")
    loaded = load(animals)
    assert [s.path for s in loaded.skipped] == ["256_ObjectCategories/000.ape"]
    assert "000.ape: a link to nothing" in capsys.readouterr().err


def test_links_to_folders_and_files_are_followed(animals, tmp_path):
    (animals / "001.ant").rename(tmp_path / "elsewhere")
    (animals / "001.ant").symlink_to(tmp_path / "elsewhere")
    loaded = load(animals)
    assert sizes(loaded)["ant"] == 20 and not loaded.skipped


@pytest.mark.parametrize("name", ["caltech256", "gtzan", "speech_commands"])
def test_a_pipe_among_the_files_is_named_and_not_waited_for(tmp_path, name):
    if name == "caltech256":
        folder = write_caltech(tmp_path, {f"c{i}": 20 for i in range(10)})
        pipe = folder / "256_ObjectCategories/c1/pipe.jpg"
    elif name == "gtzan":
        folder = write_gtzan(tmp_path, tracks=range(4))
        pipe = folder / "genres/jazz/jazz.00009.wav"
    else:
        folder = write_speech(tmp_path, speakers=4)
        pipe = folder / "yes/00000009_nohash_0.wav"
    os.mkfifo(pipe)
    loaded = data.load(name, folder, **OPTIONS)
    assert [s.reason for s in loaded.skipped] == ["neither a file nor a folder"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("001.owl", "owl"),
        ("001.owl", "002.owl"),
        ("001.caf\u00e9", "002.cafe\u0301"),
        ("001.Owl", "002.owl"),
        ("001.owl", "002.owl "),
    ],
)
def test_two_class_folders_of_one_name_are_refused(tmp_path, one, other):
    write_caltech(tmp_path, {"003.bee": 4, one: 4, other: 4})
    with pytest.raises(DataError, match="Two class folders have one name"):
        data.load("caltech256", tmp_path, num_classes=3, **OPTIONS)


def test_two_words_of_one_name_are_refused(tmp_path):
    write_speech(tmp_path, words=("yes", "no", "No"), speakers=4, lists=False)
    with pytest.raises(DataError, match="one name, 'No' and 'no'|one name, 'no' and 'No'"):
        data.load("speech_commands", tmp_path, num_words=3, **OPTIONS)


def test_folders_in_underscores_are_no_words(tmp_path):
    write_speech(tmp_path, words=("yes", "no"), speakers=4, lists=False)
    for n in range(9):
        for name in ("_silence_", "_unknown_", "_background_noise_"):
            write_wav(tmp_path / name / f"{n:08x}_nohash_0.wav", tone(1600), 16_000)
    loaded = data.load("speech_commands", tmp_path, num_words=2, **OPTIONS)
    assert loaded.labels == ("no", "yes")
    assert any("no words and are left out: _silence_, _unknown_" in n for n in loaded.notes)


def test_notes_on_folders_whose_names_are_not_utf_8_can_be_stored(tmp_path):
    write_speech(tmp_path, words=("yes", "no"), speakers=4, lists=False)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/_caf\xe9_"))
    write_wav(folder / "00000000_nohash_0.wav", tone(1600), 16_000)
    notes = data.load("speech_commands", tmp_path, num_words=2, **OPTIONS).notes
    assert "folders in underscores are no words and are left out: _caf\\xe9_" in notes
    "".join(notes).encode()  # they can be stored


def test_folders_of_disks_and_systems_are_no_classes(animals):
    for name in ("@eaDir", "$RECYCLE.BIN", "lost+found"):
        for n in range(30):
            write_picture(animals / name / f"{n}.jpg")
    assert load(animals).labels == ("ant", "bee", "cat")


def test_a_file_whose_name_is_not_utf_8_is_read(animals):
    path = animals / "001.ant/000.jpg"
    os.rename(path, os.fsencode(path.parent) + b"/caf\xe9.jpg")
    loaded = load(animals)
    assert sizes(loaded)["ant"] == 20
    ids = [r.id for recordings in loaded.splits.values() for r in recordings]
    assert "ant/caf\\xe9.jpg" in ids
    "\n".join(ids).encode()  # it can be stored


def test_a_damaged_file_whose_name_is_not_utf_8_is_named(animals):
    (animals / "001.ant/000.jpg").unlink()
    (Path(os.fsdecode(os.fsencode(animals) + b"/001.ant/caf\xe9.jpg"))).write_bytes(b"")
    assert [s.path for s in load(animals).skipped] == ["256_ObjectCategories/001.ant/caf\\xe9.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        b"001.caf\xe9",
        b"001.two\nlines",
        b"001.a\ttab",
        b"001.\x1b[31mred",
        b"001.\xe2\x80\xa8a",  # U+2028
        b"001.",
        b"001.\xe3\x80\x80",  # nothing but U+3000
    ],
)
def test_a_class_whose_name_is_no_line_of_text_is_refused(animals, name):
    os.rename(animals / "001.ant", os.fsencode(animals) + b"/" + name)
    with pytest.raises(DataError, match=r"The class folder '001\..*Rename the folder") as caught:
        load(animals)
    str(caught.value).encode()  # it can be printed


@pytest.mark.parametrize("character", ["\u200c", "\u200d", "\xad", "\xa0", "\u3000"])
def test_a_class_of_every_script_gets_a_label_that_its_bundle_may_hold(animals, character):
    name = f"می{character}خواهم"
    os.rename(animals / "001.ant", animals / f"001.{name}")
    labels = load(animals).labels
    assert name in labels and all(is_plain_text(label) for label in labels)


def test_a_data_folder_whose_name_is_not_utf_8(animals, tmp_path):
    renamed = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    os.rename(animals, renamed)
    assert load(renamed).source == "caf\\xe9"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\udce9", "caf\\xe9"),
        ("a\nb", "a\\nb"),
        ("Icon\r", "Icon\\r"),
        ("\ud800x", "\\ud800x"),
        ("\x1b[31m", "\\x1b[31m"),
        ("猫 🐶 cafe\u0301", "猫 🐶 cafe\u0301"),
    ],
)
def test_printable(name, shown):
    assert printable(name) == shown
    assert unicodedata.normalize("NFC", printable(name)).encode()


@pytest.fixture
def nobody():
    """This test runs as a user whom folders of others can be closed to; yields a folder that he can
    reach.
    """
    if os.getuid() != 0:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("closed", ["002.bee", ".", "001.ant/003.jpg"])
def test_what_may_not_be_read_is_named(nobody, closed):
    write_caltech(nobody, {"001.ant": 20, "002.bee": 20, "003.cat": 20})
    animals = nobody / "256_ObjectCategories"
    path = animals / closed
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        if path.is_file():
            assert [s.reason for s in load(animals).skipped] == ["Permission denied"]
        else:
            with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
                load(animals)
    finally:
        path.chmod(mode)


@pytest.mark.parametrize(
    "mode, words", [(0o000, "cannot be read"), (0o100, "cannot be read"), (0o400, "not entered")]
)
def test_a_split_that_may_not_be_read_is_no_class(nobody, mode, words):
    """It was: "The class folder test holds folders"."""
    for split, label in itertools.product(("train", "test"), ("ant", "bee")):
        (nobody / split / label).mkdir(parents=True)
        (nobody / split / label / "1.png").write_bytes(b"a picture")
    (nobody / "train").chmod(mode)
    try:
        with pytest.raises(DataError, match=f"/train .*{words}"):
            survey(nobody)
    finally:
        (nobody / "train").chmod(0o700)


def test_what_may_not_be_read_is_named_where_no_data_are_found(nobody):
    write_caltech(nobody / "mine" / "closed", {"001.ant": 4})
    (nobody / "mine" / "closed").chmod(0)
    try:
        with pytest.raises(DataError, match=r"it holds closed/ \(which cannot be read\)"):
            load(nobody / "mine")
    finally:
        (nobody / "mine" / "closed").chmod(0o700)


def test_a_folder_below_one_that_may_not_be_entered(nobody):
    write_caltech(nobody / "closed", {"001.ant": 4})
    (nobody / "closed").chmod(0)
    try:
        with pytest.raises(DataError, match="No caltech256 data found"):
            load(nobody / "closed/256_ObjectCategories")
    finally:
        (nobody / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("folder", "message"),
    [("~nosuchuser/data", "home folder"), ("a\0b", "zero byte"), ("x" * 5000, "No caltech256")],
)
def test_folders_that_cannot_be(folder, message):
    with pytest.raises(DataError, match=message):
        load(folder)
