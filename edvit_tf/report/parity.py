"""The section of the page that shows how far the files lie from the Keras models."""

from edvit_tf.report.entries import Parity
from edvit_tf.report.figures import MINUS, note, table
from edvit_tf.report.results import Results


def parity(results: Results) -> str:
    """How far the .tflite files lie from the Keras models."""
    found = dict(results.parity)
    for name, model in {"base": results.base, **results.rivals}.items():
        if model.parity is not None:
            found[name] = model.parity

    rows = []
    for name, one in found.items():
        errors = []
        for error in (
            one.max_relative_error,
            one.p95_relative_error,
            one.max_probability_error,
            one.p95_probability_error,
        ):
            errors.append("-" if error is None else f"{error:.1e}")
        verdict = "yes" if one.ok else "NO"
        limit = f"{one.tolerance:.0e}"
        rows.append([name, one.samples, *errors, limit, one.differing_top1, one.ties, verdict])

    head = [
        "",
        "test windows",
        "features, logits:\nlargest error",
        "95th\npercentile",
        "probabilities:\nlargest error",
        "95th\npercentile",
        "tolerance",
        "other top-1",
        "ties",
        "ok",
    ]
    return table(head, rows) + note(_parity_said(results, list(found.values())))


def _parity_said(results: Results, found: list[Parity]) -> str:
    """What the figures of `parity` are of."""
    absent = "" if results.base.parity else " The base has no .tflite file."
    if all(one.max_probability_error is None for one in found):  # up to 0.3.0
        return (
            f"Error of a sample: max |a {MINUS} b| / max |b|, b by Keras; of its tensors the "
            "largest. The tolerance applies to the 95th percentile over samples. A tie: the two "
            f"best Keras values lie within the tolerance.{absent}"
        )

    return (
        f"Error of a sample: max |a {MINUS} b|, b by Keras; of features and logits over their "
        "spread, the root mean square deviation over all samples, of probabilities as it is. The "
        "tolerance applies to the 95th percentile over samples of the probabilities, ten times as "
        "much to features and logits (float32 rounding can grow on single samples). A tie: the "
        f"two best Keras probabilities lie within twice the tolerance.{absent}"
    )
