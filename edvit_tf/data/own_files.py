"""Which files a folder of one's own holds, and what class each is of, by where it lies.

    birds/robin/IMG_1.jpg            one folder a class
    birds/train/robin/IMG_1.jpg      the same in train/, and validation/ or test/ if they are there
    birds.csv                        a table (own_table.py), of files or of the texts themselves

Files in .txt are texts where there are no pictures and no sound; beside those they are notes.

What belongs to no class is an error: a file that was silently left out would be missed too late.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.errors import DataError

from .audio import COMPRESSED, OTHER_SOUNDS, SUFFIXES, starts_as_sound
from .dataset import Skipped, TextRow
from .folders import (
    IMAGE_SUFFIXES,
    OTHER_IMAGES,
    Found,
    class_folders,
    files,
    given_folder,
    has_folders,
    is_folder,
    listing,
    no_picture,
    note_others,
    subfolders,
)
from .names import alike, names_a_class, printable, spelled
from .own_table import Row, read_table

PICTURES = "pictures"
SOUND = "sound"
TEXT = "text"
KINDS = (PICTURES, SOUND, TEXT)
ITEMS = {PICTURES: "pictures", SOUND: "recordings", TEXT: "texts"}
TEXT_SUFFIXES = (".txt",)
_NOTES = ("readme", "license", "licence", "notes", "about", "changelog")  # on texts, no texts
# What the folders of a split are called.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
LAYOUT = """  FOLDER/robin/IMG_0001.jpg ..., FOLDER/wren/...   one folder a class, files in it
or the same in FOLDER/train/, FOLDER/validation/ and FOLDER/test/
or a table FILES.csv with the columns file,label or text,label, and group where there are some"""


@dataclass(frozen=True)
class OwnFile:
    """A file, and what its place says of it."""

    path: Path  # of a text that stands in a table the table's, and its line: no file
    key: str  # the path relative to the folder, to show and to match
    label: str
    split: str = ""  # "": to be drawn
    group: str = ""  # "": none was said
    text: str | None = None  # what stands in a table itself

    @property
    def kind(self) -> str | None:
        """What it is meant as; None: as nothing that is read."""
        return TEXT if self.text is not None else _kind_of(self.path)


@dataclass(frozen=True)
class OwnFiles:
    """The files of one kind, by class, and where they are."""

    place: Found
    kind: str
    files: tuple[OwnFile, ...]
    is_table: bool = False  # which says what class a file is of, whatever its path

    @property
    def labels(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted({file.label for file in self.files}))


def own_files(
    given: str | Path, kind: str | None, notes: list[str], skipped: list[Skipped]
) -> OwnFiles:
    """The files of a folder or a table that are of `kind`; None: of the only kind that is there.

    Files of no kind that is read are counted in `notes`. DataError: no such folder, no class or
    one, files beside the classes, folders within a class, an empty class, pictures and sound.
    """
    folder = Path(given_folder(given))
    # os.path looks at what Path.is_file raises at: too long a name, no permission
    is_table = os.path.isfile(folder)
    if is_table:
        table = Path(folder.resolve())
        place = Found(table.parent, printable(table.stem))
        found = _of_table(table, place, notes)
    else:
        if not is_folder(folder):
            raise DataError(f"{printable(str(folder))}: {listing(folder)}. Give:\n{LAYOUT}")
        folder = folder.resolve()
        place = Found(folder, printable(folder.name))
        found = _of_folders(place, skipped)

    kind, chosen = _of_one_kind(place, found, kind, notes)
    if kind == TEXT and not is_table:
        _check_texts_beside(place, chosen)
    labels = {file.label for file in found}
    _check_labels(sorted(labels), place)

    empty = sorted(labels - {file.label for file in chosen})
    if empty:
        raise DataError(
            f"{_listed(empty)} in {place.shown} "
            f"{'holds' if len(empty) == 1 else 'hold'} no {kind}. Fill the class, or remove it."
        )
    return OwnFiles(place, kind, tuple(chosen), is_table)


def _of_table(table: Path, place: Found, notes: list[str]) -> list[OwnFile]:
    rows = read_table(table, notes)
    if rows[0].text is not None:
        return [_of_row(row, place) for row in rows]
    keys = _table_keys([row.path for row in rows], place.folder)
    return [
        OwnFile(row.path, printable(keys[row.path]), row.label, group=row.group) for row in rows
    ]


def _of_row(row: Row, place: Found) -> OwnFile:
    """A text of a table, known by its line and by what it says: the same line of another table is
    another text.
    """
    assert row.text is not None
    content = TextRow(row.text).digest().hex()[:8]
    key = f"{place.shown}: {row.path.name} ({content})"
    return OwnFile(row.path, key, row.label, group=row.group, text=row.text)


def _table_keys(paths: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Each path relative to the table's folder; of files elsewhere the last folder and name, and
    more folders where two would have one key: they would be one group.
    """
    inside, outside = {}, {}
    for path in paths:
        # a link's own name is known to its user, not that of what it leads to
        whole = Path(os.path.abspath(path))
        if not whole.is_relative_to(folder):
            whole = path.resolve()
        if whole.is_relative_to(folder):
            inside[path] = whole.relative_to(folder).as_posix()
        else:
            outside[path] = whole.parts

    keys: dict[Path, str] = inside
    for count in range(2, max(map(len, outside.values()), default=0) + 1):
        keys = inside | {path: "/".join(parts[-count:]) for path, parts in outside.items()}
        if len(set(keys.values())) == len(paths):
            break
    return keys


