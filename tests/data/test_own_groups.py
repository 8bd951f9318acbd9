"""Names of groups, however they are written: two spellings of one never stand on two sides."""

import unicodedata
from pathlib import Path

import pytest

from edvit_tf.data.folder import survey
from tests.support.data_files import write_picture


def decomposed(name):
    return unicodedata.normalize("NFD", name)


def write_pictures(folder: Path, names) -> None:
    for value, name in enumerate(names):
        write_picture(folder / name, value=20 * value)


def groups(found) -> dict[str, set[str]]:
    """The files of each group, by name (NFC)."""
    together: dict[str, set[str]] = {}
    for path, group in found.groups.items():
        together.setdefault(group, set()).add(unicodedata.normalize("NFC", path.name))
    return together


def test_a_group_of_a_table_is_one_however_it_is_written(tmp_path):
    write_pictures(tmp_path, ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"])
    spellings = ("Caf\u00e9", decomposed("Caf\u00e9"), "caf\u00e9", "CAF\u00c9 \u200b", "garden")
    rows = [f"{'aabbb'[i]}/{i + 1}.png,{'aabbb'[i]},{spellings[i]}" for i in range(5)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,group", *rows]), encoding="utf-8")

    found = survey(tmp_path / "t.csv", is_divided=False)
    assert groups(found) == {
        "Caf\u00e9": {"1.png", "2.png", "3.png", "4.png"},
        "garden": {"5.png"},
    }
    assert any("1 names of groups are written in several ways" in note for note in found.notes)


@pytest.mark.parametrize(
    "group_by", [r"(\w+)_\d+", r"/(.*)_\d+", "(caf\u00e9|tea)_", decomposed("(caf\u00e9|tea)_")]
)
def test_a_group_by_name_is_one_however_the_disk_stores_it(tmp_path, group_by):
    cafe = "caf\u00e9"
    mine = [f"a/{decomposed(cafe)}_1.png", f"b/{cafe}_2.png", f"b/{cafe.upper()}_3.png"]
    if cafe in unicodedata.normalize("NFC", group_by):
        mine = mine[:2]
    write_pictures(tmp_path, [*mine, "a/tea_1.png", "b/tea_2.png"])

    found = survey(tmp_path, group_by=group_by, is_divided=False)
    together = {frozenset(names) for names in groups(found).values()}
    assert together == {
        frozenset(unicodedata.normalize("NFC", Path(name).name) for name in mine),
        frozenset({"tea_1.png", "tea_2.png"}),
    }
    assert not any("tells nothing" in note for note in found.notes)
