"""Keras against .tflite: how far the outputs lie apart on the same real samples."""

import numpy as np

# Of the probabilities, float32 files, on 95 of 100 samples. "portable" computes GELU to 2.6e-5
# (`gelu.py`), which moves the logits of 12 blocks by about 1e-4; "litert" is exact.
TOLERANCES = {"portable": 1e-3, "litert": 1e-4}
QUANTILE = 0.95

# Of features and logits, over their spread, so many times as much: the features of a model that was
# hardly trained differ by a few percent of themselves from sample to sample (9e-4 of their spread
# in the worst of ten smoke models, where probabilities were off by 1e-4).
SPREAD_TIMES = 10

# Of the worst sample: probabilities, and features and logits. A trained model can magnify the
# rounding of float32 on a single one, 400-fold against the median where it was measured (2e-4 on
# one of 310 clips, exact GELU); what is wrong with a file is as large as the answers themselves.
LARGEST = 0.05
LARGEST_OF_SPREAD = 0.1

# Where single units may jump (spikes within rounding of their threshold), one spike more moves all
# that follows: then the median sample is held, to so many times the tolerance, and of all samples
# at most this share may have another top-1.
JUMP_TIMES = 10
JUMP_TOP1 = 0.02

# A tensor that hardly changes over the samples is measured against this share of its size.
LEAST_SPREAD = 0.05


def compare(
    keras_outputs: dict[str, np.ndarray],
    tflite_outputs: dict[str, np.ndarray],
    top: str,
    target: str = "portable",
    jumps: bool = False,
) -> dict:
    """Errors over samples and outputs (largest and 95th percentile), and where top-1 of output
    `top` differs.

    Of probabilities, which are `top` itself or the softmax of its logits, a sample's error is their
    largest difference. Of features and logits it is the largest difference over the spread of the
    tensor, its root mean square deviation over the samples: a sample whose values happen to lie
    near zero counts as any other. "max_relative_error" and "p95_relative_error" are None where all
    outputs are probabilities.

    A tie is a sample whose two largest Keras probabilities may both be moved by the tolerance to
    the same value; `differing_top1` counts the others with another top-1. "ok": no top-1 differs,
    the 95th percentiles are within the tolerance of `target` (of features and logits SPREAD_TIMES
    it), and no sample is off by more than LARGEST (LARGEST_OF_SPREAD). With `jumps` the median
    sample is held instead, to JUMP_TIMES the tolerance, and JUMP_TOP1 of all may differ.
    """
    tolerance = TOLERANCES[target]

    relative = {}
    for name, b in keras_outputs.items():
        if name != "probabilities":
            relative[name] = spread_errors(tflite_outputs[name], b)

    a = probabilities_of(top, tflite_outputs[top])
    b = probabilities_of(top, keras_outputs[top])
    apart = np.abs(a - b).max(axis=-1)  # (n,)

    largest, usual = _told(apart)
    figures = {
        "max_relative_error": None,
        "p95_relative_error": None,
        "max_probability_error": largest,
        "p95_probability_error": usual,
    }
    ok = usual <= tolerance and largest <= LARGEST

    if relative:
        # of a sample the worst of its tensors
        largest, usual = _told(np.max(list(relative.values()), axis=0))
        figures |= {"max_relative_error": largest, "p95_relative_error": usual}
        ok = ok and usual <= SPREAD_TIMES * tolerance and largest <= LARGEST_OF_SPREAD

    # top-1, where it is clear: a tie may fall either way
    ordered = np.sort(b, axis=-1)
    tie = ordered[:, -1] - ordered[:, -2] <= 2 * tolerance
    other = a.argmax(axis=-1) != b.argmax(axis=-1)
    differing = int((other & ~tie).sum())

    allowed = 0
    if jumps:
        finite = np.isfinite(apart).all()
        ok = finite and float(np.median(apart)) <= JUMP_TIMES * tolerance
        allowed = int(JUMP_TOP1 * len(b))

    return {
        "samples": len(b),
        **figures,
        "tolerance": tolerance,
        "ties": int(tie.sum()),
        "differing_top1": differing,
        "ok": bool(ok and differing <= allowed),
    }


def spread_errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,): of each sample the largest |a - b| over the spread of `b` (n, d) over its samples."""
    b = np.asarray(b, np.float64)
    with np.errstate(invalid="ignore"):  # NaN and infinities are found where errors are told
        spread = np.sqrt(np.square(b - b.mean(axis=0)).mean())

        # One sample has no spread, and equal answers to all samples have none either.
        size = np.sqrt(np.square(b).mean())
        spread = max(spread, LEAST_SPREAD * size, np.finfo(np.float32).tiny)
        return np.abs(a - b).max(axis=-1) / spread


def probabilities_of(name: str, values: np.ndarray) -> np.ndarray:
    """(n, classes): probabilities as they are, logits through a softmax."""
    values = np.asarray(values, np.float64)
    if name == "probabilities":
        return values

    # Infinite logits become NaN here, which is found where errors are told.
    with np.errstate(invalid="ignore"):
        e = np.exp(values - values.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def _told(errors: np.ndarray) -> tuple[float, float]:
    """(largest, 95th percentile) of errors (n,)."""
    # a NaN or an infinity is no error of some size: not ok, whatever else
    if not np.isfinite(errors).all():
        return float("inf"), float("inf")
    return float(errors.max()), float(np.quantile(errors, QUANTILE))
