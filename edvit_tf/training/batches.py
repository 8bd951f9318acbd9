"""Which samples an epoch sees, their targets, and the batches of a fit: every draw from (seed,
epoch, batch), in numpy.

What a batch looks like afterwards is `augment.py`'s. "randaugment" alone is keras-cv's
(`randaugment.py`): its draws follow from the seed and the batches before.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.view import View
from edvit_tf.training.augment import check_pictures, mixed, vary
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
    if not rest:
        return rng.permutation(inside)

    wanted = max(1, round(other_weight * len(inside) / len(classes)))
    share, extra = divmod(wanted, len(rest))

    chosen = [inside]
    for position, c in enumerate(rng.permutation(rest)):
        members = np.flatnonzero(labels == c)
        count = share + (position < extra)  # the first of the order give one more

        # All of its samples as often as it takes, and a part of them once more.
        whole, part = divmod(count, max(1, len(members)))
        chosen += [members] * whole
        chosen.append(rng.choice(members, min(part, len(members)), replace=False))
    return rng.permutation(np.concatenate(chosen))


def whole_epoch(labels: np.ndarray, classes: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    """Shuffled indices of one epoch for a class group that forgets nothing: all samples of the
    other classes once, and the group's so often that they are as many, once at least.
    """
    rng = np.random.default_rng([seed, epoch])
    is_own = np.isin(labels, classes)
    inside, rest = np.flatnonzero(is_own), np.flatnonzero(~is_own)
    count = max(len(inside), len(rest)) if len(inside) else 0

    # Whole permutations: no sample comes twice before all have come once.
    rounds = [rng.permutation(inside) for _ in range(-(-count // max(1, len(inside))))]
    return rng.permutation(np.concatenate([rest, *rounds])[: len(rest) + count])


def fixed_epoch(
    labels: np.ndarray, classes: tuple[int, ...], num_classes: int, seed: int, epoch: int
) -> np.ndarray:
    """Shuffled indices of one epoch as EC-SNN's `resample` makes it: all samples of the group, and
    of each other class min(its samples, int(n / (10 num_classes)) - |C_j|) for "other", one at
    least, drawn once: the same in every epoch. CIFAR-10 in ten groups: 499 of each, 4,491 in all.
    """
    rng = np.random.default_rng([seed, 0])
    share = max(1, len(labels) // (10 * num_classes) - len(classes))
    chosen = [np.flatnonzero(np.isin(labels, classes))]
    for c in range(num_classes):
        if c not in classes:
            members = np.flatnonzero(labels == c)
            chosen.append(rng.choice(members, min(share, len(members)), replace=False))
    return np.random.default_rng([seed, 1, epoch]).permutation(np.concatenate(chosen))


def own_epoch(
    train: TrainConfig,
    labels: np.ndarray,
    classes: tuple[int, ...],
    num_classes: int,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Shuffled indices of one epoch of a class group's own fit, as train.epoch says."""
    if train.epoch == "all":
        return whole_epoch(labels, classes, seed, epoch)
    if train.epoch == "fixed":
        return fixed_epoch(labels, classes, num_classes, seed, epoch)
    return group_epoch(labels, classes, num_classes, seed, epoch, train.other_weight)


def weight_of_other(train: TrainConfig, own: int, others: int) -> float:
    """How often "other" comes in such an epoch, against one of the `own` classes of the group,
    where all classes have as many samples.
    """
    if train.epoch == "fixed":
        return others / 10  # of each other class a tenth of what the group has of one, nearly
    return float(min(own, others)) if train.epoch == "all" else train.other_weight


