"""What every model of a run answered to the test split, by recording: predictions.npz of a bundle.

    labels (R,), recordings (R,) their places in the split, ids (R,) where the split lists them,
    and of each model its <name>_probabilities (R, classes) and <name>_top1 (R,)

Names are those of the report: "fused", "average", "base", "single" ... So whoever has a bundle can
compare its models, or two bundles of one split, recording by recording.
"""

import hashlib
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import BundleError
from edvit_tf.evaluation.paired import paired
from edvit_tf.training.recordings import per_recording

FILE = "predictions.npz"
FUSED = "fused"
# What numpy and zipfile raise on files that are none.
_DAMAGED = (
    *(OSError, ValueError, KeyError, EOFError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


class Predictions:
    """The answers of several models to the same windows, gathered by recording."""

    def __init__(self, labels: np.ndarray, recordings: np.ndarray):
        self._window_labels = labels
        self._window_recordings = recordings
        self.recordings, first = np.unique(recordings, return_index=True)
        self.labels = labels[first]
        self.probabilities: dict[str, np.ndarray] = {}  # name -> (R, classes)

    def add(self, name: str, windows: np.ndarray) -> None:
        """Takes a model's probabilities (n, classes) of all windows."""
        by_recording, _ = per_recording(windows, self._window_labels, self._window_recordings)
        self.probabilities[name] = by_recording

    def top1(self, name: str) -> np.ndarray:
        """The class (R,) that a model names."""
        return self.probabilities[name].argmax(axis=1)

    def comparisons(self) -> dict[str, dict]:
        """The fused fleet against each of the others (`paired`), by its name."""
        fused = self.top1(FUSED)
        others = [name for name in self.probabilities if name != FUSED]
        return {name: paired(fused, self.top1(name), self.labels) for name in others}

    def store(self, folder: Path, ids: list[str] | None) -> dict:
        """Writes the file into a folder; returns {"file", "bytes", "sha256"}.

        `ids` are those of the split, in its order; None where a rule gives them.
        """
        arrays = {"labels": self.labels, "recordings": self.recordings}
        if ids is not None:
            arrays["ids"] = np.array(ids)[self.recordings]
        for name, probabilities in self.probabilities.items():
            arrays[f"{name}_probabilities"] = probabilities.astype(np.float32)
            arrays[f"{name}_top1"] = self.top1(name).astype(np.int32)

        np.savez_compressed(folder / FILE, **arrays)
        content = (folder / FILE).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return {"file": FILE, "bytes": len(content), "sha256": digest}


def stored_probabilities(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A model's probabilities (R, classes), the labels (R,) and the recordings' places in the test
    split (R,); raises BundleError where they are not there.
    """
    file = folder / FILE
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            found = stored[f"{name}_probabilities"], stored["labels"], stored["recordings"]
    except _DAMAGED as error:
        raise BundleError(
            f"{file} has no answers of {name} that can be read ({error}). Copy the bundle again; "
            "of a version up to 0.3.0 run the recipe again."
        ) from error
    if found[0].ndim != 2 or {len(one) for one in found} != {len(found[0])}:
        raise BundleError(f"{file} has not as many answers as labels. Copy the bundle again.")
    return found


def stored_top1(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each model of a bundle named, {name: (R,)}, and the labels (R,); empty for a bundle of a
    version that did not store it. Raises BundleError for a damaged file.
    """
    file = folder / FILE
    if not file.is_file():
        return {}, np.zeros(0, np.int64)

    ending = "_top1"
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            named = {
                key.removesuffix(ending): stored[key]
                for key in stored.files
                if key.endswith(ending)
            }
            labels = stored["labels"]
    except _DAMAGED as error:
        raise BundleError(f"{file} cannot be read ({error}). Copy the bundle again.") from error

    if any(one.shape != labels.shape for one in named.values()):
        raise BundleError(
            f"{file} has not as many answers as the {len(labels)} labels. Copy the bundle again."
        )
    return named, labels
