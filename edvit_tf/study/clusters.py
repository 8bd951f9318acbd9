"""What do weights on few values save on a slow link, and what do they cost? Measured on a bundle's
own files.

Rows: the float32 and int8 files as they are, then both with the matrices of every sub-model
clustered (`edvit_tf.models.vit.clustering`), before and after training the centroids. Bytes are
those of all sub-models' files, compressed by zlib at level 9, which is what `rsync -z` and `scp -C`
do to them.
"""

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.evaluation.accuracy import accuracy
from edvit_tf.evaluation.answers import Answers, fuse
from edvit_tf.evaluation.evaluate import materialise
from edvit_tf.models import architecture
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.study.common import Rows

LINK_BITS_PER_SECOND = 2_000_000
# the runtime that answers here, by the flavour of the files
RUNTIMES = {"float32": "tflite-runtime", "int8": "ai-edge-litert"}
Weights = dict[str, np.ndarray]


def clusters_study(
    bundle: Bundle,
    dataset,
    rows: Rows,
    *,
    clusters: Sequence[int],
    epochs: Sequence[int],
    samples: int,
    split: str,
    seed: int,
) -> Iterator[dict]:
    """Yields a row for each flavour of each set of weights: clusters (None: as they are), epochs,
    flavour, bytes, compressed_bytes, link_seconds, accuracy (fused, on `split`), recordings.

    `samples` training windows are what centroids are trained on. Raises ExportError, DataError.
    """
    # (values a matrix, epochs); first the weights as they are
    made_of: list[tuple[int | None, int]] = [(None, 0)]
    for count in clusters:
        made_of += [(count, rounds) for rounds in epochs]

    with tempfile.TemporaryDirectory(prefix="edvit-study-") as name:
        fleet = _Fleet(bundle, dataset, split, samples, seed, Path(name))
        for count, rounds in made_of:
            for flavour in RUNTIMES:

                def figures(count=count, rounds=rounds, flavour=flavour) -> dict:
                    return fleet.figures(count, rounds, flavour)

                # A row that is stored already is not measured again.
                yield rows.row({"clusters": count, "epochs": rounds, "flavour": flavour}, figures)


class _Fleet:
    """The sub-models of a bundle, the samples that centroids are trained on, and those that the
    files are asked.
    """

    def __init__(
        self, bundle: Bundle, dataset, split: str, samples: int, seed: int, folder: Path
    ) -> None:
        from edvit_tf.models.weights import get_weights, load_keras

        self.bundle = bundle
        self.folder = folder
        self.seed = seed
        self.configs = []
        self.weights = []
        for entry in bundle.sub_models:
            self.configs.append(ViTConfig.from_dict(entry.config))
            self.weights.append(get_weights(load_keras(verified_path(bundle, entry.keras))))

        # Written once: every row asks the same windows.
        self.held_out = materialise(dataset, split, folder)

        recordings = dataset.recordings("train")
        order = np.random.default_rng(seed).permutation(len(recordings))
        chosen = np.sort(order[:samples])
        # (n, H, W, C): a long recording's first window
        self.train = np.concatenate([dataset.read([recordings[i]])[:1] for i in chosen])

        self._made: tuple = ()  # (count, rounds, weights) of the last row

    def figures(self, count: int | None, rounds: int, flavour: str) -> dict:
        """Exports the weights of a row, weighs the files and asks them."""
        from edvit_tf.export.convert import convert
        from edvit_tf.export.process import run_in_process

        inputs, labels, recordings = self.held_out
        entry = self.bundle.input
        # The runtime that an int8 file needs loads the "litert" graph too.
        target = "portable" if flavour == "float32" else "litert"
        file = self.folder / "model.tflite"
        size = 0
        compressed = 0
        outputs = []

        # Each file takes the place of the one before: its bytes and answers are what is kept.
        members = zip(
            self.bundle.sub_models, self.configs, self._clustered(count, rounds), strict=True
        )
        for member, config, weights in members:
            graph, signature = architecture(config).graph(
                config, weights, entry.name, entry.dtype, target
            )
            convert(graph, signature, file, weights, flavour)
            content = file.read_bytes()
            size += len(content)
            compressed += len(zlib.compress(content, 9))
            output, _ = run_in_process(file, inputs, runtime=RUNTIMES[flavour], view=member.view)
            outputs.append(output)

        # Fused as a whole fleet is; no process has anything to report here.
        answers = Answers(
            tuple(output["features"] for output in outputs),
            tuple(output["logits"] for output in outputs),
            (),
        )
        share = accuracy(fuse(self.bundle, answers)[0], labels, recordings)

        return {
            "bytes": size,
            "compressed_bytes": compressed,
            "link_seconds": 8 * compressed / LINK_BITS_PER_SECOND,
            "accuracy": share["recording"],
            "recordings": share["recordings"],
        }

    def _clustered(self, count: int | None, rounds: int) -> list[Weights]:
        """The weights of every sub-model on `count` values; made once for both flavours, and only
        if a row is still to do.
        """
        from edvit_tf.models.vit.clustering import cluster
        from edvit_tf.training.train import predict

        if count is None:
            return self.weights

        # Both flavours of a row come one after the other: the last weights are enough to keep.
        if self._made[:2] != (count, rounds):
            found = []
            members = zip(self.bundle.sub_models, self.configs, self.weights, strict=True)
            for member, config, weights in members:
                train = member.view.applied(self.train)
                answers = predict(config, weights, train)
                clustered, _ = cluster(
                    config,
                    weights,
                    train,
                    answers,
                    clusters=count,
                    epochs=rounds,
                    seed=self.seed,
                )
                found.append(clustered)
            self._made = (count, rounds, found)

        return self._made[2]


def clusters_table(rows: list[dict]) -> str:
    """The rows as text; accuracies in percent, change in points against the first row."""
    lines = [
        f"{'clusters':>9}{'epochs':>8}  "
        f"{'flavour':<9}{'MiB':>8}{'compressed':>12}{'s at 2 Mbit/s':>15}"
        f"{'fused':>8}{'change':>8}"
    ]
    for row in rows:
        # The first row has the weights as they are, in float32.
        change = row["accuracy"] - rows[0]["accuracy"]
        lines.append(
            f"{row['clusters'] or '-':>9}{row['epochs']:>8}  {row['flavour']:<9}"
            f"{row['bytes'] / 2**20:>8.2f}{row['compressed_bytes'] / 2**20:>12.2f}"
            f"{row['link_seconds']:>15.1f}{100 * row['accuracy']:>8.2f}{100 * change:>+8.2f}"
        )
    return "\n".join(lines)
