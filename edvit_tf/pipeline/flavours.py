"""Smaller files of the sub-models, judged by what they cost on real samples before they are
published.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import FlavourError
from edvit_tf.evaluation.accuracy import per_recording
from edvit_tf.evaluation.answers import ask, fuse
from edvit_tf.pipeline.inputs import Split
from edvit_tf.progress import warn

# Of fused accuracy on validation recordings, at most: float16 rounds weights to 11 bits, which
# moves no answer that is not a tie; int8 to 8, where two points are what half of the bytes of
# float16 are worth. One recording may always go: fewer than that cannot be told.
LOST_AT_MOST = {"float16": 0.005, "int8": 0.02}

# Windows that are asked, at most: 2,000 tell two points from none, in seconds.
WINDOWS = 2000
# Recordings that are asked whole, at least; where fewer fit, a part of each of all is asked.
ENOUGH = 100


def keep_good(
    folder: Path, write: Callable[[tuple[str, ...]], object], validation: Split, seed: int
) -> list[dict]:
    """Writes a bundle into an empty folder by `write(left_out)`, and once more without the flavours
    that lose too much; what each came to on validation recordings, in every runtime here.

    One whose files do not run, or would fail a device's own check, is left out as well. Only where
    that is float32 there is no bundle: ExportError.
    """
    failed = _written(folder, write)
    rows = _measured(folder, validation, seed)
    lossy = {row["flavour"] for row in rows if not row["ok"]}
    if not lossy:
        return rows
    bad = tuple(sorted({*failed, *lossy}))

    for row in rows:
        if not row["ok"]:
            warn(
                f"flavour {row['flavour']} is left out of the bundle: in {row['runtime']} "
                f"it names {row['lost']} of {row['recordings']} validation recordings less right "
                f"than float32 ({100 * row['accuracy']:.1f} against "
                f"{100 * row['float32_accuracy']:.1f} %; it may lose {row['may_lose']}).",
            )

    # Rare, and a bundle of its own: every file and digest is as if it had never been asked for.
    _empty(folder)
    write(bad)
    return rows


def _written(folder: Path, write: Callable[[tuple[str, ...]], object]) -> tuple[str, ...]:
    """Writes a bundle without the flavours whose files fail while it is written; their names."""
    failed: tuple[str, ...] = ()
    while True:
        try:
            write(failed)
            return failed
        except FlavourError as error:
            if error.flavour == "float32" or error.flavour in failed:
                raise
            warn(f"it is left out of the bundle: {error}")
            failed = (*failed, error.flavour)
            _empty(folder)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _measured(folder: Path, validation: Split, seed: int) -> list[dict]:
    """A row for each flavour but float32, and each runtime that loads it and is installed here."""
    bundle = open_bundle(folder)
    listed = bundle.sub_models[0].flavours
    if list(listed) == ["float32"]:
        return []

    # Beside the bundle, and gone before its files are listed.
    rows = _rows(validation, seed)
    inputs = folder.with_name(f"{folder.name}.inputs.npy")
    np.save(inputs, np.asarray(validation.x[rows]))
    truth = validation.labels[rows], validation.recordings[rows]

    found = []
    try:
        right = _right(bundle, inputs, truth, None, None)
        for flavour, entry in listed.items():
            for runtime in installed_runtimes():
                if flavour != "float32" and runtime in entry.runtimes:
                    here = _right(bundle, inputs, truth, flavour, runtime)
                    found.append(_row(flavour, runtime, right, here))
    finally:
        inputs.unlink()
    return found


def _row(flavour: str, runtime: str, right: np.ndarray, here: np.ndarray) -> dict:
    """What a flavour came to; `right` (recordings,) says where float32 named the class."""
    lost = int(right.sum()) - int(here.sum())
    may_lose = max(1, int(LOST_AT_MOST[flavour] * len(right)))
    return {
        "flavour": flavour,
        "runtime": runtime,
        "recordings": len(right),
        "float32_accuracy": float(right.mean()),
        "accuracy": float(here.mean()),
        "lost": lost,
        "may_lose": may_lose,
        "ok": lost <= may_lose,
    }


def _right(
    bundle: Bundle, inputs: Path, truth: tuple, flavour: str | None, runtime: str | None
) -> np.ndarray:
    """(recordings,): whether the fused answer names a recording right; never where it is no
    number.
    """
    p, _ = fuse(bundle, ask(bundle, inputs, flavour, runtime))
    by_recording, labels = per_recording(p, *truth)
    is_number = np.isfinite(by_recording).all(axis=1)
    return (by_recording.argmax(axis=1) == labels) & is_number


def _rows(validation: Split, seed: int) -> np.ndarray:
    """Indices of the windows that are asked, in order, WINDOWS at most: whole recordings, drawn, or
    a part of each where they are too long for many whole ones.
    """
    if len(validation.labels) <= WINDOWS:
        return np.arange(len(validation.labels))

    names, of_window = np.unique(validation.recordings, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    owned = [np.flatnonzero(of_window == name) for name in order]

    rows: list[np.ndarray] = []
    left = WINDOWS
    for own in owned:
        if len(own) <= left:
            rows.append(own)
            left -= len(own)
    if len(rows) >= min(len(names), ENOUGH):
        return np.sort(np.concatenate(rows))

    # evenly over the length of each
    each = max(1, WINDOWS // len(names))
    rows = []
    for own in owned[:WINDOWS]:
        count = min(each, len(own))
        rows.append(own[np.arange(count) * len(own) // count])
    return np.sort(np.concatenate(rows))
