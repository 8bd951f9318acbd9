"""Speech Commands v0.02 (Warden 2018): one-second words, split by speaker, the most populous
words.
"""

import os
from collections import Counter
from pathlib import Path

from edvit_tf.device.terminal import counted
from edvit_tf.errors import DataError
from edvit_tf.progress import warn

from .audio import SUFFIXES, input_files, mel_spec, reader, scan, sounds
from .dataset import SPLITS, Dataset, Recording, Skipped
from .folders import Found, class_folders, files, has_file, note_others, only_one, subfolders
from .lists import check_matched, match, read_list, recording_key
from .names import check_apart, class_labels, printable
from .split import check_classes, check_disjoint, split_groups

SAMPLE_RATE_HZ = 16_000
PREFIXES = ("speech_commands",)
LAYOUT = """  yes/0a7c2a8d_nohash_0.wav ... (or .flac)
  no/ up/ down/ ... one folder a word
  testing_list.txt  validation_list.txt   (lines such as yes/0a7c2a8d_nohash_0.wav)"""
OPTIONS = {"num_words": 10, "window_seconds": 1.0, "n_fft": 2048, "hop_length": 512, "n_mels": 128}
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}
LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".list")
# Where a list is missing: about what the official lists hold.
FRACTIONS = {"test": 0.1, "validation": 0.1}


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds word folders with <speaker>_nohash_<n> recordings."""
    return any(has_file(word, SUFFIXES, contains="_nohash_") for word in subfolders(folder))


def load_folders(found: list[Found], settings) -> Dataset:
    """The `num_words` words with most recordings (ties: alphabetical), split by the lists, else
    drawn by speaker.

    DataError: too few words, a speaker on two sides, an empty class, too many unreadable files, a
    list of which most lines of the words that are there name no recording.
    """
    place = only_one("speech_commands", found)
    notes: list[str] = []
    skipped: list[Skipped] = []
    words = _words(place, notes, skipped)
    chosen = _most_populous(place, words, settings["num_words"])
    label_of = class_labels({folder: folder.name for folder in chosen})
    labels = tuple(label_of.values())

    spec = mel_spec(settings, SAMPLE_RATE_HZ, settings["window_seconds"], extra_frame=True)
    shown = []
    for folder in chosen:
        shown += [(place.relative(path), path) for path in words[folder]]
    scanned = scan(shown, spec, skipped, f"speech_commands ({place.shown})")
    notes += scanned.notes

    recordings = []
    for path, num_windows in scanned.num_windows.items():
        word = label_of[path.parent]
        stem = printable(path.stem)
        recordings.append(
            Recording(
                id=f"{word}/{stem}",
                label=labels.index(word),
                # a file named otherwise is a speaker of its own
                group=stem.split("_nohash_")[0],
                num_windows=num_windows,
                where=path,
            )
        )

    on_disk = {_key(path) for paths in words.values() for path in paths}
    listed = _listed(place, on_disk, notes)
    splits = _splits(recordings, listed, settings.seed, notes)

    check_disjoint(splits, place.shown)
    check_classes(splits, labels, place.shown, notes)
    notes += _in_two_formats(recordings)

    return Dataset(
        "speech_commands",
        labels,
        spec,
        input_files(spec),
        place.shown,
        settings.seed,
        splits,
        reader(spec),
        padded=scanned.padded,
        notes=notes,
        skipped=skipped,
    )


def _key(path: Path) -> str:
    """What a recording and a line of a list are matched by."""
    return recording_key(f"{path.parent.name}/{path.name}", SUFFIXES)


def _words(place: Found, notes: list[str], skipped: list[Skipped]) -> dict[Path, list[Path]]:
    """The files of each word, in alphabetical order; folders in underscores are no words."""
    folders = class_folders(place, skipped)
    no_words = [folder.name for folder in folders if folder.name.startswith("_")]
    # The noise of the original is no class of anybody's.
    made = [printable(name) for name in no_words if name != "_background_noise_"]
    if made:
        notes.append(f"folders in underscores are no words and are left out: {', '.join(made)}")

    words = {}
    others: list[Path] = []
    for folder in folders:
        if folder.name not in no_words:
            words[folder] = sounds(files(folder), others)
    notes += note_others(others, place, "recordings")
    check_apart({folder: folder.name for folder, paths in words.items() if paths})
    return words


def _most_populous(place: Found, words: dict[Path, list[Path]], count: int) -> list[Path]:
    """The folders of the `count` words with most recordings, in alphabetical order."""
    filled = [folder for folder in words if words[folder]]
    if len(filled) < count:
        names = ", ".join(printable(folder.name) for folder in filled)
        raise DataError(
            f"{len(filled)} words with recordings in {place.folder} ({names}); num_words is "
            f"{count}. Add words, or set num_words={len(filled)}. Expected:\n{LAYOUT}"
        )

    # The most populous are taken; labels are in alphabetical order.
    by_size = sorted(words, key=lambda folder: (-len(words[folder]), folder.name))
    return sorted(by_size[:count])


def _listed(place: Found, on_disk: set[str], notes: list[str]) -> dict[str, dict[str, str]]:
    """Split -> the lines of its list by key, for the lists that are there; lines that name no
    recording are noted. DataError: most lines of the folders that are there are so, or all lines;
    a recording is in both lists; a list has another name.
    """
    there = {path.name.casefold(): path for path in files(place.folder)}
    listed = {}
    for split, name in LISTS.items():
        # A list from Windows may have capital letters.
        path = there.get(name, place.folder / name)
        # A link to nothing is a list that is lost, not one that was never made.
        if not os.path.lexists(path):
            continue

        listed[split] = read_list(path, SUFFIXES)
        for note in check_matched(path, listed[split], on_disk):
            _warn(note, notes)

    _check_names(place, there, listed, on_disk, notes)
    both = set(listed.get("test", {})) & set(listed.get("validation", {}))
    if both:
        first = listed["test"][min(both)]
        raise DataError(
            f"{counted(len(both), 'recording is', 'recordings are')} in both lists of "
            f"{place.folder}, e.g. {printable(first)}; "
            "one side only is honest. Correct the lists, or remove them to have the split drawn."
        )
    return listed


def _warn(note: str, notes: list[str]) -> None:
    warn(f"{note}")
    notes.append(note)


def _check_names(
    place: Found,
    there: dict[str, Path],
    listed: dict[str, dict[str, str]],
    on_disk: set[str],
    notes: list[str],
) -> None:
    """DataError where a list is missing and a file of another name ("testing_list.txt.txt") is one:
    what it holds out would be trained on. A file that is no text is passed over with a note.
    """
    missing = [name for split, name in LISTS.items() if split not in listed]
    for name, path in there.items():
        is_text = path.suffix.lower() in LIST_SUFFIXES and os.path.isfile(path)
        if not missing or not is_text or name in LISTS.values() or "train" in name:
            continue

        try:
            lines = read_list(path, SUFFIXES)
        except DataError:
            _warn(f"{place.relative(path)} is not looked into: it is no list of recordings", notes)
            continue

        found = match(_first_columns(lines), on_disk)
        if found.is_list:
            raise DataError(
                f"{printable(path.name)} in {place.folder} lists {found.named} recordings, and "
                f"there is no {' and no '.join(missing)}. Give the list that name, or take it out "
                "of the folder to have the split drawn."
            )


def _first_columns(lines: dict[str, str]) -> dict[str, str]:
    """The lines of a table by its first column, which names the recording."""
    first = {}
    for line in lines.values():
        column = line.split(",")[0].split("\t")[0]
        first[recording_key(column, SUFFIXES)] = column
    return first


def _splits(
    recordings: list[Recording],
    listed: dict[str, dict[str, str]],
    seed: int,
    notes: list[str],
) -> dict[str, tuple[Recording, ...]]:
    """The recordings of each split: by the lists that are there; for those that are not, drawn by
    speaker from the rest.
    """
    missing = {split: FRACTIONS[split] for split in LISTS if split not in listed}
    if missing:
        lists = " and no ".join(LISTS[split] for split in missing)
        notes.append(
            f"no {lists}: the {' and '.join(missing)} split is drawn by speaker, seed {seed}"
        )

    sides = {}
    rest = []
    for recording in recordings:
        key = _key(recording.where)
        split = next((split for split, lines in listed.items() if key in lines), None)
        if split is None:
            rest.append(recording)
        else:
            sides[recording.where] = split

    drawn = split_groups([r.label for r in rest], [r.group for r in rest], missing, seed)
    for recording, side in zip(rest, drawn, strict=True):
        sides[recording.where] = side

    splits = {}
    for split in SPLITS:
        splits[split] = tuple(r for r in recordings if sides[r.where] == split)
    return splits


def _in_two_formats(recordings: list[Recording]) -> list[str]:
    """A note on recordings that are there as .wav and as .flac, if there are any."""
    times = Counter(recording.id for recording in recordings)
    repeated = [name for name, n in times.items() if n > 1]
    if not repeated:
        return []
    return [
        f"{counted(len(repeated), 'recording is', 'recordings are')} there in two formats, each "
        f"counted twice, e.g. {repeated[0]}"
    ]
