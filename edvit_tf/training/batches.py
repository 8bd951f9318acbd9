"""Which samples an epoch sees, and how they are varied: every draw from (seed, epoch, batch), in
numpy.

"affine" turns the pictures with Keras (`affine.py`), by draws from here. "randaugment" alone is
keras-cv's (`randaugment.py`): its draws follow from the seed and the batches before.
"""

from collections.abc import Callable, Iterator

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.training.affine import affine
from edvit_tf.training.randaugment import randaugment


def group_epoch(
    labels: np.ndarray,
    classes: tuple[int, ...],
    num_classes: int,
    seed: int,
    epoch: int,
    other_weight: float = 1.0,
) -> np.ndarray:
    """Shuffled indices of one epoch for a class group: all its samples, and negatives for "other".

    The negatives are `other_weight` times as many as the group has samples a class (1.0: "other"
    weighs as much as one class, as EC-SNN resamples), one at least; they come evenly from every
    other class and are drawn anew each epoch. A class with fewer samples than its share gives each
    of them several times. A group of all classes has no negatives.
    """
    rng = np.random.default_rng([seed, epoch])
    inside = np.flatnonzero(np.isin(labels, classes))
    rest = [c for c in range(num_classes) if c not in classes]
    chosen = [inside]
    if rest:
        wanted = max(1, round(other_weight * len(inside) / len(classes)))
        share, extra = divmod(wanted, len(rest))
        for position, c in enumerate(rng.permutation(rest)):
            members = np.flatnonzero(labels == c)
            whole, part = divmod(share + (position < extra), max(1, len(members)))
            chosen += [
                *[members] * whole,
                rng.choice(members, min(part, len(members)), replace=False),
            ]
    return rng.permutation(np.concatenate(chosen))


