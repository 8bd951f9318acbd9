"""Keras against .tflite: how far the outputs lie apart on the same real samples."""

import numpy as np

# Of max |a - b| / max |b|, float32 files, on 95 of 100 samples. "portable" computes GELU to 2.6e-5
# (`gelu.py`), which moves the logits of 12 blocks by about 1e-4; "litert" is exact.
TOLERANCES = {"portable": 1e-3, "litert": 1e-4}
QUANTILE = 0.95


def compare(
    keras_outputs: dict[str, np.ndarray],
    tflite_outputs: dict[str, np.ndarray],
    top: str,
    target: str = "portable",
) -> dict:
    """Relative errors over samples and outputs (largest and 95th percentile), and where top-1 of
    output `top` differs.

    The relative error of one sample's tensor is max |a - b| / max |b|, b the Keras output; of a
    sample, the largest of its tensors'. A tie is a sample whose two largest Keras values lie within
    the tolerance of `target` of each other; `differing_top1` counts the others with another top-1.
    "ok": no top-1 differs and the 95th percentile is within the tolerance. The largest error is
    told and not judged: a fault of the export moves all samples, while a trained model can magnify
    the rounding of float32 on a single one. Measured on a model of Speech Commands, with an exact
    GELU: 2e-4 on the worst of 310 clips, where Keras's own answer in float32 lies 4e-5 from its
    answer in float64; the median is 5e-7.
    """
    tolerance = TOLERANCES[target]

    of_tensors = []
    for name, b in keras_outputs.items():
        off = np.abs(tflite_outputs[name] - b).max(axis=-1)
        of_tensors.append(off / np.abs(b).max(axis=-1))
    errors = np.max(of_tensors, axis=0)  # (n,)

    # a NaN or an infinity is no error of some size: not ok, whatever else
    largest = usual = float("inf")
    if np.isfinite(errors).all():
        largest = float(errors.max())
        usual = float(np.quantile(errors, QUANTILE))

    # top-1, where it is clear: a tie may fall either way
    a = tflite_outputs[top]
    b = keras_outputs[top]
    ordered = np.sort(b, axis=-1)
    tie = ordered[:, -1] - ordered[:, -2] <= tolerance * np.abs(b).max(axis=-1)
    other = a.argmax(axis=-1) != b.argmax(axis=-1)
    differing = int((other & ~tie).sum())

    return {
        "samples": len(b),
        "max_relative_error": largest,
        "p95_relative_error": usual,
        "tolerance": tolerance,
        "ties": int(tie.sum()),
        "differing_top1": differing,
        "ok": usual <= tolerance and differing == 0,
    }
