"""Does a bundle weigh what it says? Keras, the config, the manifest and the files, reconciled per
model.

    weights = parameters x 4 bytes (float32)
    overhead = bytes of the .tflite file - weights: its graph and names

Needs TensorFlow, which loads the .keras files; `audit_runs.py` runs the .tflite files, without it.
Limits: a file smaller than its weights is right as long as it holds all matrices, since the
converter stores equal vectors (zero biases) once; the last block of a .tflite file runs for the
class token alone, the MACs count all tokens.
"""

import math
import os
from pathlib import Path
from typing import Any

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.manifest import FusionEntry, SubModelEntry
from edvit_tf.export.fusion import KINDS
from edvit_tf.models import architecture, config_from_dict, costs
from edvit_tf.report.audit_runs import running, running_text

LINE_LENGTH = 110  # of the Keras summaries
OVERHEAD_SHARE, OVERHEAD_BYTES = 0.05, 64 << 10  # a file may exceed its weights by both together
ASCII = str.maketrans("…─━│┃┏┓┗┛┡┩└┘├┤┬┴┼╇╈┳┻╋┠┨┯┷┿", "~--||+++++++++++++++++++++++")


def audit(bundle_dir: Path) -> dict:
    """The models of a bundle, reconciled: {"models", "totals", "runs", "reconciled": bool,
    "digest": str}.

    A model (each sub-model, then the fusion): name, summary (Keras's text), params_keras,
    params_config, params_manifest (None for the fusion), weight_bytes, matrix_bytes, tflite_bytes,
    overhead_bytes, overhead_percent, macs (the paper's convention, without Q K^T and A V),
    macs_full (with them), sha256 by file, reconciled, reasons (what does not fit). "runs" are the
    rows of `audit_runs.running`: a file that does not run, or takes more memory than devices
    reserve, is not reconciled. Raises BundleError for a file that is missing or not the one
    exported.
    """
    bundle = open_bundle(bundle_dir)
    models = [_sub_model(bundle, entry) for entry in bundle.sub_models]
    models.append(_fusion(bundle))
    runs = running(bundle)

    # A file may agree with its config to the byte and still not run, so both have to hold.
    fits = all(model["reconciled"] for model in models) and not any(run["reasons"] for run in runs)

    return {
        "bundle": bundle.path.resolve().name,
        "digest": bundle.digest,
        "models": models,
        "totals": {key: sum(model[key] for model in models) for key in _TOTALS},
        "runs": runs,
        "reconciled": fits,
    }


_TOTALS = ("params_keras", "weight_bytes", "tflite_bytes", "overhead_bytes", "macs", "macs_full")
_ROW = "{:<14}{:>12}{:>14}{:>13}{:>13}{:>6}{:>10}{:>10}  {}"
_HEAD = (
    "model",
    "params",
    "weights B",
    ".tflite B",
    "overhead B",
    "%",
    "MACs M",
    "full M",
    "reconciled",
)


def text(result: dict) -> str:
    """What `audit` found, as text: the Keras summaries, each of equal ones once, then one table.

    model        params   weights B   .tflite B   overhead B     %   MACs M   full M  reconciled
    submodel-00  16,542      66,168      80,432       14,264  21.6     0.26     0.28  yes
    """
    lines = _summaries(result["models"])
    lines.append(_ROW.format(*_HEAD))

    # The total is a row like the others: reconciled where every model is.
    fit = all(model["reconciled"] for model in result["models"])
    total = {"name": "total", "reconciled": fit, **result["totals"]}
    lines += [_row(model) for model in [*result["models"], total]]

    for named in [*result["models"], *result["runs"]]:
        for reason in named["reasons"]:
            lines.append(f"NOT reconciled: {named['name']}: {reason}")
    lines.append(
        "params: Keras's count, the config's and the manifest's where reconciled; weights = params "
        "x 4 bytes;\n"
        "overhead = file - weights (graph, names); MACs: the paper's convention (no Q K^T, A V); "
        "full: with them.\n"
        f"sha256 of all {2 * len(result['models'])} files equal to the manifest's; bundle "
        f"{result['digest']}\n"
    )

    lines.append(running_text(result["runs"]))
    return "\n".join(lines)


def _summaries(models: list[dict]) -> list[str]:
    """The Keras summaries; of models with the same table the first one's."""
    seen: dict[str, str] = {}  # name of the first one by its table
    lines = []
    for model in models:
        table = model["summary"].split("\n", 1)[1]  # without the model's name
        if table in seen:
            lines.append(f"{model['name']}: layer by layer the same table as {seen[table]}\n")
        else:
            seen[table] = model["name"]
            lines.append(model["summary"])
    return lines


def _row(model: dict) -> str:
    counts = ("params_keras", "weight_bytes", "tflite_bytes", "overhead_bytes")

    return _ROW.format(
        model["name"],
        *(f"{model[key]:,}" for key in counts),
        f"{100 * model['overhead_bytes'] / model['weight_bytes']:.1f}",
        f"{model['macs'] / 1e6:.2f}",
        f"{model['macs_full'] / 1e6:.2f}",
        "yes" if model["reconciled"] else "NO",
    )