def repeated_epoch(num_samples: int, count: int, seed: int, epoch: int) -> np.ndarray:
    """`count` shuffled indices below num_samples, each as often as the others but for one: an epoch
    of any length.
    """
    rng = np.random.default_rng([seed, epoch])
    rounds = -(-count // num_samples)
    return np.concatenate([rng.permutation(num_samples) for _ in range(rounds)])[:count]


def group_targets(
    labels: np.ndarray,
    teacher: np.ndarray | None,
    classes: tuple[int, ...],
    num_classes: int,
    distillation: float = 0.0,
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """Target distributions (n, |C_j| + 1), float32; the last column is "other" and is left out for
    all classes.

    Cross-entropy is linear in its target, so (1 - a) CE(label) + a CE(teacher) is the cross-entropy
    with the mixture of the two. `teacher` (n, num_classes) are the base's probabilities; those
    outside the group add up to "other".
    """
    hard = np.eye(num_classes, dtype=np.float32)[labels]
    hard = hard * (1 - label_smoothing) + label_smoothing / num_classes
    mixture = hard if teacher is None else (1 - distillation) * hard + distillation * teacher
    rest = [c for c in range(num_classes) if c not in classes]
    columns = [mixture[:, list(classes)]]
    if rest:
        columns.append(mixture[:, rest].sum(axis=1, keepdims=True))
    return np.concatenate(columns, axis=1).astype(np.float32)


def batches(
    inputs: np.ndarray,
    targets: tuple[np.ndarray, ...],
    epoch_indices: Callable[[int], np.ndarray],
    batch_size: int,
    augment: str,
    seed: int,
    kept_patches: tuple[int, int] | None = None,
    mix: str = "none",
) -> Iterator[tuple]:
    """Endless full batches (x, (target, ...)), epoch after epoch; `inputs` may be a memory map
    larger than memory.

    An epoch's last, short batch is filled from its start, so that every batch has one shape. x has
    the type of `inputs` ("mask": float32). With `kept_patches` (K, all) a batch is ({"input": x,
    "kept": (B, K) int32}, ...): K patches of every sample, drawn anew. `mix` as in `mixed`.
    """
    check_pictures(augment, inputs.dtype)
    change = (
        randaugment(seed, (batch_size, *inputs.shape[1:])) if augment == "randaugment" else None
    )
    epoch = 0
    while True:
        indices = epoch_indices(epoch)
        steps = max(1, -(-len(indices) // batch_size))
        filled = np.resize(indices, steps * batch_size)
        for step in range(steps):
            rows = np.sort(
                filled[step * batch_size : (step + 1) * batch_size]
            )  # sequential reads of a memory map
            rng = np.random.default_rng([seed, epoch, step])
            x = vary(inputs[rows], augment, rng) if change is None else change(inputs[rows])
            goals = tuple(target[rows] for target in targets)
            if mix != "none":
                x, goals = mixed(x, goals, mix, rng)
            if kept_patches is not None:
                kept, count = kept_patches
                places = np.argsort(rng.random((batch_size, count)), axis=1)[:, :kept]
                x = {"input": x, "kept": np.sort(places, axis=1).astype(np.int32)}
            yield x, goals
        epoch += 1


def check_pictures(augment: str, dtype: np.dtype) -> None:
    """Raises ConfigError if a variation of pictures alone ("affine", "randaugment") is asked for
    with other inputs.
    """
    if augment in ("affine", "randaugment") and dtype != np.uint8:
        raise ConfigError(
            f"TrainConfig.augment is {augment!r} and the inputs are {dtype}; it is for pictures "
            '(uint8, 0..255). Take "mask" for sound.'
        )


def mixed(
    x: np.ndarray, targets: tuple[np.ndarray, ...], mix: str, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Pairs of samples (B, H, W, C) in one, with the same share of both targets, each (B, n); types
    are kept.

    "mixup" (Zhang et al. 2018): their weighted sum, share ~ Beta(0.2, 0.2). "cutmix" (Yun et al.
    2019): a box of the other, share = its area, ~ Beta(1, 1) before it is cut off at the edge. One
    share a batch.
    """
    batch, height, width, _ = x.shape
    other = rng.permutation(batch)
    if mix == "mixup":
        share = rng.beta(0.2, 0.2)
        whole = share * x[other].astype(np.float32) + (1 - share) * x
        x = whole.round().astype(x.dtype) if x.dtype == np.uint8 else whole.astype(x.dtype)
    else:
        side = rng.beta(1.0, 1.0) ** 0.5 / 2
        row, column = rng.integers(0, height), rng.integers(0, width)
        rows = slice(max(0, round(row - side * height)), round(row + side * height))
        columns = slice(max(0, round(column - side * width)), round(column + side * width))
        share = x[0, rows, columns, 0].size / (height * width)
        x = x.copy()
        x[:, rows, columns] = x[other][:, rows, columns]
    return x, tuple(
        (share * target[other] + (1 - share) * target).astype(target.dtype) for target in targets
    )


def vary(x: np.ndarray, augment: str, rng: np.random.Generator) -> np.ndarray:
    """Random variations of a batch (B, H, W, C), in place where it can: shifts, flips, turns, or
    SpecAugment masks.

    Shifts, flips and turns ("affine") keep the type; "mask" gives float32. "mask" (Park et al.
    2019): one band of mel channels and one of frames, at most a fifth of each, take the sample's
    mean; before that a circular shift in time and a gain of up to 6 decibels either way.
    """
    batch, height, width, _ = x.shape
    if augment in ("shift", "shift_flip"):
        reach = max(1, height // 10)
        padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
        tops, lefts = rng.integers(0, 2 * reach + 1, (2, batch))
        flips = rng.random(batch) < (0.5 if augment == "shift_flip" else 0.0)
        for i in range(batch):
            view = padded[i, tops[i] : tops[i] + height, lefts[i] : lefts[i] + width]
            x[i] = view[:, ::-1] if flips[i] else view
    elif augment == "affine":
        x = affine(x, rng)
    elif augment == "mask":
        x = x.astype(np.float32)
        shifts, gains = rng.integers(0, width, batch), rng.uniform(-6, 6, batch)
        bands = (
            rng.integers(0, max(1, height // 5) + 1, batch),
            rng.integers(0, max(1, width // 5) + 1, batch),
        )
        for i in range(batch):
            x[i] = np.roll(x[i], shifts[i], axis=1) + gains[i]
            mean, band, frames = x[i].mean(), bands[0][i], bands[1][i]
            top, left = rng.integers(0, height - band + 1), rng.integers(0, width - frames + 1)
            x[i, top : top + band] = mean
            x[i, :, left : left + frames] = mean
    return x
