"""What every study starts from: a trained base, samples of its data set by split, and a file of
finished rows.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf import __version__
from edvit_tf.checked import differences, digest
from edvit_tf.data.dataset import Dataset
from edvit_tf.errors import ConfigError, DataError, OutputError
from edvit_tf.models.vit.config import ViTConfig


@dataclass(frozen=True)
class Base:
    """A trained base with its own head, and its data set at its input size."""

    config: ViTConfig
    weights: dict[str, np.ndarray]
    dataset: Dataset

    @property
    def identity(self) -> dict:
        """What rows of a study depend on, for `Rows`: digests of weights and splits, and the
        package's version.
        """
        # By name, in an order that does not depend on how they were loaded.
        content = hashlib.sha256()
        for name in sorted(self.weights):
            content.update(name.encode() + np.ascontiguousarray(self.weights[name]).tobytes())

        splits = {split: self.dataset.split_ids(split) for split in ("train", "validation", "test")}
        return {
            "base": content.hexdigest()[:16],
            "splits": digest(splits)[:16],
            "version": __version__,
        }


@dataclass(frozen=True)
class Samples:
    """Inputs (n, H, W, C) and labels (n,) of one split, the classes in equal shares."""

    x: np.ndarray
    labels: np.ndarray


def load_trained(source: str, name: str, data_dir: Path | None, seed: int) -> Base:
    """The base `source` (.keras, checkpoint folder or hub name) and the data set it was fine-tuned
    on; TensorFlow's operations are deterministic from here on.

    Raises ConfigError or DataError; a base without a head for this data set's classes is refused.
    """
    import tensorflow as tf

    from edvit_tf.data import load
    from edvit_tf.models.sources import find_base
    from edvit_tf.models.vit.pretrained import load_pretrained

    tf.config.experimental.enable_op_determinism()

    # Twice: the input's shape chooses the data, and the data's labels the head.
    path = find_base(source)
    shape = load_pretrained(path).config.input_shape
    dataset = load(name, data_dir, image_size=shape[:2], seed=seed)
    loaded = load_pretrained(path, num_classes=len(dataset.labels), labels=tuple(dataset.labels))

    if loaded.new_head or loaded.config.num_classes != len(dataset.labels):
        raise ConfigError(
            f"{source} has no head for the {len(dataset.labels)} classes of {name}; give a base "
            "that was fine-tuned on this data set."
        )
    return Base(loaded.config, loaded.weights, dataset)


def draw(base: Base, split: str, count: int, seed: int, skip: int = 0) -> Samples:
    """`count` windows of a split, the classes in equal shares (each class's first ones of a seeded
    shuffle, `skip` of all being left for another draw). Raises DataError when the split has too
    few.
    """
    dataset = base.dataset
    recordings = dataset.recordings(split)
    labels = np.array([recording.label for recording in recordings])
    classes = len(dataset.labels)
    # 77 and 78: streams that nothing else draws from by this seed.
    order = np.random.default_rng([seed, 77]).permutation(len(labels))
    by_class = [order[labels[order] == label] for label in range(classes)]

    # Places in each class: what another draw has comes first, and is passed over.
    first = math.ceil(skip / classes)
    last = first + math.ceil(count / classes)
    smallest = min(len(places) for places in by_class)
    if smallest < last:
        raise DataError(
            f"{count} samples of the {split} split, {skip} being left out, need {last} of each "
            f"class; the smallest class has {smallest}. Ask for fewer."
        )

    drawn = np.concatenate([places[first:last] for places in by_class])
    # Shuffled again, so that any part of the samples has all classes.
    chosen = np.random.default_rng([seed, 78]).permutation(drawn)[:count]
    # a long recording's first window
    x = [dataset.read([recordings[place]])[:1] for place in chosen]
    return Samples(np.concatenate(x), labels[chosen])


class Rows:
    """Finished rows of a study in a JSON-lines file: a study that was stopped goes on after its
    last row.
    """

    def __init__(self, path: Path | None, settings: dict):
        """Raises OutputError if `path` holds rows that were measured with other settings."""
        self.path = path
        self.done: dict[str, dict] = {}
        if path is None:
            return

        if path.is_file():
            self._read(path, settings)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")

    def _read(self, path: Path, settings: dict) -> None:
        """Takes up what is stored; a half line that a kill left is cut off."""
        # A row ends with its line: what follows the last line end was not finished.
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]

        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            stored = first["settings"]
            self.done = {line["key"]: line["row"] for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{path} is not a file of finished rows ({error}); take another --out, or move it "
                "away."
            ) from error

        if stored != settings:
            raise OutputError(
                f"{path} holds rows of other settings "
                f"({'; '.join(differences(stored, settings))}); take another --out, or move it "
                "away."
            )

        # The next row is to start on a line of its own.
        if whole != text:
            path.write_text(whole, encoding="utf-8")

    def row(self, name: dict, measure: Callable[[], dict]) -> dict:
        """The row of this name: the stored one, or `measure()`, stored at once."""
        key = digest(name)[:16]
        if key not in self.done:
            # Stored before the next is begun: a kill loses one row at most.
            self.done[key] = {**name, **measure()}
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "row": self.done[key]}) + "\n")

        return self.done[key]
