"""Which files must stay on one side of the split: bursts, parts of a recording, copies.

A model that was trained on one picture of a burst knows the others; tested on them it looks better
than it is.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from edvit_tf.device.terminal import are, counted
from edvit_tf.errors import ConfigError, DataError

from .contents import file_digests
from .names import alike, one_form, spelled
from .own_facts import Facts, Picture, Text
from .own_files import OwnFile

_EXIF = re.compile(r"exif:(\d+(?:\.\d+)?)")
# Share of the files that may tell no group, where groups were asked for.
UNTOLD_LIMIT = 0.5


def groups_of(
    files: Sequence[OwnFile],
    facts: Facts,
    group_by: str | None,
    notes: list[str],
    is_divided: bool = True,
) -> dict[Path, str]:
    """The group of each file: what a table says, `group_by`, and equal contents, taken together.

    `group_by` is a regular expression on the path within the folder, whose first group (or whole
    match) is the name; or "exif:MINUTES", by which pictures are one group whose times lie no
    further apart. ConfigError for another one; DataError if it tells nothing of most files.

    Names of groups that look alike are one: what was written in two ways is mostly one recording
    session, and two of them on one side cost less than one on both.

    Where files are to be divided, texts that several groups hold word for word are left out but for
    one a class: what many write, such as a greeting, would make all groups one.
    """
    joined = _Joined([file.path for file in files])
    in_table = {file.path: file.group for file in files if file.group}
    _join_named(in_table, "group", joined, notes)

    if group_by is not None:
        by_time = _EXIF.fullmatch(group_by)
        if by_time:
            told = _by_time(files, facts, float(by_time[1]), joined)
        else:
            named = _named(files, _pattern(group_by))
            _join_named(named, "name", joined, notes)
            told = [file for file in files if file.path in named]
        _note_untold(files, told, group_by, notes)

    if is_divided:
        common = _common_texts(files, facts, joined, notes)
        files = [file for file in files if file.path not in common]
    _join_copies(files, facts, joined, notes)

    # a group is known by the first of its files
    first: dict[object, str] = {}
    for file in files:
        first.setdefault(joined.root(file.path), file.group or file.key)
    return {file.path: first[joined.root(file.path)] for file in files}


class _Joined:
    """Sets that grow together (union-find): files, and the names of groups."""

    def __init__(self, members: Sequence[object]) -> None:
        self._above: dict[object, object] = {member: member for member in members}

    def root(self, member: object) -> object:
        while self._above[member] != member:
            self._above[member] = self._above[self._above[member]]
            member = self._above[member]
        return member

    def join(self, one: object, other: object) -> None:
        for member in (one, other):
            self._above.setdefault(member, member)
        self._above[self.root(other)] = self.root(one)


def _pattern(group_by: str) -> re.Pattern[str]:
    if group_by.startswith("exif"):
        raise ConfigError(
            f"--group-by is {group_by!r}; it must be exif:MINUTES, such as exif:5, or a regular "
            "expression."
        )
    try:
        return re.compile(one_form(group_by))
    except re.error as error:
        raise ConfigError(
            f"--group-by {group_by!r} is no regular expression ({error}). Write for instance "
            r"'(\w+)_\d+' for names such as garden_0001.jpg, or exif:5."
        ) from error


def _named(files: Sequence[OwnFile], pattern: re.Pattern[str]) -> dict[Path, str]:
    """What the pattern finds in each file's path, of those that it finds anything in.

    A Mac stores an accent behind its letter, where \\w ends.
    """
    found = {}
    for file in files:
        match = pattern.search(one_form(file.key))
        if match is not None:
            found[file.path] = match[1] if pattern.groups and match[1] is not None else match[0]
    return found


def _join_named(names: dict[Path, str], what: str, joined: _Joined, notes: list[str]) -> None:
    """Joins files whose names of a group look alike, and notes names written in several ways."""
    written: dict[str, set[str]] = defaultdict(set)
    for path, name in names.items():
        joined.join(path, f"{what} {alike(name)}")
        written[alike(name)].add(name)

    several = [sorted(ways) for ways in written.values() if len(ways) > 1]
    if several:
        pair = " and ".join(f"'{spelled(way)}'" for way in several[0][:2])
        notes.append(
            f"{len(several)} names of groups are written in several ways, e.g. {pair}: each is one "
            "group"
        )


def _by_time(
    files: Sequence[OwnFile], facts: Facts, minutes: float, joined: _Joined
) -> list[OwnFile]:
    """Joins pictures in the order of their times, where the next comes soon enough."""
    dated = []
    for file in files:
        fact = facts[file.path]
        if isinstance(fact, Picture) and fact.taken is not None:
            dated.append((fact.taken, file.key, file))
    dated.sort(key=lambda one: one[:2])

    for (earlier, _, file), (later, _, following) in pairwise(dated):
        if (later - earlier).total_seconds() <= 60 * minutes:
            joined.join(file.path, following.path)
    return [file for _, _, file in dated]


def _note_untold(
    files: Sequence[OwnFile], told: Sequence[OwnFile], group_by: str, notes: list[str]
) -> None:
    known = {file.path for file in told}
    untold = [file.key for file in files if file.path not in known]
    if not untold:
        return

    words = (
        f"--group-by {group_by} tells nothing of {len(untold)} of {len(files)} files, e.g. "
        f"{', '.join(untold[:3])}"
    )
    if len(untold) > UNTOLD_LIMIT * len(files):
        raise DataError(
            f"{words}. It is matched with the path in the folder; of exif, cameras write the time "
            "and many programs drop it. Correct it, or leave it out."
        )
    notes.append(f"{words}: each of them is a group of its own")


def _common_texts(
    files: Sequence[OwnFile], facts: Facts, joined: _Joined, notes: list[str]
) -> set[Path]:
    """Texts that say what one of another group and of the same class says, but for the first."""
    sizes = Counter(joined.root(file.path) for file in files)
    repeated: set[Path] = set()
    example = ""
    for some in _texts_by_content(files, facts).values():
        roots = {joined.root(file.path) for file in some if not file.split}
        if sum(sizes[root] > 1 for root in roots) < 2:
            continue
        first: dict[str, OwnFile] = {}
        for file in some:
            kept = first.setdefault(file.label, file)
            if kept is not file:
                repeated.add(file.path)
                example = example or f"{kept.key} and {file.key}"
    if repeated:
        notes.append(
            f"{counted(len(repeated), 'text is', 'texts are')} left out, which another group says "
            f"word for word, e.g. "
            f"{example}: one of each class is kept"
        )
    return repeated


def _texts_by_content(files: Sequence[OwnFile], facts: Facts) -> dict[bytes, list[OwnFile]]:
    found = defaultdict(list)
    for file in files:
        fact = facts[file.path]
        if isinstance(fact, Text):
            found[fact.digest].append(file)
    return found


def _join_copies(files: Sequence[OwnFile], facts: Facts, joined: _Joined, notes: list[str]) -> None:
    """Joins files of equal content, and notes them; more so where their classes differ."""
    copies = [some for some in _of_content(files, facts) if len(some) > 1]
    for some in copies:
        for other in some[1:]:
            joined.join(some[0].path, other.path)
    if copies:
        count = sum(len(some) - 1 for some in copies)
        pair = f"{copies[0][0].key} and {copies[0][1].key}"
        what = "text" if isinstance(facts[copies[0][0].path], Text) else "file"
        copy = counted(count, f"{what} is a copy", f"{what}s are copies")
        notes.append(f"{copy} of others, e.g. {pair}; they stay on one side")

    torn = [some for some in copies if len({file.label for file in some}) > 1]
    if torn:
        pair = f"{torn[0][0].key} and {torn[0][1].key}"
        notes.append(
            f"{counted(len(torn), what)} {are(len(torn))} there in two classes, e.g. {pair}: none "
            "can be right on both"
        )


def _of_content(files: Sequence[OwnFile], facts: Facts) -> Iterable[list[OwnFile]]:
    """Files by what they hold: texts by what they say, of others those of equal length alone."""
    of_content = defaultdict(list, _texts_by_content(files, facts))
    of_size = defaultdict(list)
    for file in files:
        if not isinstance(facts[file.path], Text):
            of_size[file.path.stat().st_size].append(file)

    # only files of equal length are read
    candidates = [file for some in of_size.values() if len(some) > 1 for file in some]
    digests = file_digests([file.path for file in candidates])
    for file, content in zip(candidates, digests, strict=True):
        of_content[content].append(file)
    return of_content.values()
