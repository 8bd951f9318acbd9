"""Data sets that are rows of pixels in memory, with an official test split: MNIST and CIFAR-10's
batches.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from edvit_tf.device.model.image import ImageSpec, image_batch

from .dataset import SPLITS, Dataset, Recording
from .split import check_classes, stratified_mask

CHUNK = 512  # rows resized at once
ID_RULE = "<file>/<row>: rows of the official files; validation is drawn from train, stratified by label, by the seed"


def draw_validation(labels: Sequence[int], count: int, seed: int) -> tuple[np.ndarray, str]:
    """bool mask over train rows, and a note if train is so small that it gives a tenth of itself
    instead.
    """
    allowed = len(labels) // 10
    note = f"validation is a tenth of train, {allowed} rows: fewer than validation_count = {count} allows"
    return stratified_mask(labels, min(count, allowed), seed), note if allowed < count else ""


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
    mask, note = draw_validation(rows["train"][1], settings["validation_count"], settings.seed)

    def recordings(file: str, chosen: np.ndarray) -> tuple[Recording, ...]:
        y = rows[file][1].tolist()
        ids = [f"{file}/{i:05d}" for i in chosen]
        return tuple(
            Recording(k, y[i], k, 1, (file, i)) for k, i in zip(ids, chosen.tolist(), strict=True)
        )

    def read(chosen: Sequence[Recording]) -> np.ndarray:
        pixels = rows[chosen[0].where[0]][0]  # one split comes from one file
        return image_batch(pixels[[r.where[1] for r in chosen]], spec)

    everything = np.arange(len(rows["test"][1]))
    splits = dict(
        zip(
            SPLITS,
            (
                recordings("train", np.flatnonzero(~mask)),
                recordings("train", np.flatnonzero(mask)),
                recordings("test", everything),
            ),
            strict=True,
        )
    )
    notes = [note] if note else []
    check_classes(splits, labels, source, notes)
    content = sha256()
    for file in sorted(rows):
        for part in rows[file]:
            content.update(np.ascontiguousarray(part))
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
