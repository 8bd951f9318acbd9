"""Data sets that are rows of pixels in memory, with an official test split: MNIST and CIFAR-10's
batches.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from edvit_tf.device.model.image import ImageSpec, image_batch

from .dataset import Dataset, Recording
from .split import check_classes, stratified_mask

CHUNK = 512  # rows resized at once
ID_RULE = (
    "<file>/<row>: rows of the official files; validation is drawn from train, stratified by "
    "label, by the seed"
)


def draw_validation(
    labels: Sequence[int] | np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, list[str]]:
    """bool mask over train rows, and a note if train is so small that it gives a tenth of itself
    instead.
    """
    allowed = len(labels) // 10
    notes = []
    if allowed < count:
        notes.append(
            f"validation is a tenth of train, {allowed} rows: fewer than validation_count = "
            f"{count} allows"
        )

    return stratified_mask(labels, min(count, allowed), seed), notes


def from_rows(
    name: str,
    labels: tuple[str, ...],
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]],
    source: str,
    settings,
) -> Dataset:
    """A Dataset of "train" and "test" (pixels uint8 (n, h, w, c), labels (n,)); validation comes
    out of train.
    """
    height, width = settings.image_size
    spec = ImageSpec(height, width, channels=rows["train"][0].shape[-1])
    # Of train alone: the official test split stays whole.
    mask, notes = draw_validation(rows["train"][1], settings["validation_count"], settings.seed)

    def recordings(file: str, chosen: np.ndarray) -> tuple[Recording, ...]:
        y = rows[file][1].tolist()
        found = []
        for i in chosen.tolist():
            key = f"{file}/{i:05d}"
            found.append(Recording(id=key, label=y[i], group=key, num_windows=1, where=(file, i)))
        return tuple(found)

    def read(chosen: Sequence[Recording]) -> np.ndarray:
        file, _ = chosen[0].where  # one split comes from one file
        pixels, _ = rows[file]
        return image_batch(pixels[[r.where[1] for r in chosen]], spec)

    splits = {
        "train": recordings("train", np.flatnonzero(~mask)),
        "validation": recordings("train", np.flatnonzero(mask)),
        "test": recordings("test", np.arange(len(rows["test"][1]))),
    }
    check_classes(splits, labels, source, notes)

    # All bytes, in an order that is always the same.
    content = sha256()
    for file in sorted(rows):
        for part in rows[file]:
            content.update(np.ascontiguousarray(part).data)

    return Dataset(
        name,
        labels,
        spec,
        {},
        source,
        settings.seed,
        splits,
        read,
        chunk=CHUNK,
        id_rule=ID_RULE,
        rows_digest=content.hexdigest(),
        notes=notes,
    )
