"""Wrong answers that a person can look at, listen to or read: mistakes.json of a bundle.

Of the test recordings that the fused fleet names wrong the most confident ones, a picture, a sound
or the beginning of the text of each, and what every sub-model said. Few, and bounded in bytes: a
page holds them all. Whoever does not want samples of the data in a bundle deletes the file: nothing
else needs it.
"""

import hashlib
import io
import json
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from edvit_tf.data.names import printable
from edvit_tf.device.errors import BundleError, InputError
from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.errors import DataError
from edvit_tf.evaluation.answers import ask
from edvit_tf.evaluation.evaluate import data_of, unseen
from edvit_tf.evaluation.predictions import FUSED, stored_probabilities

FILE = "mistakes.json"
MOST = 12
MOST_OF_A_PAIR = 2  # of one class that is taken for another: others are seen too
MOST_BYTES = 1 << 20  # of all pictures and sounds
LONGEST_EDGE = 160  # pixels
LONGEST_SECONDS = 3.0
LONGEST_TEXT = 280  # characters


def most_confident(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Rows of (R, classes) that are named wrong, by falling probability of the class that is named;
    of equal ones the first. At most MOST, and MOST_OF_A_PAIR of a true and a named class.
    """
    named = probabilities.argmax(axis=1)
    share = np.nan_to_num(probabilities.max(axis=1), nan=-1.0)
    wrong = np.flatnonzero(named != labels)
    chosen: list[int] = []
    pairs: Counter[tuple[int, int]] = Counter()
    for row in wrong[np.argsort(-share[wrong], kind="stable")]:
        pair = (int(labels[row]), int(named[row]))
        if pairs[pair] < MOST_OF_A_PAIR and len(chosen) < MOST:
            pairs[pair] += 1
            chosen.append(int(row))
    return chosen


def store_mistakes(
    folder: Path,
    bundle: Bundle,
    dataset,
    wrong: dict[int, np.ndarray],
    windows: dict[int, np.ndarray],
    logits: dict[int, list[np.ndarray]],
) -> dict:
    """Writes the file into a folder; returns {"file", "bytes", "sha256"}.

    By a recording's place in the test split: `wrong` has the fleet's probabilities (classes,) of
    each that is told of, in their order, `windows` its inputs (n, H, W, C), and `logits` what each
    sub-model said to them, (n, |C_j| + 1).
    """
    found = []
    room = MOST_BYTES
    for place, probabilities in wrong.items():
        recording = dataset.recordings("test")[place]
        shown, room = _media(dataset, recording, windows[place][0], room)
        found.append(
            {
                "id": recording.id,
                **_answer(bundle.labels, recording.label, probabilities),
                "members": _members(bundle, logits[place]),
                **shown,
            }
        )

    text = json.dumps({"mistakes": found}, indent=1, ensure_ascii=False)
    content = text.encode()
    (folder / FILE).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": FILE, "bytes": len(content), "sha256": digest}


def add_mistakes(bundle_path: Path, data_dir: Path | None) -> int:
    """Puts the file into a finished bundle that has predictions.npz, from the data that it was made
    from; returns how many mistakes it has. Raises BundleError, DataError.
    """
    bundle = open_bundle(bundle_path)
    probabilities, labels, recordings = stored_probabilities(bundle.path, FUSED)
    dataset, note = unseen(bundle, data_of(bundle, data_dir), "test")
    if note is not None:
        raise DataError(f"{note}: its mistakes are not among them. Give the bundle's own data.")
    if len(recordings) and recordings.max() >= len(dataset.recordings("test")):
        raise BundleError(f"{bundle.path} has predictions of other data. Copy the bundle again.")

    chosen = most_confident(probabilities, labels)
    wrong = {int(recordings[row]): probabilities[row] for row in chosen}
    split = dataset.recordings("test")
    windows = {place: dataset.read([split[place]]) for place in wrong}
    store_mistakes(bundle.path, bundle, dataset, wrong, windows, _asked(bundle, windows))
    return len(wrong)


def _asked(bundle: Bundle, windows: dict[int, np.ndarray]) -> dict[int, list[np.ndarray]]:
    """What each sub-model's file says to these recordings, by their places."""
    if not windows:
        return {}
    with tempfile.TemporaryDirectory(prefix="edvit-mistakes-") as folder:
        inputs = Path(folder) / "inputs.npy"
        np.save(inputs, np.concatenate(list(windows.values())))
        answers = ask(bundle, inputs)

    ends = np.cumsum([len(one) for one in windows.values()])[:-1]
    parts = [np.split(one, ends) for one in answers.logits]
    return {place: [part[i] for part in parts] for i, place in enumerate(windows)}


def _answer(labels: Sequence[str], truth: int, probabilities: np.ndarray) -> dict:
    named = int(probabilities.argmax())
    return {
        "label": labels[truth],
        "named": labels[named],
        "share": _share(probabilities[named]),
        "label_share": _share(probabilities[truth]),
    }


def _members(bundle: Bundle, logits: Sequence[np.ndarray]) -> list[dict]:
    """What each sub-model says of a recording: a class of its own, or None for "none of mine"."""
    said = []
    for entry, own in zip(bundle.sub_models, logits, strict=True):
        p = softmax(np.asarray(own, np.float64), axis=1).mean(axis=0)
        best = int(p.argmax())
        named = entry.labels[best] if best < len(entry.labels) else None
        said.append(
            {
                "name": entry.name,
                "devices": list(entry.devices),
                "named": named,
                "share": _share(p[best]),
            }
        )
    return said


def _share(value: float) -> float:
    """Rounded, and 0 for what is no number: plain JSON."""
    return round(float(np.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)), 4)


