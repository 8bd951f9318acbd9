"""What do weights on few values save on a slow link, and what do they cost? Measured on a bundle's
own files.

Rows: the float32 and int8 files as they are, then both with the matrices of every sub-model
clustered (`edvit_tf.export.clustering`), before and after training the centroids. Bytes are those
of all sub-models' files, compressed by zlib at level 9, which is what `rsync -z` and `scp -C` do to
them.
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
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.study.common import Rows

LINK_BITS_PER_SECOND = 2_000_000
FLAVOURS = {
    "float32": "tflite-runtime",
    "int8": "ai-edge-litert",
}  # by the runtime that answers here
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
    from edvit_tf.models.vit.clustering import cluster
    from edvit_tf.models.weights import get_weights, load_keras
    from edvit_tf.training.train import predict

    configs = [ViTConfig.from_dict(entry.config) for entry in bundle.sub_models]
    whole = [
        get_weights(load_keras(verified_path(bundle, entry.keras))) for entry in bundle.sub_models
    ]
    with tempfile.TemporaryDirectory(prefix="edvit-study-") as name:
        folder = Path(name)
        held_out = materialise(dataset, split, folder)
        order = np.sort(
            np.random.default_rng(seed).permutation(len(dataset.recordings("train")))[:samples]
        )
        x = np.concatenate([dataset.read([dataset.recordings("train")[i]])[:1] for i in order])
        for count, rounds in [(None, 0), *((k, e) for k in clusters for e in epochs)]:

            def weights_of(count=count, rounds=rounds) -> list[Weights]:
                return (
                    whole
                    if count is None
                    else [
                        cluster(
                            config,
                            one,
                            x,
                            predict(config, one, x),
                            clusters=count,
                            epochs=rounds,
                            seed=seed,
                        )[0]
                        for config, one in zip(configs, whole, strict=True)
                    ]
                )

            made: list[
                list[Weights]
            ] = []  # clustered once for both flavours, and only if a row is still to do
            for flavour in FLAVOURS:

                def figures(flavour=flavour, made=made, weights_of=weights_of) -> dict:
                    if not made:
                        made.append(weights_of())
                    return _figures(bundle, configs, made[0], flavour, held_out, folder)

                yield rows.row({"clusters": count, "epochs": rounds, "flavour": flavour}, figures)


def _figures(
    bundle: Bundle,
    configs: list[ViTConfig],
    weights: list[Weights],
    flavour: str,
    held_out: tuple,
    folder: Path,
) -> dict:
    """Exports these weights, weighs the files and asks them."""
    from edvit_tf.export.convert import convert
    from edvit_tf.export.process import run_in_process
    from edvit_tf.models.vit.deployed import graph

    inputs, labels, recordings = held_out
    entry = bundle.input
    target = "portable" if flavour == "float32" else "litert"
    size, compressed, outputs = 0, 0, []
    for config, one in zip(configs, weights, strict=True):
        file = folder / "model.tflite"
        convert(
            *graph(config, one, entry.name, entry.dtype, target),
            file,
            one,
            flavour,
        )
        content = file.read_bytes()
        size, compressed = size + len(content), compressed + len(zlib.compress(content, 9))
        outputs.append(run_in_process(file, inputs, runtime=FLAVOURS[flavour])[0])
    answers = Answers(
        tuple(o["features"] for o in outputs), tuple(o["logits"] for o in outputs), ()
    )
    share = accuracy(fuse(bundle, answers)[0], labels, recordings)
    return {
        "bytes": size,
        "compressed_bytes": compressed,
        "link_seconds": 8 * compressed / LINK_BITS_PER_SECOND,
        "accuracy": share["recording"],
        "recordings": share["recordings"],
    }


def clusters_table(rows: list[dict]) -> str:
    """The rows as text; accuracies in percent, change in points against the first row."""
    lines = [
        f"{'clusters':>9}{'epochs':>8}  "
        f"{'flavour':<9}{'MiB':>8}{'compressed':>12}{'s at 2 Mbit/s':>15}"
        f"{'fused':>8}{'change':>8}"
    ]
    for row in rows:
        sizes = f"{row['bytes'] / 2**20:>8.2f}{row['compressed_bytes'] / 2**20:>12.2f}{row['link_seconds']:>15.1f}"
        lines.append(
            f"{row['clusters'] or '-':>9}{row['epochs']:>8}  {row['flavour']:<9}{sizes}"
            f"{100 * row['accuracy']:>8.2f}{100 * (row['accuracy'] - rows[0]['accuracy']):>+8.2f}"
        )
    return "\n".join(lines)
