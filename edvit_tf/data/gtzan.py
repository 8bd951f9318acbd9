"""GTZAN (Tzanetakis and Cook 2002): 1,000 tracks of 30 s, ten genres, with its repeated recordings
kept together.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.terminal import are, counted
from edvit_tf.errors import DataError

from .audio import SUFFIXES, input_files, mel_spec, reader, scan, sounds
from .dataset import Dataset, Recording, Skipped, report_skipped
from .folders import Found, class_folders, files, has_file, note_others
from .split import check_classes, check_disjoint, split_recordings

GENRES = (
    "blues",
    "classical",
    "country",
    "disco",
    "hiphop",
    "jazz",
    "metal",
    "pop",
    "reggae",
    "rock",
)
SAMPLE_RATE_HZ = 22_050
PREFIXES = ("gtzan",)
LAYOUT = """  genres/
    blues/blues.00000.wav ... (or .au, .flac)
    classical/ country/ disco/ hiphop/ jazz/ metal/ pop/ reggae/ rock/"""
OPTIONS = {
    "window_seconds": 30.0,
    "n_fft": 2048,
    "hop_length": 512,
    "n_mels": 128,
    "validation_fraction": 0.1,
    "test_fraction": 0.2,
}

# Tracks that repeat one another: (genre, pairs of numbers). Source: correlation of whole-track
# spectrograms at 0.5 or more, same genre, lag under 1 s; some of those below about 0.65 may be
# variants rather than copies.
REPEATS = {
    "classical": ((21, 80), (12, 22), (26, 80), (84, 87)),
    "disco": ((51, 70), (50, 70), (50, 51), (55, 60)),
    "jazz": ((40, 67), (44, 70), (46, 72), (45, 71), (33, 51), (34, 53), (35, 55), (37, 60)),
    "metal": ((40, 61), (44, 65), (45, 66), (41, 62), (34, 94), (42, 63), (43, 64)),
    "pop": ((67, 71), (54, 60), (45, 46), (47, 80), (30, 31), (15, 22), (52, 57), (87, 90)),
    "reggae": (
        (81, 82),
        (5, 56),
        (10, 60),
        (3, 54),
        (91, 92),
        (73, 74),
        (75, 91),
        (80, 82),
        (80, 81),
        (75, 92),
    ),
}


def repeat_groups() -> dict[str, str]:
    """Track id -> id of the first track of its group of repeats, for the tracks that have any."""
    first: dict[str, str] = {}
    for genre, pairs in REPEATS.items():
        for one, other in pairs:
            a = f"{genre}.{one:05d}"
            b = f"{genre}.{other:05d}"
            # two groups that a pair joins take the name of the earlier one
            old = {first.get(a, a), first.get(b, b)}
            joined = [track for track, group in first.items() if group in old]
            for track in (a, b, *joined):
                first[track] = min(old)
    return first


def is_layout(folder: Path) -> bool:
    """Whether `folder` holds genre folders with sound in them."""
    return any(has_file(folder / genre, SUFFIXES) for genre in GENRES)


def load_folders(found: list[Found], settings) -> Dataset:
    """One Dataset of all folders found; a track that is in several is one group, and so are
    repeats.

    Split by track, stratified by genre, seeded. DataError: a genre missing or too small, too many
    unreadable files.
    """
    source = " + ".join(f.shown for f in found)
    skipped: list[Skipped] = []
    notes: list[str] = []
    tracks = _tracks(found, notes, skipped)

    spec = mel_spec(settings, SAMPLE_RATE_HZ, settings["window_seconds"], extra_frame=False)
    scanned = scan([(t.shown, t.path) for t in tracks], spec, skipped, f"gtzan ({source})")
    readable = [track for track in tracks if track.path in scanned.num_windows]

    # a track that is in several folders is named by its path
    repeats = repeat_groups()
    copies = Counter(track.name for track in readable)
    recordings = []
    for track in readable:
        recordings.append(
            Recording(
                id=track.path.stem if copies[track.name] == 1 else track.shown,
                label=track.label,
                group=repeats.get(track.name, track.name),
                num_windows=scanned.num_windows[track.path],
                where=track.path,
            )
        )

    fractions = {"test": settings["test_fraction"], "validation": settings["validation_fraction"]}
    splits = split_recordings(recordings, fractions, settings.seed)
    check_disjoint(splits, source)

    notes += scanned.notes
    together = len(recordings) - len({r.group for r in recordings})
    if together:
        repeat = counted(together, "recording repeats", "recordings repeat")
        notes.append(f"{repeat} another one and {are(together)} kept on its side")
    check_classes(splits, GENRES, source, notes)
    if len(found) > 1:
        notes.append(f"{len(found)} folders are combined: {source}")

    return Dataset(
        "gtzan",
        GENRES,
        spec,
        input_files(spec),
        source,
        settings.seed,
        splits,
        reader(spec),
        padded=scanned.padded,
        notes=notes,
        skipped=skipped,
    )


@dataclass(frozen=True)
class _Track:
    shown: str
    path: Path
    label: int
    name: str  # GENRE.NNNNN, however many digits the file has


def _tracks(found: list[Found], notes: list[str], skipped: list[Skipped]) -> list[_Track]:
    """The tracks of all folders, genre by genre; files with another name are reported. DataError if
    a genre has none.
    """
    # genre -> (shown name, path) of its files, of all folders
    in_genre: dict[str, list[tuple[str, Path]]] = {genre: [] for genre in GENRES}
    for place in found:
        others: list[Path] = []
        for folder in class_folders(place, skipped):
            if folder.name in GENRES:
                for path in sounds(files(folder), others):
                    in_genre[folder.name].append((place.relative(path), path))
        notes += note_others(others, place, "recordings")

    missing = [genre for genre in GENRES if not in_genre[genre]]
    if missing:
        places = ", ".join(str(place.folder) for place in found)
        raise DataError(
            f"No recordings of {', '.join(missing)} in {places}; all ten genres are needed. "
            f"Expected:\n{LAYOUT}"
        )

    tracks = []
    for label, genre in enumerate(GENRES):
        for shown, path in in_genre[genre]:
            number = re.fullmatch(rf"{genre}\.([0-9]+)", path.stem)
            if number:
                # blues.1 is blues.00001, and repeats are known by that
                tracks.append(_Track(shown, path, label, f"{genre}.{int(number[1]):05d}"))
            else:
                report_skipped(
                    skipped, shown, f"its name is not {genre}.NNNNN with {', '.join(SUFFIXES)}"
                )
    return tracks
