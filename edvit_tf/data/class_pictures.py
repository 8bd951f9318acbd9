"""Class folders of pictures as a data set: what Caltech and Omniglot share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.image import ImageSpec

from .dataset import Dataset, Recording, Skipped, check_skipped
from .folders import Found, readable_images
from .names import class_labels, printable
from .split import check_classes

Splits = dict[str, tuple[Recording, ...]]


def picture_dataset(
    name: str,
    place: Found,
    pictures_of: Mapping[Path, Sequence[Path]],
    named: Mapping[Path, str],
    settings,
    *,
    channels: int,
    split: Callable[[list[Recording]], Splits],
    notes: list[str],
    skipped: list[Skipped],
    group: Callable[[Path], str] | None = None,
) -> Dataset:
    """The data set of class folders: `pictures_of` each, the class's name of each in `named`, both
    in the order of the labels. A picture is decoded each time that it is read.

    `group` tells of a file what must stay on one side of the split; None: each is alone. DataError:
    too many unreadable files, a name that cannot be a label, a class that training lacks.
    """
    label_of = class_labels({folder: named[folder] for folder in pictures_of})
    labels = tuple(label_of.values())

    recordings = []
    for label, (folder, paths) in enumerate(pictures_of.items()):
        for path in readable_images(paths, place, skipped):
            key = f"{label_of[folder]}/{printable(path.name)}"
            whose = key if group is None else group(path)
            recordings.append(
                Recording(id=key, label=label, group=whose, num_windows=1, where=path)
            )
    check_skipped(skipped, len(recordings) + len(skipped), f"{name} ({place.shown})")

    splits = split(recordings)
    check_classes(splits, labels, place.shown, notes)

    height, width = settings.image_size
    spec = ImageSpec(height, width, channels)

    def read(some: Sequence[Recording]) -> np.ndarray:
        return np.concatenate([spec.from_file(r.where, {}) for r in some])

    return Dataset(
        name,
        labels,
        spec,
        {},
        place.shown,
        settings.seed,
        splits,
        read,
        notes=notes,
        skipped=skipped,
    )
