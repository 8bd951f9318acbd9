"""Speech Commands v0.02 (Warden 2018): one-second words, split by speaker, the most populous
words.
"""

from collections import Counter
from pathlib import Path

from edvit_tf.errors import DataError

from .audio import SUFFIXES, input_files, mel_spec, reader, scan
from .dataset import SPLITS, Dataset, Recording, Skipped
from .folders import Found, files, has_file, only_one, subfolders
from .split import check_classes, check_disjoint, split_groups

SAMPLE_RATE_HZ = 16_000
PREFIXES = ("speech_commands",)
LAYOUT = """  yes/0a7c2a8d_nohash_0.wav ... (or .flac)
  no/ up/ down/ ... one folder a word
  testing_list.txt  validation_list.txt   (lines such as yes/0a7c2a8d_nohash_0.wav)"""
OPTIONS = {"num_words": 10, "window_seconds": 1.0, "n_fft": 2048, "hop_length": 512, "n_mels": 128}
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}
# Where a list is missing: about what the official lists hold.
FRACTIONS = {"test": 0.1, "validation": 0.1}


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds word folders with <speaker>_nohash_<n> recordings."""
    return any(has_file(word, SUFFIXES, contains="_nohash_") for word in subfolders(folder))


def load_folders(found: list[Found], settings) -> Dataset:
    """The `num_words` words with most recordings (ties: alphabetical), split by the lists, else
    drawn by speaker.

    DataError: too few words, a speaker on two sides, an empty class, too many unreadable files.
    """
    place = only_one("speech_commands", found)
    words = _words(place, settings["num_words"])
    labels = tuple(words)

    spec = mel_spec(settings, SAMPLE_RATE_HZ, settings["window_seconds"], extra_frame=True)
    skipped: list[Skipped] = []
    shown = []
    for paths in words.values():
        shown += [(place.relative(path), path) for path in paths]
    scanned = scan(shown, spec, skipped, f"speech_commands ({place.shown})")

    recordings = []
    for path, num_windows in scanned.num_windows.items():
        word = path.parent.name
        speaker = path.stem.split("_nohash_")[0]  # a file named otherwise is a speaker of its own
        recordings.append(
            Recording(
                id=f"{word}/{path.stem}",
                label=labels.index(word),
                group=speaker,
                num_windows=num_windows,
                where=path,
            )
        )

    notes = list(scanned.notes)
    sides = _sides(place, recordings, settings.seed, notes)
    splits = {}
    for split in SPLITS:
        splits[split] = tuple(r for r in recordings if sides[r.id] == split)

    check_disjoint(splits, place.shown)
    check_classes(splits, labels, place.shown, notes)

    times = Counter(recording.id for recording in recordings)
    repeated = [name for name, n in times.items() if n > 1]
    if repeated:
        notes.append(
            f"{len(repeated)} recordings are there in two formats and count twice, e.g. "
            f"{repeated[0]}"
        )

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


def _words(place: Found, count: int) -> dict[str, list[Path]]:
    """The `count` words with most recordings, in alphabetical order, with their files."""
    words = {}
    for folder in subfolders(place.folder):
        if folder.name != "_background_noise_":
            words[folder.name] = files(folder)

    filled = [word for word in words if words[word]]
    if len(filled) < count:
        raise DataError(
            f"{len(filled)} words with recordings in {place.folder} ({', '.join(filled)}); "
            f"num_words is {count}. Add words, or set num_words={len(filled)}. Expected:\n{LAYOUT}"
        )

    # The most populous are taken; labels are in alphabetical order.
    by_size = sorted(words, key=lambda word: (-len(words[word]), word))
    return {word: words[word] for word in sorted(by_size[:count])}


def _sides(
    place: Found, recordings: list[Recording], seed: int, notes: list[str]
) -> dict[str, str]:
    """Recording id -> split: by the lists that are there; for those that are not, drawn by speaker
    from the rest.
    """
    sides = {}
    missing = {}  # split -> fraction
    for split, name in LISTS.items():
        if not (place.folder / name).is_file():
            missing[split] = FRACTIONS[split]
            continue
        for line in (place.folder / name).read_text(encoding="utf-8").split():
            sides[line.rsplit(".", 1)[0]] = split  # wav in the list may be flac on disk

    if missing:
        lists = " and no ".join(LISTS[split] for split in missing)
        notes.append(
            f"no {lists}: the {' and '.join(missing)} split is drawn by speaker, seed {seed}"
        )

    rest = [r for r in recordings if r.id not in sides]
    drawn = split_groups([r.label for r in rest], [r.group for r in rest], missing, seed)
    for recording, side in zip(rest, drawn, strict=True):
        sides[recording.id] = side
    return sides
