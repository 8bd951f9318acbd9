"""20 Newsgroups (Lang 1995), "by date": posts of Usenet by group. All groups that are there.

Headers, footers and quotes are taken away, as scikit-learn's `remove=` does: a header names the
group's regulars, and a quote may be of a post that is trained on.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from edvit_tf.device.errors import InputError
from edvit_tf.errors import DataError

from . import texts
from .dataset import SPLITS, Dataset, Recording, Skipped, check_skipped, report_skipped
from .folders import Found, class_folders, files, is_folder, only_one, subfolders, unusable
from .names import class_labels, printable
from .split import check_classes, split_recordings

PREFIXES = ("newsgroups", "20news")
LAYOUT = """  20news-bydate-train/<group>/<number>
  20news-bydate-test/<group>/<number>"""
OPTIONS = {**texts.OPTIONS, "validation_fraction": 0.1}
ENCODING = "latin-1"  # as scikit-learn reads them: every byte is a character
_FOLDERS = {"train": "20news-bydate-train", "test": "20news-bydate-test"}

# scikit-learn's, by which lines are quotes or say whose
_QUOTE = re.compile(r"(writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>)")
_SUBJECT = re.compile(rb"^Subject:(.*)$", re.MULTILINE | re.IGNORECASE)
_REPLY = re.compile(r"^(re|fwd?)\s*:\s*")


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds both sides, each with groups."""
    return all(subfolders(folder / name) for name in _FOLDERS.values())


def load_folders(found: list[Found], settings) -> Dataset:
    """Every group a class; the official split by date, and validation drawn from train, whole
    threads (posts of one subject) at a time. Posts without a word left are counted and left out.

    DataError: a group that one side lacks, too many unreadable files.
    """
    place = only_one("newsgroups", found)
    skipped: list[Skipped] = []
    notes: list[str] = []
    sides = {side: _groups(place, name, skipped) for side, name in _FOLDERS.items()}
    names = sorted(sides["train"])
    if names != sorted(sides["test"]):
        odd = sorted(set(names) ^ set(sides["test"]))
        raise DataError(
            f"The groups of {place.shown} differ between training and test: {', '.join(odd[:5])} "
            "are on one side alone. Get a complete copy, or remove them."
        )
    label_of = class_labels({Path(name): name for name in names})
    labels = tuple(label_of.values())

    of_side: dict[str, list[Recording]] = {}
    empty: list[str] = []
    for side, groups in sides.items():
        posts = [(label, path) for label, name in enumerate(names) for path in files(groups[name])]
        of_side[side] = _readable(place, posts, empty, skipped)
    if empty:
        notes.append(
            f"{len(empty)} posts have no word left without header, footer and quotes, and are left "
            f"out, e.g. {empty[0]}"
        )

    fraction = {"validation": settings["validation_fraction"]}
    drawn = split_recordings(of_side["train"], fraction, settings.seed)
    splits = {split: drawn[split] for split in SPLITS} | {"test": tuple(of_side["test"])}
    check_classes(splits, labels, place.shown, notes)
    return texts.text_dataset(
        "newsgroups",
        labels,
        place.shown,
        splits,
        post,
        settings,
        notes=notes,
        skipped=skipped,
    )


def post(path: Path) -> str:
    """What somebody wrote himself: a post without header, footer and quotes."""
    return without_quotes(without_footer(without_header(texts.read_text(path, ENCODING))))


def without_header(text: str) -> str:
    """What stands behind the first empty line."""
    return text.partition("\n\n")[2]


def without_quotes(text: str) -> str:
    """The lines that do not quote, nor say whose words follow."""
    return "\n".join(line for line in text.split("\n") if not _QUOTE.search(line))


def without_footer(text: str) -> str:
    """What stands before the last line that is empty or of dashes: a signature follows it."""
    lines = text.strip().split("\n")
    for place in range(len(lines) - 1, -1, -1):
        if not lines[place].strip().strip("-"):
            return "\n".join(lines[:place]) if place > 0 else text
    return text


def _groups(place: Found, name: str, skipped: list[Skipped]) -> dict[str, Path]:
    side = Found(place.folder / name, f"{place.shown}/{name}")
    if not is_folder(side.folder):
        raise DataError(f"{side.shown} is not there. Expected:\n{LAYOUT}")
    return {folder.name: folder for folder in class_folders(side, skipped)}


def _readable(
    place: Found, posts: Sequence[tuple[int, Path]], empty: list[str], skipped: list[Skipped]
) -> list[Recording]:
    """The posts that say something."""
    found = []
    for label, path in posts:
        shown = place.relative(path)
        try:
            problem = unusable(path)
            if problem is not None:
                raise InputError(problem)
            text = post(path)
        except InputError as error:
            report_skipped(skipped, shown, str(error))
            continue
        if not texts.has_words(text):
            empty.append(shown)
            continue
        key = printable("/".join(path.parts[-3:]))
        found.append(Recording(key, label, _thread(path), 1, path))
    check_skipped(skipped, len(posts), place.shown)
    return found


def _thread(path: Path) -> str:
    """The subject, without what a reply puts before it; posts of two groups may share one."""
    match = _SUBJECT.search(path.read_bytes()[:8192])
    subject = match[1].decode(ENCODING).strip().casefold() if match else ""
    while reply := _REPLY.match(subject):
        subject = subject[reply.end() :]
    return subject or printable(path.name)