def _sub_model(bundle: Bundle, entry: SubModelEntry) -> dict:
    config = config_from_dict(entry.config)
    model, found = _files(bundle, entry.name, entry)
    expected = costs(config)

    # The cost figures that the manifest states, against what its own config costs.
    reasons = []
    for key, value in expected.items():
        written = getattr(entry, key)
        if written != value:
            reasons.append(f"the manifest says {key} {written:,}; its config gives {value:,}")

    # The model's shape as the .keras file has it, against the config.
    known = architecture(config)
    in_keras = known.config_of(model).to_dict()
    for field, said in config.to_dict().items():
        if isinstance(said, float) or field in ("input_mean", "input_std"):
            continue  # Keras keeps them as float32
        if field in getattr(known, "UNSHOWN", ()):
            continue
        if in_keras[field] != said:
            reasons.append(
                f"the .keras file has {field} {in_keras[field]}; the manifest's config says {said}"
            )

    # The fusion is built for widths that the manifest lists: a sub-model of another one fits
    # its file and still breaks the fleet.
    width, planned = model.output["features"].shape[-1], bundle.widths[entry.index]
    if width != planned:
        reasons.append(
            f"the .keras file gives features of width {width}; the manifest's fusion takes "
            f"{planned}"
        )

    return _reconciled(
        found, expected["params"], entry.params, expected["macs"], expected["macs_full"], reasons
    )


def _fusion(bundle: Bundle) -> dict:
    """The fusion, by its kind."""
    import edvit_tf.training.fusion_layers  # noqa: F401  (registers PresenceMask)

    if bundle.fusion.kind not in KINDS:
        raise BundleError(
            f"{bundle.path}: the fusion is of the kind {bundle.fusion.kind!r}; this version knows "
            f"{', '.join(KINDS)}. Use the edvit_tf version that wrote the bundle."
        )

    # From the manifest alone, never from the file that is to be checked.
    kind = KINDS[bundle.fusion.kind](
        widths=tuple(bundle.widths),
        groups=tuple(sub.classes for sub in bundle.sub_models),
        num_classes=len(bundle.labels),
        hidden_share=bundle.fusion.hidden_factor,
    )
    _, found = _files(bundle, "fusion", bundle.fusion)
    return _reconciled(found, kind.params, None, kind.window_macs, kind.window_macs, [])


def _files(bundle: Bundle, name: str, entry: SubModelEntry | FusionEntry) -> tuple[Any, dict]:
    """The Keras model of an entry, and what its two files say; both verified before they are
    read.
    """
    from edvit_tf.models.weights import load_keras

    keras_file, tflite_file = (verified_path(bundle, file) for file in (entry.keras, entry.file))

    model = load_keras(keras_file)

    # Vectors do not count here, nor what is there twice: the converter may store equal ones once.
    # Copies of one model bring the same head as often as there are copies.
    matrices = {}
    for variable in model.weights:
        if len(variable.shape) > 1:
            matrices[variable.numpy().tobytes()] = variable.shape

    return model, {
        "name": name,
        "summary": _summary(model),
        "params_keras": model.count_params(),
        "weight_bytes": 4 * model.count_params(),
        "matrix_bytes": 4 * sum(math.prod(shape) for shape in matrices.values()),
        "tflite_bytes": tflite_file.stat().st_size,
        "sha256": {file: bundle.files[file].sha256 for file in (entry.keras, entry.file)},
    }


def _summary(model) -> str:
    """Keras's own summary, in ASCII, without the rulings between its rows."""
    printed: list[str] = []
    before = os.environ.get("COLUMNS")
    # Else Keras cuts the table off at the terminal's width, 80 in a pipe.
    os.environ["COLUMNS"] = str(LINE_LENGTH)
    try:
        model.summary(
            LINE_LENGTH,
            positions=[0.45, 0.61, 0.71, 1.0],
            print_fn=lambda line, **_: printed.append(line),
        )
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before

    # The rows that are left: no rulings, no empty ones.
    lines = [line.rstrip() for line in "\n".join(printed).split("\n") if not line.startswith("├")]
    return "\n".join(line for line in lines if line.strip("│ ")).translate(ASCII) + "\n"


def _reconciled(
    found: dict,
    params_config: int,
    params_manifest: int | None,
    macs: int,
    macs_full: int,
    reasons: list[str],
) -> dict:
    """`found` with the figures of the config beside it, and every rule that is broken in words."""
    if found["params_keras"] != params_config:
        reasons.append(
            f"Keras counts {found['params_keras']:,} parameters; the config gives {params_config:,}"
        )

    size, weights, matrices = found["tflite_bytes"], found["weight_bytes"], found["matrix_bytes"]

    # Two bounds on the file: it holds all its matrices, and little beside its weights.
    if size < matrices:
        reasons.append(
            f"the .tflite file has {size:,} bytes, fewer than its weight matrices' {matrices:,}: "
            "weights are missing, export it again"
        )

    allowed = OVERHEAD_SHARE * weights + OVERHEAD_BYTES
    if size - weights > allowed:
        reasons.append(
            f"the .tflite file is {size - weights:,} bytes larger than its weights; {allowed:,.0f} "
            "are allowed (5 % + 64 KiB): something is stored twice"
        )

    return {
        **found,
        "params_config": params_config,
        "params_manifest": params_manifest,
        "macs": macs,
        "macs_full": macs_full,
        "overhead_bytes": size - weights,
        "overhead_percent": 100 * (size - weights) / weights,
        "reconciled": not reasons,
        "reasons": reasons,
    }
