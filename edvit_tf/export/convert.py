"""A graph over numpy constants -> a .tflite file of builtin operators, named inputs and outputs, in
some flavour.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from edvit_tf.config import INT8_MIN_VALUES
from edvit_tf.errors import ExportError

# Which runtimes load a flavour. "int8" is dynamic range, a scale an output channel: tflite-runtime
# 2.14 does not load it, and its per-tensor form, which loads, is ten times slower than float32
# there.
RUNTIMES = {
    "float32": ("tflite-runtime", "ai-edge-litert"),
    "float16": ("tflite-runtime", "ai-edge-litert"),
    "int8": ("ai-edge-litert",),
}


def convert(
    graph: Callable,
    signature: list,
    path: Path,
    weights: Mapping[str, np.ndarray],
    flavour: str = "float32",
) -> int:
    """Writes the .tflite file of `graph` over `weights` in a flavour of RUNTIMES and returns its
    bytes.

    "float16" stores the weights in half the bytes and computes in float32; "int8" stores matrices
    of 1,024 values or more in a quarter and multiplies in int8, with the range of each input row
    taken as it runs. Inputs and outputs stay as they are. Raises ExportError if the file is smaller
    than the weight matrices (the converter can drop weights and say nothing; equal ones, such as
    zero biases and the heads of copies of one model, are rightly stored once), or if an operator is
    no TFLite builtin.
    """
    # vectors are left out, and equal matrices count once
    matrices = {(w.shape, w.tobytes()): w for w in weights.values() if w.ndim > 1}
    weight_bytes = sum(_stored_bytes(w, flavour) for w in matrices.values())

    function = tf.function(graph, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())

    # builtins alone: the runtimes of the devices have no others
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]

    if flavour != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if flavour == "float16":
        converter.target_spec.supported_types = [tf.float16]

    try:
        content = converter.convert()
    except Exception as error:  # the converter raises a class of its own that it does not export
        raise ExportError(
            f"{path.name} cannot be converted with TFLite's builtin operators alone: {error}"
        ) from error

    if len(content) < weight_bytes:
        raise ExportError(
            f"{path.name} has {len(content)} bytes, fewer than its weights' {weight_bytes}: the "
            "converter dropped some."
        )
    path.write_bytes(content)
    return len(content)


def _stored_bytes(values: np.ndarray, flavour: str) -> int:
    """Bytes that a matrix takes in a file."""
    # the scales of int8 and the graph are not counted: this is the least that a file can have
    if flavour == "int8":
        return values.size * (1 if values.size >= INT8_MIN_VALUES else 4)

    return values.size * {"float32": 4, "float16": 2}[flavour]
