"""A graph over numpy constants -> one .tflite file of builtin operators, with named inputs and outputs."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from edvit_tf.errors import ExportError


def convert(graph: Callable, signature: list, path: Path, weights: Mapping[str, np.ndarray]) -> int:
    """Writes the float32 .tflite file of `graph` over `weights` and returns its bytes.

    Raises ExportError if the file is smaller than the weight matrices (the converter can drop weights and say
    nothing; equal vectors, such as zero biases, are rightly stored once), or if an operator is not a TFLite builtin.
    """
    weight_bytes = 4 * sum(w.size for w in weights.values() if w.ndim > 1)
    function = tf.function(graph, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
    except Exception as error:  # the converter raises a class of its own that it does not export
        raise ExportError(f"{path.name} cannot be converted with TFLite's builtin operators alone: {error}") from error
    if len(content) < weight_bytes:
        raise ExportError(
            f"{path.name} has {len(content)} bytes, fewer than its weights' {weight_bytes}: the converter dropped some."
        )
    path.write_bytes(content)
    return len(content)
