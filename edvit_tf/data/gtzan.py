"""GTZAN (Tzanetakis and Cook 2002): 1,000 tracks of 30 s, ten genres, with its repeated recordings
kept together.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from edvit_tf.errors import DataError

from .audio import SUFFIXES, input_files, mel_spec, reader, scan
from .dataset import SPLITS, Dataset, Recording, Skipped, report_skipped
from .folders import Found, files, has_file, subfolders
from .split import check_classes, check_disjoint, split_groups

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
        for pair in pairs:
            a, b = (f"{genre}.{n:05d}" for n in pair)
            old = {first.get(a, a), first.get(b, b)}
            new = min(old)
            first.update({t: new for t, f in first.items() if f in old} | {a: new, b: new})
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
    tracks = defaultdict(list)  # genre -> (shown, path)
    for place in found:
        for folder in subfolders(place.folder):
            if folder.name in GENRES:
                tracks[folder.name] += [(place.relative(p), p) for p in files(folder)]
    missing = [g for g in GENRES if not tracks[g]]
    if missing:
        raise DataError(
            f"No recordings of {', '.join(missing)} in {', '.join(str(f.folder) for f in found)}; "
            "all ten "
            f"genres are needed. Expected:\n{LAYOUT}"
        )
    skipped: list[Skipped] = []
    named = []  # (shown, path, genre, track)
    for label, genre in enumerate(GENRES):
        for shown, path in tracks[genre]:
            track = re.fullmatch(rf"({genre}\.\d+)", path.stem)
            if track:
                named.append((shown, path, label, track[1]))
            else:
                report_skipped(
                    skipped, shown, f"its name is not {genre}.NNNNN with {', '.join(SUFFIXES)}"
                )
    spec = mel_spec(settings, SAMPLE_RATE_HZ, settings["window_seconds"], extra_frame=False)
    scanned = scan(
        [(shown, path) for shown, path, _, _ in named], spec, skipped, f"gtzan ({source})"
    )
    named = [n for n in named if n[1] in scanned.num_windows]
    repeats, copies = repeat_groups(), Counter(track for _, _, _, track in named)
    recordings = [
        Recording(
            track if copies[track] == 1 else shown,
            label,
            repeats.get(track, track),
            scanned.num_windows[path],
            path,
        )
        for shown, path, label, track in named
    ]
    fractions = {"test": settings["test_fraction"], "validation": settings["validation_fraction"]}
    sides = split_groups(
        [r.label for r in recordings], [r.group for r in recordings], fractions, settings.seed
    )
    splits = {
        s: tuple(r for r, side in zip(recordings, sides, strict=True) if side == s) for s in SPLITS
    }
    check_disjoint(splits, source)
    together = sum(n - 1 for n in Counter(r.group for r in recordings).values())
    notes = scanned.notes + (
        [f"{together} recordings repeat another one and are kept on its side"] if together else []
    )
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
