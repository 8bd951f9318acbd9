"""Files that a table names in other letters than the disk has them."""

import unicodedata

import pytest

from edvit_tf.data import named_files as module
from edvit_tf.data.folder import survey
from edvit_tf.data.named_files import named_files
from tests.support.data_files import write_picture


def decomposed(name):
    return unicodedata.normalize("NFD", name)


def test_a_table_in_composed_letters_finds_the_files_of_a_mac(tmp_path):
    names = ["caf\u00e9/\u00e9.png", "b/\u00fc.png", "b/\u00fcx.png"]
    for value, name in enumerate(names):
        write_picture(tmp_path / decomposed(name), value=20 * value)
    rows = [f"{name},{'abb'[i]}" for i, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")

    found = survey(tmp_path / "t.csv", is_divided=False)
    assert {file.key: file.label for file in found.files} == {
        decomposed(name): "abb"[i] for i, name in enumerate(names)
    }
    assert not found.notes


@pytest.fixture
def folder(tmp_path):
    for name in ("day/IMG_1.JPG", "day/n.png", "day/N.png", "day/e\u0301.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("day/IMG_1.JPG", "day/IMG_1.JPG"),
        ("Day/img_1.jpg", "day/IMG_1.JPG"),
        ("Day\\img_1.jpg", "day/IMG_1.JPG"),
        ("./DAY/../day//img_1.jpg", "day/../day/IMG_1.JPG"),
        ("DAY/N.png", "day/N.png"),
        ("DAY/\u00c9.png", "day/e\u0301.png"),
        ("day/\u00e9.png", "day/e\u0301.png"),
        ("day", None),
        ("DAY/N.PNG", None),  # two could be meant
        ("day/img_1.jpg/x", None),
        ("night/n.png", None),
        ("day/\0.png", None),
        ("", None),
    ],
)
def test_a_name_means_the_one_file_that_it_can_mean(folder, name, wanted):
    found = named_files(folder, [name])[name]
    assert found == (None if wanted is None else folder / wanted)
    absolute = f"{folder}/{name}"
    if "\\" not in name:
        assert named_files(folder / "elsewhere", [absolute])[absolute] == found


def test_a_file_that_is_named_exactly_is_not_taken_for_one_that_is_gone(folder):
    found = named_files(folder, ["day/IMG_1.JPG", "day/img_1.jpg"])
    assert found == {"day/IMG_1.JPG": folder / "day/IMG_1.JPG", "day/img_1.jpg": None}


def test_a_folder_is_listed_once_a_form(folder, monkeypatch):
    listed = []
    listdir = module.os.listdir

    def counted(path):
        listed.append(path)
        return listdir(path)

    monkeypatch.setattr(module.os, "listdir", counted)
    named_files(folder, [f"day/gone{i}.png" for i in range(50)])
    assert len(listed) == len(set(listed)) * 2 == 4