def repeated_epoch(num_samples: int, count: int, seed: int, epoch: int) -> np.ndarray:
    """`count` shuffled indices below num_samples, each as often as the others but for one: an epoch
    of any length.
    """
    rng = np.random.default_rng([seed, epoch])
    # Whole permutations: no sample comes twice before all have come once.
    rounds = -(-count // num_samples)
    return np.concatenate([rng.permutation(num_samples) for _ in range(rounds)])[:count]


def steps_an_epoch(num_indices: int, batch_size: int) -> int:
    """Batches of an epoch, the last one filled up; one at least."""
    return max(1, -(-num_indices // batch_size))


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
    # (n, num_classes)
    hard = np.eye(num_classes, dtype=np.float32)[labels]
    mixture = hard * (1 - label_smoothing) + label_smoothing / num_classes
    if teacher is not None:
        mixture = (1 - distillation) * mixture + distillation * teacher

    columns = [mixture[:, list(classes)]]
    rest = [c for c in range(num_classes) if c not in classes]
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

    # Made once: its draws follow from those before.
    by_keras_cv = None
    if augment == "randaugment":
        by_keras_cv = randaugment(seed, (batch_size, *inputs.shape[1:]))

    for epoch, step, rows in _drawn_rows(epoch_indices, batch_size):
        # By its place alone: a batch is the same whatever was drawn before it.
        rng = np.random.default_rng([seed, epoch, step])
        x = inputs[rows]
        goals = tuple(target[rows] for target in targets)
        x = by_keras_cv(x) if by_keras_cv else vary(x, augment, rng)
        # Mixed last, of inputs that were each varied alone.
        if mix != "none":
            x, goals = mixed(x, goals, mix, rng)
        if kept_patches is not None:
            x = {"input": x, "kept": _drawn_patches(batch_size, *kept_patches, rng)}
        yield x, goals


def member_batches(
    inputs: np.ndarray,
    targets: tuple[np.ndarray, ...],
    epoch_indices: Callable[[int], np.ndarray],
    views: Sequence[View],
    train: TrainConfig,
    seed: int,
    kept_patches: tuple[int, int] | None = None,
) -> Iterator[tuple]:
    """Endless batches (x (N, B, H, W, C), places (B, K) or None, (target, ...)) for members that
    are trained together: the same samples for all, each varied for every member anew and then seen
    by its view, as on a device. Pairs that are mixed, and patches that are kept, are the same for
    all.
    """
    check_pictures(train.augment, inputs.dtype)
    batch = train.batch_size
    by_keras_cv = None
    if train.augment == "randaugment":
        shape = (batch, *inputs.shape[1:])
        by_keras_cv = [randaugment(seed + member, shape) for member in range(len(views))]

    for epoch, step, rows in _drawn_rows(epoch_indices, batch):
        truth = tuple(target[rows] for target in targets)
        seen = []
        for member, view in enumerate(views):
            x = inputs[rows]
            rng = np.random.default_rng([seed, epoch, step, member])
            x = by_keras_cv[member](x) if by_keras_cv else vary(x, train.augment, rng)
            goals = truth
            if train.mix != "none":
                # begun anew for each: the same pairs and shares, whose targets are one
                x, goals = mixed(x, truth, train.mix, np.random.default_rng([seed, epoch, step]))
            seen.append(view.applied(x))

        places = None
        if kept_patches is not None:
            rng = np.random.default_rng([seed, epoch, step, len(views)])
            places = _drawn_patches(batch, *kept_patches, rng)
        yield np.stack(seen), places, goals


class Varied:
    """Inputs (n, H, W, C), each varied once, as an array that is read in slices from its start, up
    to `batch_size` rows each: the same draws for who reads it so again.
    """

    def __init__(
        self, inputs: np.ndarray, augment: str, seed: int, copy: int, batch_size: int = 64
    ):
        check_pictures(augment, inputs.dtype)
        self._inputs = inputs
        self._augment = augment
        self._seed = [seed, copy]
        self._batch = batch_size
        self.shape = inputs.shape
        self.dtype = np.dtype(np.float32) if augment == "mask" else inputs.dtype
        self._by_keras_cv = None

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, rows: slice) -> np.ndarray:
        x = np.array(self._inputs[rows])
        if self._augment == "randaugment":
            # its n-th call draws the n-th numbers, so who begins again needs a new one
            if self._by_keras_cv is None or not rows.start:
                seed, copy = self._seed
                self._by_keras_cv = randaugment(seed + copy, (self._batch, *self.shape[1:]))
            # of one shape, whatever is left at the end
            whole = np.resize(x, (self._batch, *x.shape[1:]))
            return self._by_keras_cv(whole)[: len(x)]
        return vary(x, self._augment, np.random.default_rng([*self._seed, rows.start]))


def _drawn_rows(
    epoch_indices: Callable[[int], np.ndarray], batch_size: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Endless (epoch, step, the rows of a full batch, in order)."""
    epoch = 0
    while True:
        indices = epoch_indices(epoch)
        steps = steps_an_epoch(len(indices), batch_size)
        # Repeated from the start: every batch has one shape, and one compiled step.
        filled = np.resize(indices, steps * batch_size)
        for step in range(steps):
            rows = filled[step * batch_size : (step + 1) * batch_size]
            yield epoch, step, np.sort(rows)  # sequential reads of a memory map
        epoch += 1


def _drawn_patches(batch: int, kept: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(B, kept) int32: the numbers of the patches that each sample keeps of `count`, in order."""
    # The first of a random order, a row a sample: (B, kept)
    places = np.argsort(rng.random((batch, count)), axis=1)[:, :kept]
    return np.sort(places, axis=1).astype(np.int32)