def _of_folders(place: Found, skipped: list[Skipped]) -> list[OwnFile]:
    """Every file of every class folder, whatever it is."""
    classes = class_folders(place, skipped)
    splits = _split_folders(place, classes)
    if not splits:
        return _of_classes(place, classes, "")

    found = []
    for split, folder in splits.items():
        inner = Found(folder, f"{place.shown}/{printable(folder.name)}")
        for file in _of_classes(inner, class_folders(inner, skipped), split):
            key = f"{printable(folder.name)}/{file.key}"
            found.append(OwnFile(file.path, key, file.label, split))
    _check_trained(place, found)
    return found


def _split_folders(place: Found, folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of a split, by what they are for; none where "train" is a class of trains."""
    named = {folder: SPLIT_NAMES.get(folder.name.casefold()) for folder in folders}
    train = [folder for folder, split in named.items() if split == "train" and has_folders(folder)]
    if not train:
        return {}

    others = [printable(folder.name) for folder, split in named.items() if split is None]
    if others:
        raise DataError(
            f"{place.shown} holds {printable(train[0].name)}/ with classes in it, and beside it "
            f"{_listed(others)}. Give class folders alone, or train/, validation/ and test/ alone."
        )

    splits: dict[str, Path] = {}
    for folder, split in named.items():
        if split in splits:
            raise DataError(
                f"{place.shown} holds both {printable(splits[split].name)}/ and "
                f"{printable(folder.name)}/, which mean the same. Put them into one."
            )
        splits[str(split)] = folder
    return splits


def _of_classes(place: Found, classes: Sequence[Path], split: str) -> list[OwnFile]:
    beside = [path for path in files(place.folder) if _kind_of(path) in (PICTURES, SOUND)]
    if not classes:
        what = listing(place.folder)
        if beside:
            what = f"{len(beside)} file{'s' * (len(beside) != 1)} and no class folders"
        raise DataError(f"{place.shown}: {what}. Expected:\n{LAYOUT}")
    if beside:
        raise _beside(beside, place.shown)

    found = []
    for folder in classes:
        inside = subfolders(folder)
        if inside:
            raise _nested(place, classes, folder, inside)
        for path in files(folder):
            found.append(OwnFile(path, place_key(place, path), folder.name, split))
        if not found or found[-1].path.parent != folder:
            raise DataError(
                f"The class folder {place.relative(folder)} is empty. Fill it, or remove it."
            )
    return found


def _beside(beside: Sequence[Path], shown: str) -> DataError:
    many = f"{len(beside)} files lie" if len(beside) > 1 else "1 file lies"
    return DataError(
        f"{many} beside the class folders of {shown}, e.g. {printable(beside[0].name)}, "
        "which is of no class. Move each into the folder of its class, or out of here."
    )


def _check_texts_beside(place: Found, chosen: Sequence[OwnFile]) -> None:
    """DataError for texts beside the class folders, but a README and the like."""
    for folder in sorted({file.path.parent.parent for file in chosen}):
        beside = [
            path
            for path in files(folder)
            if _kind_of(path) == TEXT and not path.stem.casefold().startswith(_NOTES)
        ]
        if beside:
            raise _beside(beside, place.relative(folder).removesuffix("/."))


def place_key(place: Found, path: Path) -> str:
    """The path of a file relative to the folder, to show."""
    return printable(path.relative_to(place.folder).as_posix())


def _nested(
    place: Found, classes: Sequence[Path], folder: Path, inside: Sequence[Path]
) -> DataError:
    shown = ", ".join(printable(one.name) for one in inside[:3])
    # the classes lie one folder deeper, as in many archives
    advice = (
        f"Give {printable(str(folder))} if those are the classes."
        if len(classes) == 1
        else "Move their files up, or write a table (file,label,group) and give that."
    )
    return DataError(
        f"The class folder {place.relative(folder)} holds folders ({shown}); a class has its files "
        f"directly in its folder. {advice}"
    )


def _check_trained(place: Found, found: Sequence[OwnFile]) -> None:
    """DataError for a class that is tested on and never trained on."""
    trained = {file.label for file in found if file.split == "train"}
    astray = sorted({file.label for file in found} - trained)
    if astray:
        raise DataError(
            f"{_listed(astray)} of {place.shown} has no folder in train/; every class is trained "
            "on. Add it there, or remove it from the others."
        )


def _of_one_kind(
    place: Found, found: Sequence[OwnFile], kind: str | None, notes: list[str]
) -> tuple[str, list[OwnFile]]:
    """(kind, the files meant as such); the others are noted."""
    of_kind: dict[str | None, list[OwnFile]] = {name: [] for name in (*KINDS, None)}
    for file in found:
        of_kind[file.kind].append(file)
    pictures, sounds = of_kind[PICTURES], of_kind[SOUND]

    if kind is None:
        if not any(of_kind[name] for name in KINDS):
            read = ", ".join((*IMAGE_SUFFIXES, *SUFFIXES, *COMPRESSED, *TEXT_SUFFIXES))
            raise DataError(
                f"{len(found)} files in {place.shown}, and none is a picture, a recording or a "
                f"text, e.g. {found[0].key}. Read are {read}."
            )
        if pictures and sounds:
            raise DataError(
                f"{place.shown} holds {_counted(pictures, 'picture')} and "
                f"{_counted(sounds, 'recording')}; a model takes one kind. Say "
                "which: --kind pictures or --kind sound."
            )
        kind = PICTURES if pictures else SOUND if sounds else TEXT

    others = [file.path for name, some in of_kind.items() if name != kind for file in some]
    notes += note_others(others, place, ITEMS[kind])
    return kind, of_kind[kind]


def _counted(some: Sequence[OwnFile], word: str) -> str:
    """How many, and the first."""
    return f"{len(some)} {word}{'s' * (len(some) != 1)} (e.g. {some[0].key})"


def _kind_of(path: Path) -> str | None:
    """What a file is meant as, by its suffix, else by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in (*IMAGE_SUFFIXES, *OTHER_IMAGES):
        return PICTURES
    if suffix in (*SUFFIXES, *OTHER_SOUNDS):
        return SOUND
    if suffix in TEXT_SUFFIXES:
        return TEXT
    if no_picture(path) is None:
        return PICTURES
    return SOUND if os.path.isfile(path) and starts_as_sound(path) else None


def _check_labels(labels: Sequence[str], place: Found) -> None:
    """DataError: fewer than two classes, a name that is no line of text, two that look alike."""
    if len(labels) < 2:
        raise DataError(
            f"{place.shown} has one class, {printable(labels[0])!r}; telling apart takes two or "
            f"more. Add a folder of something else. Expected:\n{LAYOUT}"
        )

    seen: dict[str, str] = {}
    for label in labels:
        if not names_a_class(label):
            raise DataError(
                f"'{spelled(label)}' in {place.shown} cannot be the name of a class: that is one "
                "line of UTF-8 text that is seen, without control characters. Rename it."
            )
        other = seen.setdefault(alike(label), label)
        if other != label:
            raise DataError(
                f"{place.shown} has the classes '{spelled(other)}' and '{spelled(label)}', which "
                "nobody could tell apart (letters of another size, accents, spaces, characters "
                "that are not seen). Make them one, or rename one."
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(printable(name)) for name in names[:5]) + more
