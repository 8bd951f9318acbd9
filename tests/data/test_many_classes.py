"""Caltech-101 with all its classes, and Omniglot: layouts, splits, and what is refused."""

import shutil

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.errors import DataError
from tests.support.data_files import write_caltech, write_caltech101, write_omniglot, write_picture

SIZE = {"image_size": (12, 12)}
ALPHABETS = ("Braille", "Greek")


def drawers(loaded, split) -> set[str]:
    return {r.group for r in loaded.recordings(split)}


@pytest.fixture
def objects(tmp_path):
    """The folder of 50 classes of ten pictures."""
    return write_caltech101(tmp_path) / "101_ObjectCategories"


def test_caltech101_has_every_class_but_the_background(objects):
    loaded = data.load("caltech101", objects.parent, **SIZE)
    assert loaded.labels == tuple(f"thing{i:02d}" for i in range(50))
    assert {s: loaded.size(s) for s in loaded.splits} == {
        "train": 360,
        "validation": 40,
        "test": 100,
    }
    # two of each class are tested on, and the splits share no picture
    tested = [r.label for r in loaded.recordings("test")]
    assert np.bincount(tested).tolist() == [2] * 50
    ids = [r.id for rs in loaded.splits.values() for r in rs]
    assert len(set(ids)) == 500

    x, _, _ = next(iter(loaded.iterate("test")))
    assert x.shape == (12, 12, 3) and x.dtype == np.uint8
    other = data.load("caltech101", objects.parent, seed=1, **SIZE)
    assert other.split_ids("test") != loaded.split_ids("test")


def test_a_sample_of_caltech101_is_not_all_of_it(tmp_path):
    write_caltech(tmp_path, {f"c{i}": 10 for i in range(10)})
    with pytest.raises(DataError, match=r"(?s)No caltech101 data found.*at least 50.*caltech256"):
        data.load("caltech101", tmp_path, **SIZE)


def test_caltech101_errors(objects):
    for path in (objects / "thing07").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="101_ObjectCategories/thing07 holds no pictures"):
        data.load("caltech101", objects, **SIZE)

    shutil.rmtree(objects / "thing07")
    shutil.copytree(objects / "thing08", objects / "Thing08")
    with pytest.raises(DataError, match="Two class folders have one name"):
        data.load("caltech101", objects, **SIZE)


def test_omniglot_deals_drawers_out(tmp_path):
    loaded = data.load("omniglot", write_omniglot(tmp_path, drawers=9), **SIZE)
    assert loaded.labels == ("character01", "character02", "character03")
    assert {s: loaded.size(s) for s in loaded.splits} == {"train": 12, "validation": 6, "test": 9}

    # the same people for every character, each on one side
    sides = [drawers(loaded, split) for split in loaded.splits]
    assert [len(side) for side in sides] == [4, 2, 3]
    assert len(set.union(*sides)) == 9
    for recording in loaded.recordings("test"):
        drawer = int(recording.id.split("_")[1].removesuffix(".png"))
        assert recording.group == f"drawer-{drawer}"

    # black or white by who drew
    for x, _, index in loaded.iterate("train"):
        drawer = int(loaded.recordings("train")[index].group.split("-")[1])
        assert x.shape == (12, 12, 1) and x.dtype == np.uint8 and (x == 255 * (drawer % 2)).all()

    again, other = (data.load("omniglot", tmp_path, seed=s, **SIZE) for s in (0, 1))
    assert drawers(again, "test") == drawers(loaded, "test") != drawers(other, "test")


def test_omniglot_as_it_is_published(tmp_path):
    write_omniglot(tmp_path / "python/images_background", characters=2, alphabets=ALPHABETS)
    loaded = data.load("omniglot", tmp_path, **SIZE)
    assert loaded.labels == (
        "Braille-character01",
        "Braille-character02",
        "Greek-character01",
        "Greek-character02",
    )
    assert loaded.source.endswith("python/images_background")

    write_omniglot(tmp_path / "python/images_evaluation", characters=2, alphabets=ALPHABETS)
    with pytest.raises(DataError, match="Several omniglot folders found.*background.*evaluation"):
        data.load("omniglot", tmp_path, **SIZE)


@pytest.mark.parametrize("options", [{}, {"test_drawers": 5, "validation_drawers": 5}])
def test_omniglot_needs_somebody_to_train_on(tmp_path, options):
    write_omniglot(tmp_path, drawers=10 if options else 5)
    with pytest.raises(DataError, match="nobody is left to train on"):
        data.load("omniglot", tmp_path, **options, **SIZE)


@pytest.mark.parametrize("name", ["drawing.png", "0001.png", "0001_01.jpg", "0001_x.png"])
def test_a_name_that_does_not_tell_who_drew_is_refused(tmp_path, name):
    write_omniglot(tmp_path)
    write_picture(tmp_path / "character02" / name)
    with pytest.raises(DataError, match=f"character02/{name} does not tell who drew it"):
        data.load("omniglot", tmp_path, **SIZE)


def test_omniglot_folders_without_drawings_are_named(tmp_path):
    write_omniglot(tmp_path)
    (tmp_path / "character09").mkdir()
    with pytest.raises(DataError, match="character09 holds no drawings"):
        data.load("omniglot", tmp_path, **SIZE)

    # a character that some drawers left out is still one, unless nobody is left to learn it from
    (tmp_path / "character09").rmdir()
    trained = data.load("omniglot", tmp_path, **SIZE).recordings("train")
    for recording in trained:
        if recording.label == 0:
            recording.where.unlink()
    with pytest.raises(DataError, match="'character01' has no recording in the train"):
        data.load("omniglot", tmp_path, **SIZE)


def test_a_damaged_drawing_is_named_and_left_out(tmp_path, capsys):
    write_omniglot(tmp_path, drawers=12)
    (tmp_path / "character01/0000_03.png").write_bytes(b"")
    (tmp_path / "character01/notes.txt").write_text("mine")
    loaded = data.load("omniglot", tmp_path, **SIZE)
    assert [s.reason for s in loaded.skipped] == ["the file is empty"]
    assert "0000_03.png" in capsys.readouterr().err
    assert any("notes.txt" in note and "drawings" in note for note in loaded.notes)
    assert sum(loaded.size(split) for split in loaded.splits) == 35
