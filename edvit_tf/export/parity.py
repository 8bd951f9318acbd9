"""Keras against .tflite: how far the outputs lie apart on the same real samples."""

import numpy as np

# Of max |a - b| / max |b|, float32 files. "portable" computes GELU to 2.6e-5 (edvit_tf.export.gelu), which moves
# the logits of 12 blocks by about 1e-4; "litert" is exact.
TOLERANCES = {"portable": 1e-3, "litert": 1e-4}


def _largest(errors) -> float:
    """The maximum; infinite if any is not a number, which `max` would pass over."""
    errors = np.array(list(errors))
    return float(errors.max()) if np.isfinite(errors).all() else float("inf")


def compare(
    keras_outputs: dict[str, np.ndarray], tflite_outputs: dict[str, np.ndarray], top: str, target: str = "portable"
) -> dict:
    """Largest relative error over samples and outputs, and where the top-1 of output `top` differs.

    The relative error of one sample's tensor is max |a - b| / max |b|, b the Keras output. A tie is a sample whose two
    largest Keras values lie within the tolerance of `target` of each other; `differing` counts the others with another
    top-1.
    """
    tolerance = TOLERANCES[target]
    error = _largest(
        float((np.abs(tflite_outputs[name] - b).max(axis=-1) / np.abs(b).max(axis=-1)).max())
        for name, b in keras_outputs.items()
    )
    a, b = tflite_outputs[top], keras_outputs[top]
    ordered = np.sort(b, axis=-1)
    tie = ordered[:, -1] - ordered[:, -2] <= tolerance * np.abs(b).max(axis=-1)
    other = a.argmax(axis=-1) != b.argmax(axis=-1)
    return {
        "samples": len(b), "max_relative_error": error, "tolerance": tolerance, "ties": int(tie.sum()),
        "differing_top1": int((other & ~tie).sum()), "ok": bool(error <= tolerance and not (other & ~tie).any()),
    }
