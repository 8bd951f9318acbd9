"""What every data set is: labels, an input spec, splits of recordings, and how to read them,
lazily.

A recording is what is split, shuffled and scored: a track, an utterance, a picture. It gives one or
more windows, each an input of the model. Nothing is decoded before it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.input_spec import Files, InputSpec
from edvit_tf.errors import DataError
from edvit_tf.progress import warn

from .contents import UNREADABLE, file_digests
from .names import printable

SPLITS = ("train", "validation", "test")
# Share of a split's recordings that may be unreadable; a single one is always forgiven.
SKIP_LIMIT = 0.05


@dataclass(frozen=True, slots=True)
class Recording:
    """One track, utterance or picture: never on two sides of a split, nor is its group."""

    id: str
    label: int
    group: str  # what must stay together: the track and its repeats, the speaker
    num_windows: int
    # a Path, a row, a TextRow or a seed: only the data set's `read` looks at it
    where: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text that stands in a table, where others have a file."""

    text: str

    def digest(self) -> bytes:
        """sha256, as of a file that holds the text in UTF-8."""
        return sha256(self.text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Skipped:
    """A file that was left out: its path relative to the source, and why."""

    path: str
    reason: str


def report_skipped(skipped: list[Skipped], path: str, reason: str) -> None:
    """Adds to `skipped` and warns on stderr, once a file."""
    if all(s.path != path for s in skipped):
        skipped.append(Skipped(path, reason))
        warn(f"skipped {path}: {reason}")


def check_skipped(skipped: Sequence[Skipped], total: int, what: str) -> None:
    """DataError, naming the first files, if more than one and more than 5 % of `total` recordings
    are unreadable.
    """
    if len(skipped) > max(1, SKIP_LIMIT * total):
        first = "; ".join(f"{s.path} ({s.reason})" for s in skipped[:3])
        raise DataError(
            f"{len(skipped)} of {total} recordings of {what} cannot be read, more than "
            f"{SKIP_LIMIT:.0%}: {first}. Get a complete copy of these files, or remove them."
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A loaded data set. `read` takes recordings and gives all their windows, (n, H, W, C), or
    raises InputError.
    """

    name: str
    labels: tuple[str, ...]
    spec: InputSpec
    input_files: Files  # by name, as many as `spec.files` says
    source: str  # folder names, never an absolute path: it goes into manifests
    seed: int
    splits: Mapping[str, tuple[Recording, ...]]
    read: Callable[[Sequence[Recording]], np.ndarray] = field(repr=False)
    # of texts: the text of a recording, to show; InputError as `read`
    text_of: Callable[[Recording], str] | None = field(default=None, repr=False)
    synthetic: bool = False
    chunk: int = 1  # recordings read at once: 1 for files, more for rows in memory
    # how the ids follow from the source, where listing them all says no more
    id_rule: str | None = None
    # of what no file holds and no path says: rows in memory, a vocabulary, a table's labels
    rows_digest: str = ""
    padded: int = 0  # recordings shorter than the window
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    # split -> id -> met at decoding
    failed: dict[str, dict[str, Skipped]] = field(default_factory=dict, repr=False)

    def recordings(self, split: str) -> tuple[Recording, ...]:
        """The split's recordings; their places are the indices that `iterate` gives."""
        if split not in self.splits:
            raise DataError(f"Split {split!r} is unknown; choose from {', '.join(self.splits)}.")
        return self.splits[split]

    def size(self, split: str) -> int:
        """Windows in the split, as far as is known: files found unreadable while decoding are not
        counted.
        """
        bad = self.failed.get(split, {})
        return sum(r.num_windows for r in self.recordings(split) if r.id not in bad)

    def iterate(self, split: str) -> Iterator[tuple[np.ndarray, int, int]]:
        """Yields (x (H, W, C), label, recording index) window by window, in the split's order,
        decoding lazily.

        x: of the spec's dtype, C-contiguous. A file that cannot be decoded is named on stderr and
        in `skipped` and gives nothing; DataError when more than 5 % of the split are so.
        """
        count = len(self.recordings(split))
        for start in range(0, count, self.chunk):
            indices = range(start, min(start + self.chunk, count))
            for x, index in self._read(split, indices):
                yield from zip(x, repeat(self.recordings(split)[index].label), repeat(index))

    def _read(self, split: str, indices: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
        """(windows (n, H, W, C), index) of each recording; what cannot be read is reported."""
        recordings = self.recordings(split)
        chosen = [recordings[i] for i in indices]
        try:
            x = self.read(chosen)
            counts = [recording.num_windows for recording in chosen]
            if len(x) != sum(counts):
                raise InputError(f"{len(x)} windows decoded, its header promised {sum(counts)}")
        except InputError as error:
            if len(indices) == 1:
                self._report(split, chosen[0], error)
                return
            for index in indices:  # find the one that fails
                yield from self._read(split, [index])
            return

        # Where each recording's windows end in x.
        ends = np.cumsum(counts)
        for index, end, num_windows in zip(indices, ends, counts, strict=True):
            yield x[end - num_windows : end], index

    def _report(self, split: str, recording: Recording, error: InputError) -> None:
        """Names a recording that cannot be decoded; DataError when there are too many."""
        # A file is shown by its class folder and name, never by where it lies on this machine.
        path = recording.where
        shown = printable("/".join(path.parts[-2:])) if isinstance(path, Path) else recording.id
        failed = self.failed.setdefault(split, {})
        failed[recording.id] = Skipped(shown, str(error))

        report_skipped(self.skipped, shown, str(error))
        check_skipped(
            list(failed.values()), len(self.recordings(split)), f"{self.name} ({split} split)"
        )

    def split_ids(self, split: str) -> list[str] | dict:
        """The ids of a split for the manifest; where a rule gives them: the rule, their count and
        their sha256.
        """
        ids = [r.id for r in self.recordings(split)]
        if self.id_rule is None:
            return ids

        # Tens of thousands of ids would swell the manifest.
        return {
            "rule": self.id_rule,
            "count": len(ids),
            "sha256": sha256("\n".join(ids).encode()).hexdigest(),
        }

    def file_digests(self, split: str) -> dict[str, str]:
        """Id -> the first half of the sha256 of its content, for the recordings of a split that are
        a file each, or a text each, and can be read.
        """
        own = {r.id: r.where for r in self.recordings(split) if isinstance(r.where, Path)}
        found = dict(zip(own, file_digests(list(own.values())), strict=True))
        for one in self.recordings(split):
            if isinstance(one.where, TextRow):
                found[one.id] = one.where.digest()
        return {name: one.hex()[:32] for name, one in found.items() if one != UNREADABLE}

    def contents(self) -> str:
        """Digest of what lies behind the recordings: replaced files or rows are not taken for the
        old ones.

        Of files all bytes (those that were read before are known by size, times and inode); of rows
        all pixels and labels; of a table its labels too. A file that cannot be read is told when it
        is decoded.
        """
        paths = []
        texts = []
        for split in self.splits:
            for recording in self.recordings(split):
                # A path, a row, a text, a seed, or several of these.
                where = recording.where
                parts = where if isinstance(where, tuple) else (where,)
                paths += [part for part in parts if isinstance(part, Path)]
                texts += [part.digest() for part in parts if isinstance(part, TextRow)]

        found = sha256(self.rows_digest.encode())
        for digest in [*file_digests(paths), *texts]:
            found.update(digest)
        return found.hexdigest()

    def describe(self) -> dict:
        """Plain JSON: name, source, whether synthetic, labels, sizes by split and class, notes,
        what was skipped.
        """
        splits = {name: self._counts(recordings) for name, recordings in self.splits.items()}
        return {
            "name": self.name,
            "kind": self.spec.modality,
            "item": self.spec.item,
            "synthetic": self.synthetic,
            "source": self.source,
            "seed": self.seed,
            "labels": list(self.labels),
            "splits": splits,
            "notes": list(self.notes),
            "padded": self.padded,
            "skipped": len(self.skipped),
            "skipped_files": [s.path for s in self.skipped[:20]],
        }

    def _counts(self, recordings: Sequence[Recording]) -> dict:
        """Recordings and windows of a split, and of each of its classes."""
        label = np.array([r.label for r in recordings], int)
        windows = [r.num_windows for r in recordings]
        count = np.bincount(label, minlength=len(self.labels))
        num_windows = np.bincount(label, windows, len(self.labels))

        per_class = {}
        for i, name in enumerate(self.labels):
            per_class[name] = {"recordings": int(count[i]), "windows": int(num_windows[i])}

        return {
            "recordings": len(recordings),
            "windows": int(num_windows.sum()),
            "per_class": per_class,
        }
