"""Our own int8 files beside those of ai-edge-quantizer: bytes, milliseconds, accuracy of a bundle.

TensorFlow's converter makes ours ("int8", dynamic range); ai-edge-quantizer takes the float32 file
of the same graph (target "litert") and writes int8 or int4 in dynamic range, which multiplies in
integers, or weight-only, which multiplies in float32. All run in ai-edge-litert. The files of the
first sub-model are timed in turns, each turn in a process of its own, on one thread.
"""

import tempfile
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.golden import expected_answers
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.errors import ExportError
from edvit_tf.evaluation.accuracy import accuracy
from edvit_tf.evaluation.answers import Answers, fuse
from edvit_tf.evaluation.evaluate import materialise
from edvit_tf.export.quantizer import RECIPES, check_installed, quantize

RUNTIME = "ai-edge-litert"
OURS = ("float32", "int8")
WARM_UP = 5


def quantized_study(bundle: Bundle, dataset, *, split: str, turns: int, runs: int) -> list[dict]:
    """A row for each of OURS and RECIPES: files ("ours" or "ai-edge-quantizer"), way, bytes (of all
    sub-models), accuracy (fused, on `split`), recordings, other_label (share of windows with
    another fused label than float32's), logits_error (95th percentile of the largest difference
    over float32's spread), median_ms, p95_ms, ratio (median over the turns of the median
    over that of our int8, least, largest) of the first sub-model, or failure.

    Raises ConfigError where ai-edge-quantizer is not installed, ExportError, DataError.
    """
    check_installed()
    with tempfile.TemporaryDirectory(prefix="edvit-study-") as name:
        folder = Path(name)
        files, failures = _files(bundle, folder)
        held_out = materialise(dataset, split, folder)

        rows = []
        reference = None
        for way in (*OURS, *RECIPES):
            row = {"files": "ours" if way in OURS else "ai-edge-quantizer", "way": way}
            if way in failures:
                rows.append({**row, "failure": failures[way]})
                continue

            answers = _answers(bundle, files[way], held_out[0])
            fused, _ = fuse(bundle, answers)
            reference = reference or (answers, fused)
            size = sum(file.stat().st_size for file in files[way])
            figures = _figures(answers, fused, reference, held_out)
            rows.append({**row, "bytes": size, **figures})

        times = _times(bundle, {way: own[0] for way, own in files.items()}, turns, runs)
        return [{**row, **times.get(row["way"], {})} for row in rows]


def _files(bundle: Bundle, folder: Path) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """The files of the sub-models by way, and why a way has none."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models import architecture
    from edvit_tf.models.vit.config import ViTConfig
    from edvit_tf.models.weights import get_weights, load_keras

    files: dict[str, list[Path]] = {way: [] for way in (*OURS, *RECIPES)}
    failures: dict[str, str] = {}
    given = bundle.input
    for entry in bundle.sub_models:
        config = ViTConfig.from_dict(entry.config)
        weights = get_weights(load_keras(verified_path(bundle, entry.keras)))
        graph, signature = architecture(config).graph(
            config, weights, given.name, given.dtype, "litert"
        )
        for flavour in OURS:
            files[flavour].append(folder / f"{entry.name}.{flavour}.tflite")
            convert(graph, signature, files[flavour][-1], weights, flavour)

        for way in RECIPES:
            target = folder / f"{entry.name}.{way}.tflite"
            try:
                quantize(files["float32"][-1], target, way)
                files[way].append(target)
            except ExportError as error:
                failures[way] = str(error)

    for way in failures:
        del files[way]
    return files, failures


def _answers(bundle: Bundle, files: list[Path], inputs: Path) -> Answers:
    """What a set of files answers, each in a process of its own."""
    from edvit_tf.export.process import run_in_process

    outputs = []
    for entry, file in zip(bundle.sub_models, files, strict=True):
        output, _ = run_in_process(file, inputs, runtime=RUNTIME, view=entry.view)
        outputs.append(output)
    return Answers(
        tuple(output["features"] for output in outputs),
        tuple(output["logits"] for output in outputs),
        (),
    )


def _figures(answers: Answers, fused: np.ndarray, reference: tuple, held_out: tuple) -> dict:
    """What is told of answers beside those of float32, `reference`."""
    from edvit_tf.export.parity import spread_errors

    _, labels, recordings = held_out
    exact, exact_fused = reference
    share = accuracy(fused, labels, recordings)
    errors = [
        spread_errors(own, other) for own, other in zip(answers.logits, exact.logits, strict=True)
    ]
    return {
        "accuracy": share["recording"],
        "recordings": share["recordings"],
        "other_label": float(np.mean(fused.argmax(axis=1) != exact_fused.argmax(axis=1))),
        "logits_error": float(np.quantile(np.concatenate(errors), 0.95)),
    }


def _times(bundle: Bundle, files: dict[str, Path], turns: int, runs: int) -> dict[str, dict]:
    """median_ms, p95_ms and ratio by way; the ways take turns."""
    inputs, _ = expected_answers(bundle, 0)
    taken: dict[str, list[np.ndarray]] = {way: [] for way in files}
    for _ in range(turns):
        for way, file in files.items():
            try:
                _, report = run_model(file, inputs, repeat=WARM_UP + runs, runtime=RUNTIME)
            except ModelFailed as error:
                raise ExportError(str(error)) from error
            taken[way].append(np.array(report["times_ms"][WARM_UP:]))

    figures = {}
    for way, times in taken.items():
        ratios = [
            float(np.median(own) / np.median(ours))
            for own, ours in zip(times, taken["int8"], strict=True)
        ]
        pooled = np.concatenate(times)
        figures[way] = {
            "median_ms": float(np.median(pooled)),
            "p95_ms": float(np.quantile(pooled, 0.95)),
            "ratio": {
                "median": float(np.median(ratios)),
                "min": min(ratios),
                "max": max(ratios),
            },
        }
    return figures


def quantized_table(rows: list[dict]) -> str:
    """The rows as text; shares in percent, ratios to our int8."""
    lines = [
        f"{'files':<19}{'way':<23}{'bytes':>11}{'fused':>8}{'other':>7}{'logits err':>12}"
        f"{'median ms':>11}{'p95':>8}  ratio to our int8 (least-largest)"
    ]
    for row in rows:
        head = f"{row['files']:<19}{row['way']:<23}"
        if "failure" in row:
            lines.append(f"{head}  FAILED: {row['failure']}")
            continue

        ratio = row["ratio"]
        lines.append(
            f"{head}{row['bytes']:>11,}{100 * row['accuracy']:>8.2f}"
            f"{100 * row['other_label']:>7.2f}{row['logits_error']:>12.1e}"
            f"{row['median_ms']:>11.3f}{row['p95_ms']:>8.3f}  "
            f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
        )
    return "\n".join(lines)
