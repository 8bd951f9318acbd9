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
FRACTIONS = {
    "test": 0.1,
    "validation": 0.1,
}  # where a list is missing: about what the official lists hold


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds word folders with <speaker>_nohash_<n> recordings."""
    return any(has_file(word, SUFFIXES, contains="_nohash_") for word in subfolders(folder))


def load_folders(found: list[Found], settings) -> Dataset:
    """The `num_words` words with most recordings (ties: alphabetical), split by the lists, else
    drawn by speaker.

    DataError: too few words, a speaker on two sides, an empty class, too many unreadable files.
    """
    place = only_one("speech_commands", found)
    words = {w.name: files(w) for w in subfolders(place.folder) if w.name != "_background_noise_"}
    chosen = sorted(sorted(words, key=lambda w: (-len(words[w]), w))[: settings["num_words"]])
    filled = [w for w in words if words[w]]
    if len(filled) < settings["num_words"]:
        raise DataError(
            f"{len(filled)} words with recordings in {place.folder} ({', '.join(filled)}); "
            "num_words is "
            f"{settings['num_words']}. Add words, or set num_words={len(filled)}. "
            f"Expected:\n{LAYOUT}"
        )
    spec = mel_spec(settings, SAMPLE_RATE_HZ, settings["window_seconds"], extra_frame=True)
    skipped: list[Skipped] = []
    shown = [(place.relative(p), p) for word in chosen for p in words[word]]
    scanned = scan(shown, spec, skipped, f"speech_commands ({place.shown})")
    recordings = []
    for path, num_windows in scanned.num_windows.items():
        speaker = path.stem.split("_nohash_")[0]  # a file named otherwise is a speaker of its own
        recordings.append(
            Recording(
                f"{path.parent.name}/{path.stem}",
                chosen.index(path.parent.name),
                speaker,
                num_windows,
                path,
            )
        )
    notes = list(scanned.notes)
    sides = _sides(place, recordings, settings.seed, notes)
    splits = {s: tuple(r for r in recordings if sides[r.id] == s) for s in SPLITS}
    check_disjoint(splits, place.shown)
    check_classes(splits, chosen, place.shown, notes)
    repeated = [i for i, n in Counter(r.id for r in recordings).items() if n > 1]
    if repeated:
        notes.append(
            f"{len(repeated)} recordings are there in two formats and count twice, e.g. "
            f"{repeated[0]}"
        )
    return Dataset(
        "speech_commands",
        tuple(chosen),
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


def _sides(
    place: Found, recordings: list[Recording], seed: int, notes: list[str]
) -> dict[str, str]:
    """Recording id -> split: by the lists that are there; for those that are not, drawn by speaker
    from the rest.
    """
    sides = {}
    for split, name in LISTS.items():
        if (place.folder / name).is_file():
            lines = (place.folder / name).read_text(encoding="utf-8").split()
            sides |= {
                line.rsplit(".", 1)[0]: split for line in lines
            }  # wav in the list may be flac on disk
    missing = {s: f for s, f in FRACTIONS.items() if not (place.folder / LISTS[s]).is_file()}
    rest = [r for r in recordings if r.id not in sides]
    drawn = split_groups([r.label for r in rest], [r.group for r in rest], missing, seed)
    if missing:
        notes.append(
            f"no {' and no '.join(LISTS[s] for s in missing)}: the {' and '.join(missing)} split "
            "is drawn by "
            f"speaker, seed {seed}"
        )
    return sides | {r.id: side for r, side in zip(rest, drawn, strict=True)}
