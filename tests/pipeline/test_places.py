"""Where a run's results can never go: said before the data are looked at, by a dry run too."""

import os
from pathlib import Path

import pytest

import edvit_tf
from edvit_tf.cli.main import main
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.places import check_makeable, check_place, resolved
from tests.support.commands import run_command
from tests.support.data_files import write_picture


@pytest.fixture
def pets(tmp_path):
    """A folder of two classes, and the working directory beside it."""
    for value in range(8):
        write_picture(tmp_path / "pets" / ("cat", "dog")[value % 2] / f"{value}.png", value=value)
    return tmp_path / "pets"


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


INSIDE = "in the folder that is trained on"


@pytest.mark.parametrize("more", [["--dry-run"], [], ["--overwrite"], ["--tune", "5"]])
@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("pets/model", INSIDE),
        ("pets/cat/model", INSIDE),
        ("pets/../pets/model", INSIDE),
        ("link/model", INSIDE),
        ("pets", "is no bundle"),
        ("/", "where a file system is mounted"),
        ("loop/model", "is no path"),
    ],
)
def test_what_can_never_be_a_bundle_is_refused(pets, capsys, monkeypatch, out, words, more):
    monkeypatch.chdir(pets.parent)
    Path("link").symlink_to("pets")
    Path("loop").symlink_to("loop")
    before = everything(pets.parent)
    assert main(["train", "pets", "--base", "scratch", "--out", out, *more]) == 6
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("error: ") and not said.out
    assert everything(pets.parent) == before


def test_the_default_out_of_a_folder_that_one_is_in_is_refused(pets, capsys, monkeypatch):
    monkeypatch.chdir(pets)
    before = everything(pets)
    assert main(["train", ".", "--base", "scratch"]) == 6
    said = capsys.readouterr().err
    assert INSIDE in said and f"such as --out {pets.parent / 'exports' / 'pets'}" in said
    assert everything(pets) == before


def test_python_is_told_so_too(pets):
    with pytest.raises(OutputError, match=INSIDE):
        edvit_tf.train(pets, out=pets / "model")
    with pytest.raises(OutputError, match="mounted"):
        edvit_tf.train(pets, out="/")


@pytest.mark.parametrize("out", ["elsewhere/model", "pets.model", "pets/.models/one", "pets/.one"])
def test_beside_the_data_and_where_nobody_looks_there_is_room(pets, out):
    check_place(pets.parent / out, pets)


def test_a_table_may_lie_beside_its_bundle(pets):
    table = pets / "t.csv"
    table.write_text("file,label\n")
    check_place(pets / "model", table)
    # of a data set with a layout of its own no folder of others is read
    check_place(pets / "model", pets, is_own=False)


@pytest.mark.parametrize("place", ["out", "out.work"])
def test_data_that_overwrite_would_delete_are_not_trained_on(tmp_path, place):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    (tmp_path / place / "pets").mkdir(parents=True)
    for is_own in (True, False):
        with pytest.raises(OutputError, match="which --overwrite deletes"):
            check_place(tmp_path / "out", tmp_path / place / "pets", is_own)


@pytest.mark.parametrize("out", ["file/out", "notes/out", "taken", "/proc/out", "/proc/x/out"])
def test_a_dry_run_refuses_what_cannot_be_written(tmp_path, out):
    (tmp_path / "file").write_text("")
    (tmp_path / "notes" / "out.work").mkdir(parents=True)
    (tmp_path / "notes" / "out.work" / "thesis.txt").write_text("years of work")
    (tmp_path / "taken.work").write_text("")
    before = everything(tmp_path)
    with pytest.raises(OutputError, match="cannot be written|is not a work folder of ours"):
        check_makeable(tmp_path / out)
    assert everything(tmp_path) == before


def test_a_dry_run_leaves_nothing_where_a_bundle_could_be(tmp_path):
    check_makeable(tmp_path / "exports" / "deep" / "model")
    (tmp_path / "there").symlink_to("nowhere")
    check_makeable(tmp_path / "there")
    assert os.listdir(tmp_path) == ["there"]
    assert resolved(tmp_path / "there") == (tmp_path / "nowhere").resolve()


@pytest.mark.parametrize("out", ["/", "/proc/out"])
def test_a_recipe_s_dry_run_is_held_to_the_same(out):
    code, _, err = run_command(["recipes/mnist.py", "--smoke", "--dry-run", "--out", out])
    assert code == 6 and "error: " in err and "Traceback" not in err