def _media(dataset, recording, window: np.ndarray, room: int) -> tuple[dict, int]:
    """{"picture": ..., "sound": ...} as far as there is such and `room` for it; the room left."""
    shown = {}
    for name, made in (
        ("picture", _picture(window, dataset.spec)),
        ("sound", _sound(recording, dataset.spec)),
    ):
        if made is None or len(made[1]) > room:
            continue
        kind, content = made
        room -= len(content)
        shown[name] = {"type": kind, "content": b64encode(content).decode()}
    text = _text(dataset, recording)
    if text is not None:
        shown["text"] = text
    return shown, room


def _text(dataset, recording) -> str | None:
    """The beginning of a text, its spaces and line ends as one space each; None for others."""
    if dataset.text_of is None:
        return None
    try:
        text = dataset.text_of(recording)
    except InputError:  # it was there when it was read
        return None
    plain = " ".join(printable(part) for part in text[: 8 * LONGEST_TEXT].split())
    return plain if len(plain) <= LONGEST_TEXT else f"{plain[:LONGEST_TEXT]}..."


def _picture(x: np.ndarray, spec) -> tuple[str, bytes] | None:
    """A window as a picture: pixels as they are, a log-mel map in grey with low bands below; None
    for what is neither.
    """
    from PIL import Image

    if spec.is_picture:
        pixels = np.asarray(x, np.uint8)
    elif spec.is_sound:
        decibels = np.nan_to_num(np.asarray(x, np.float64)[::-1], posinf=0.0, neginf=0.0)
        scaled = decibels - decibels.min()
        pixels = (255 * scaled / max(scaled.max(), 1e-9)).astype(np.uint8)
    else:
        return None

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3])
    image.thumbnail((LONGEST_EDGE, LONGEST_EDGE))
    written = io.BytesIO()
    # what is small keeps its pixels; a photograph of more would be 50 KB as PNG
    if max(image.size) <= 64:
        image.save(written, "PNG", optimize=True)
        return "image/png", written.getvalue()
    image.save(written, "JPEG", quality=88)
    return "image/jpeg", written.getvalue()


def _sound(recording, spec) -> tuple[str, bytes] | None:
    """The first seconds of a recording that is a file; None for others."""
    if not spec.is_sound or not isinstance(recording.where, Path):
        return None
    import soundfile

    from edvit_tf.data.audio import load_samples

    try:
        samples = load_samples(recording.where, spec.sample_rate_hz)
    except InputError:  # it was there when it was decoded
        return None
    written = io.BytesIO()
    part = samples[: int(LONGEST_SECONDS * spec.sample_rate_hz)]
    soundfile.write(written, part, spec.sample_rate_hz, format="FLAC", subtype="PCM_16")
    return "audio/flac", written.getvalue()
