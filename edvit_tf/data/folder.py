"""A folder of somebody's own as a data set: pictures, sound or texts, one folder a class.

`survey` looks at what is there and says what is wrong with it, decoding nothing; `own_dataset`
makes of it the data set that a run takes. Between the two the settings are chosen, which follow
from what was found.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import DataError

from . import texts
from .audio import COMPRESSED, SUFFIXES, input_files, mel_spec, reader, scan
from .dataset import SPLITS, Dataset, Recording, Skipped, TextRow
from .folders import Found
from .own_facts import Facts, Picture, Sound, Text, facts_of, text_in, usable
from .own_files import ITEMS, KINDS, PICTURES, TEXT, OwnFile, own_files
from .own_groups import groups_of
from .split import check_classes, check_disjoint, split_recordings

# Of `edvit_tf.data.load("folder", ...)`; "" and 0 stand for what follows from the files.
OPTIONS = {
    "kind": "",
    "group_by": "",
    "channels": 0,
    "window_seconds": 0.0,
    "sample_rate_hz": 0,
    "n_fft": 2048,
    "hop_length": 512,
    "n_mels": 128,
    **texts.OPTIONS,
    "test_fraction": 0.2,
    "validation_fraction": 0.1,
    # every file is for the test: a folder that something is only tested on
    "all_for_test": False,
}
LEAST_GROUPS = 3  # of a class: to train on, to choose by, to test on
WINDOW_SECONDS = (0.5, 2.0)  # within which the window follows from the lengths
LOW_RATE_HZ = 12_000  # below it half the FFT has the same bandwidth


@dataclass(frozen=True)
class Survey:
    """What a folder holds: the files that can be used, with class, group and split as given."""

    place: Found
    kind: str  # one of KINDS
    labels: tuple[str, ...]
    files: tuple[OwnFile, ...]
    facts: Facts
    groups: dict[Path, str]
    notes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    is_table: bool = False

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.place.shown

    @property
    def items(self) -> str:
        """What its files are, in the plural."""
        return ITEMS[self.kind]

    def counted(self, count: int) -> str:
        """ "1 picture", "3 pictures"."""
        return f"{count} {self.items.removesuffix('s') if count == 1 else self.items}"

    @property
    def is_split(self) -> bool:
        """Whether folders say what is trained and what is tested on."""
        return any(file.split for file in self.files)

    @property
    def per_class(self) -> dict[str, int]:
        """Files of each class, in the order of the labels."""
        count = Counter(file.label for file in self.files)
        return {label: count[label] for label in self.labels}

    @property
    def sides(self) -> list[int]:
        """The shorter side of each picture."""
        return [min(f.width, f.height) for f in self.facts.values() if isinstance(f, Picture)]

    @property
    def is_grey(self) -> bool:
        """Whether no picture has colours."""
        return all(f.is_grey for f in self.facts.values() if isinstance(f, Picture))

    @property
    def seconds(self) -> list[float]:
        """The length of each recording."""
        return [f.seconds for f in self.facts.values() if isinstance(f, Sound)]

    @property
    def words(self) -> list[int]:
        """How many words each text has, as far as they were counted."""
        return [f.num_words for f in self.facts.values() if isinstance(f, Text)]

    @property
    def sample_rate_hz(self) -> int:
        """The rate that most recordings have: a device then takes them as they are."""
        rates = Counter(f.rate for f in self.facts.values() if isinstance(f, Sound))
        return max(rates, key=lambda rate: (rates[rate], rate))

    @property
    def window_seconds(self) -> float:
        """The length of a recording in the middle, in half seconds. A shorter window would cut
        what is one sound, such as a word; shorter recordings are padded.
        """
        low, high = WINDOW_SECONDS
        return min(max(round(2 * float(np.median(self.seconds))) / 2, low), high)


def survey(
    folder: str | Path,
    *,
    kind: str | None = None,
    group_by: str | None = None,
    is_divided: bool = True,
) -> Survey:
    """Looks at a folder, or at a table of files, by headers alone. `is_divided` says whether it is
    to be split, which needs several groups of each class.

    DataError for each of its faults: no class, one class, both kinds, nested classes, files beside
    them, too many unreadable files, a class too small to be split. ConfigError: a wrong `group_by`.
    """
    notes: list[str] = []
    skipped: list[Skipped] = []
    own = own_files(folder, kind, notes, skipped)
    facts = facts_of(own, skipped)
    files = usable(own, facts)
    groups = groups_of(files, facts, group_by, notes, is_divided)
    files = [file for file in files if file.path in groups]
    facts = {file.path: facts[file.path] for file in files}

    found = Survey(
        own.place,
        own.kind,
        own.labels,
        tuple(files),
        facts,
        groups,
        tuple(notes),
        tuple(skipped),
        own.is_table,
    )
    if is_divided:
        _check_sizes(found)
    return found


def load_own(folder: str | Path | None, settings) -> Dataset:
    """`edvit_tf.data.load("folder", folder, ...)`: the survey and the data set in one."""
    if folder is None:
        raise DataError("The data set 'folder' is somebody's own: say where it is (data_dir).")
    kind = settings["kind"] or None
    if kind not in (None, *KINDS):
        raise DataError(f"kind is {kind!r}; choose from {', '.join(KINDS)}.")
    found = survey(
        folder,
        kind=kind,
        # groups are for a split; another folder's names need not be told by the same rule
        group_by=None if settings["all_for_test"] else settings["group_by"] or None,
        is_divided=not settings["all_for_test"],
    )
    return own_dataset(found, settings)


def own_dataset(found: Survey, settings) -> Dataset:
    """The data set of a survey; `settings` has image_size, seed and OPTIONS. DataError: a class
    that training lacks, a group on two sides of a split that folders give.
    """
    made = _dataset(found, settings)
    if not found.is_table:
        return made
    return replace(made, rows_digest=_with_labels(made.rows_digest, found))


def _with_labels(rows_digest: str, found: Survey) -> str:
    """With the label of each file of a table: its path, which the ids hold, does not say it."""
    digest = sha256(rows_digest.encode())
    for line in sorted(f"{file.key}\0{file.label}\n" for file in found.files):
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _dataset(found: Survey, settings) -> Dataset:
    notes = list(found.notes)
    if found.kind == TEXT:
        return _of_texts(found, settings, notes)
    if found.kind == PICTURES:
        height, width = settings.image_size
        channels = settings["channels"] or (1 if found.is_grey else 3)
        spec = ImageSpec(height, width, channels)
        num_windows = {file.path: 1 for file in found.files}
        files, padded = {}, 0

        def read(some: Sequence[Recording]) -> np.ndarray:
            return np.concatenate([spec.from_file(r.where, {}) for r in some])
    else:
        rate = settings["sample_rate_hz"] or found.sample_rate_hz
        seconds = settings["window_seconds"] or found.window_seconds
        spec = mel_spec(_for_rate(settings, rate), rate, seconds, extra_frame=True)
        shown = [(f"{found.name}/{file.key}", file.path) for file in found.files]
        scanned = scan(shown, spec, [], found.name, (*SUFFIXES, *COMPRESSED))
        notes += scanned.notes
        num_windows, padded = scanned.num_windows, scanned.padded
        files, read = input_files(spec), reader(spec)

    splits = _splits(found, _recordings(found, num_windows), settings, notes)
    return Dataset(
        found.name,
        found.labels,
        spec,
        files,
        found.place.shown,
        settings.seed,
        splits,
        read,
        padded=padded,
        notes=notes,
        skipped=list(found.skipped),
    )


def _of_texts(found: Survey, settings, notes: list[str]) -> Dataset:
    """Of texts: each is read again when it is asked for, but one that stands in a table."""
    recordings = _recordings(found, {file.path: 1 for file in found.files})
    return texts.text_dataset(
        found.name,
        found.labels,
        found.place.shown,
        _splits(found, recordings, settings, notes),
        _text_at,
        settings,
        notes=notes,
        skipped=list(found.skipped),
    )


def _text_at(where: Path | TextRow) -> str:
    return where.text if isinstance(where, TextRow) else text_in(where)


def _recordings(found: Survey, num_windows: dict[Path, int]) -> list[Recording]:
    recordings = []
    for file in found.files:
        recordings.append(
            Recording(
                id=file.key,
                label=found.labels.index(file.label),
                group=found.groups[file.path],
                num_windows=num_windows[file.path],
                where=file.path if file.text is None else TextRow(file.text),
            )
        )
    return recordings


def _splits(
    found: Survey, recordings: Sequence[Recording], settings, notes: list[str]
) -> dict[str, tuple[Recording, ...]]:
    """By the folders where they say so; what they lack is drawn from train by group. All for the
    test where that is asked for.
    """
    if settings["all_for_test"]:
        return {split: tuple(recordings) if split == "test" else () for split in SPLITS}
    given = {r.id: file.split for r, file in zip(recordings, found.files, strict=True)}
    held = set(given.values()) & set(SPLITS)
    fractions = {"test": settings["test_fraction"], "validation": settings["validation_fraction"]}
    missing = {split: share for split, share in fractions.items() if split not in held}
    if missing and found.is_split:
        notes.append(f"no folder {' and none '.join(missing)}: drawn from train, by group")

    # of what is given to train, or of all
    rest = [r for r in recordings if given[r.id] in ("", "train")]
    splits = split_recordings(rest, missing, settings.seed)
    for split in held - {"train"}:
        splits[split] = tuple(r for r in recordings if given[r.id] == split)

    if found.is_split:
        check_disjoint(splits, found.name)
    check_classes(splits, found.labels, found.name, notes)
    return splits


def _check_sizes(found: Survey) -> None:
    """DataError for classes of too few groups to be split as asked."""
    held = {file.split for file in found.files} & set(SPLITS)
    needed = 1 + len({"test", "validation"} - held)
    own = defaultdict(set)
    for file in found.files:
        if file.split in ("", "train"):
            own[file.label].add(found.groups[file.path])

    counts = found.per_class
    few = [label for label in found.labels if len(own[label]) < needed]
    if few:
        first = few[0]
        more = f" (and {len(few) - 1} more classes)" if len(few) > 1 else ""
        groups = "1 group" if len(own[first]) == 1 else f"{len(own[first])} groups"
        raise DataError(
            f"The class {first!r} of {found.name}{more} has {found.counted(counts[first])} in "
            f"{groups}; {needed} groups are needed at least, one each to train on"
            f"{', to choose by' if needed > 1 else ''}{' and to test on' if needed > 2 else ''}. "
            "Add files that are no copies and of no other's group, or remove the class."
        )


def _for_rate(settings, rate: int):
    """The settings with an FFT that suits a sample rate: half of it for telephone sound."""
    if rate >= LOW_RATE_HZ:
        return settings
    halved = {name: settings[name] // 2 for name in ("n_fft", "hop_length")}
    return replace(settings, options={**settings.options, **halved})
