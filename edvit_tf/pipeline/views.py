"""Views of the input that are worth a device each, chosen on validation data by the one model: the
mean of its answers under several views is better than its answer under one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.evaluation.accuracy import per_recording
from edvit_tf.evaluation.paired import mcnemar
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import Run
from edvit_tf.progress import tell
from edvit_tf.training.calibrate import calibration_figures

# Windows that are asked, at most: a candidate costs a pass over all of them.
WINDOWS = 5000

# Of a picture's rows and columns: 5 and 7 of 98. Of a log-mel map: of its columns, which are time;
# a voice is moved by a band or two, not by a share of all bands.
SHIFTS = (0.05, 0.07)
TIME_SHIFTS = (0.03, 0.08)
BANDS = (1, 2)
CROP = 0.05

# The best of many candidates on few recordings is better by luck. Views are taken where their gain
# would be rarer than this without any (exact McNemar test, two-sided): a gain of two of 30
# recordings is not, of 36 against 14 it is.
CHANCE = 0.2
# A device with a view may be the only one that is left, so alone it names nearly as many recordings
# as one without: a mirrored digit helps the others a little, and is named right one time in two.
MOST_LOST_ALONE = 0.05


class Seen:
    """Inputs (n, H, W, C) under a view, as an array that is read in slices: a memory map stays on
    the disk.
    """

    def __init__(self, inputs: np.ndarray, view: View):
        self._inputs = inputs
        self._view = view
        self.shape = inputs.shape
        self.dtype = inputs.dtype

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, rows) -> np.ndarray:
        return self._view.applied(np.asarray(self._inputs[rows]))


def seen(inputs: np.ndarray, view: View):
    """The inputs under a view; themselves where it changes nothing."""
    return inputs if view == AS_IT_IS else Seen(inputs, view)


def candidates(shape: Sequence[int], is_picture: bool) -> tuple[View, ...]:
    """Views of inputs of this shape (H, W, C) that may be chosen, the input as it is first.

    Of a picture it mirrored, moved by a few pixels, and cut a little; of a log-mel map it moved in
    time and in frequency. What a mirrored digit is worth is for validation data to say.
    """
    height, width, _ = shape
    moves = _picture_moves(height, width) if is_picture else _sound_moves(height, width)
    found = [View(down=down, right=right) for down, right in moves]
    if is_picture:
        found += [View(one.down, one.right, mirrored=True) for one in found]
        crop = _share(CROP, min(height, width))
        found += [View(crop=crop), View(crop=crop, mirrored=True)]
    return tuple(dict.fromkeys(one for one in found if _is_possible(one, shape)))


def good_alone(answers: np.ndarray, labels: np.ndarray, recordings: np.ndarray) -> list[int]:
    """The views, of the probabilities (V, n, classes) of one model under each, that a device which
    is left alone answers well with; view 0 is one.
    """
    shares = []
    for one in answers:
        p, truth = per_recording(one, labels, recordings)
        shares.append(float((p.argmax(axis=1) == truth).mean()))
    return [v for v, share in enumerate(shares) if share >= shares[0] - MOST_LOST_ALONE]


def greedy(
    answers: np.ndarray, labels: np.ndarray, recordings: np.ndarray, most: int
) -> tuple[list[int], list[dict]]:
    """Which views to take, the best next one each time, from the probabilities (V, n, classes) of
    one model under each: their numbers, and what the mean of the first k of them comes to, k = 1 to
    `most` or V ("p_value": whether that is told from the first alone).

    The first is view 0. The best next one leaves most recordings named right, of equals the one
    with the least negative log-likelihood, of equals the first.
    """

    def right(total: np.ndarray) -> np.ndarray:
        p, truth = per_recording(total, labels, recordings)
        return p.argmax(axis=1) == truth

    def worth(total: np.ndarray, count: int) -> tuple[float, float]:
        p, truth = per_recording(total / count, labels, recordings)
        return float((p.argmax(axis=1) == truth).mean()), -calibration_figures(p, truth)["nll"]

    chosen = [0]
    total = answers[0].astype(np.float64)
    alone = right(total)
    figures = [(*worth(total, 1), 1.0)]
    while len(chosen) < min(most, len(answers)):
        left = [v for v in range(len(answers)) if v not in chosen]
        tried = {v: worth(total + answers[v], len(chosen) + 1) for v in left}
        best = max(left, key=tried.__getitem__)
        chosen.append(best)
        total += answers[best]
        now = right(total)
        chance = mcnemar(int((now & ~alone).sum()), int((alone & ~now).sum()))
        figures.append((*tried[best], chance))

    told = []
    for count, (share, likelihood, chance) in enumerate(figures, start=1):
        told.append({"devices": count, "accuracy": share, "nll": -likelihood, "p_value": chance})
    return chosen, told


def useful(figures: Sequence[dict]) -> int:
    """How many views are worth it: the fewest of those with the most recordings named right, if
    that is told from one view's; else one.
    """
    best = max(one["accuracy"] for one in figures)
    found = next(one for one in figures if one["accuracy"] == best)
    return found["devices"] if found["p_value"] < CHANCE else 1


def views(run: Run, folder: Path, is_picture: bool) -> dict:
    """Views by the one model, as many as there are devices or sub-models, in the order in which
    they are worth it.
    """
    from edvit_tf.training.train import predict, softmax

    validation = Split(run.stages, "validation")
    rows = _rows(validation.recordings)
    x = np.asarray(validation.x[rows])
    tried = candidates(x.shape[1:], is_picture)

    weights = run.fitted_weights(run.single)
    answers = []
    for view in tried:
        said = predict(run.single.widths, weights, seen(x, view))
        answers.append(softmax(said["logits"]))

    most = max(len(run.split.devices), len(run.split.sub_models))
    truth = validation.labels[rows], validation.recordings[rows]
    good = good_alone(np.stack(answers), *truth)
    chosen, figures = greedy(np.stack([answers[v] for v in good]), *truth, most)
    count = useful(figures)
    tell(_told(figures, count, len(tried)))
    return {
        "views": [tried[good[v]].to_dict() for v in chosen],
        "validation": figures,
        "useful": count,
        "candidates": len(tried),
        "poor_alone": len(tried) - len(good),
        "windows": len(rows),
    }


def _told(figures: Sequence[dict], count: int, tried: int) -> str:
    """What was found, in words."""
    one, taken = figures[0], figures[count - 1]
    shares = f"{100 * one['accuracy']:.1f} -> {100 * taken['accuracy']:.1f} %"
    best = max(figures, key=lambda row: row["accuracy"])
    if count > 1 or best["accuracy"] == one["accuracy"]:
        said = f"views: {count} of {tried} are worth a device each"
        return f"{said}: {shares} of the validation recordings"
    return (
        f"views: one; with {best['devices']} of {tried} {100 * best['accuracy']:.1f} % of the "
        f"validation recordings are named, in the place of {100 * one['accuracy']:.1f}: on so few "
        f"that is chance (exact McNemar p = {best['p_value']:.2g})"
    )


def _rows(recordings: np.ndarray) -> np.ndarray:
    """Indices of WINDOWS windows at most, of whole recordings, evenly from all of them."""
    _, number = np.unique(recordings, return_inverse=True)
    step = -(-len(recordings) // WINDOWS)
    return np.flatnonzero(number.ravel() % step == 0)


def _picture_moves(height: int, width: int) -> list[tuple[int, int]]:
    """Rows down and columns to the right: nothing, along either axis, and both at once."""
    moves = [(0, 0)]
    for share in SHIFTS:
        down, right = _share(share, height), _share(share, width)
        moves += [(0, right), (0, -right), (down, 0), (-down, 0)]
    down, right = _share(SHIFTS[0], height), _share(SHIFTS[0], width)
    return [*moves, (down, right), (down, -right), (-down, right), (-down, -right)]


def _sound_moves(height: int, width: int) -> list[tuple[int, int]]:
    """Rows are mel bands, columns are time."""
    later = [0]
    for share in TIME_SHIFTS:
        later += [_share(share, width), -_share(share, width)]
    up = [0]
    for bands in BANDS:
        up += [bands, -bands]
    return [(down, right) for down in up for right in later]


def _share(share: float, size: int) -> int:
    return max(1, round(share * size))


def _is_possible(view: View, shape: Sequence[int]) -> bool:
    try:
        view.check(shape)
    except ValueError:
        return False
    return True
