"""The section of the page that shows smaller files of the sub-models, in every runtime: what they
cost on test data, and what they were judged by before they were published.
"""

from edvit_tf.report.figures import MINUS, note, percent, table
from edvit_tf.report.results import Results
from edvit_tf.report.said import p_said
from edvit_tf.report.units import milliseconds, size


def flavours(results: Results) -> str:
    """Every flavour of the files in every runtime: bytes, fused accuracy, error, milliseconds."""
    rows = []
    for one in results.flavours:
        first = results.flavours[0].tflite.recording
        share = one.tflite.recording
        rows.append(
            [
                one.flavour,
                one.runtime,
                size(one.file_bytes, 3),
                percent(share, one.tflite.recordings),
                f"{100 * (share - first):+.2f}",
                "-" if one.paired is None else p_said(one.paired.p_value),
                f"{one.p95_relative_error:.1e}",
                milliseconds(one.median_ms, 3),
            ]
        )

    head = [
        "flavour",
        "runtime",
        "files of all\nsub-models",
        "fused\naccuracy",
        "change,\npoints",
        "exact\nMcNemar",
        "error of\nlogits",
        "median\ntime",
    ]
    told = note(
        f"Fused accuracy on the test split, fusion in float32; error: max |a {MINUS} b| / max |b| "
        "of a sample's logits against the first row's files, 95th percentile over samples, worst "
        "sub-model; ms of the slowest sub-model, one thread."
    )
    return table(head, rows, text=(0, 1)) + told + _judged(results)


def _judged(results: Results) -> str:
    """The smaller flavours on validation recordings, those too that the bundle has not."""
    rows = []
    for one in results.flavours_on_validation:
        rows.append(
            [
                one.flavour,
                one.runtime,
                one.recordings,
                percent(one.float32_accuracy, one.recordings),
                percent(one.accuracy, one.recordings),
                one.lost,
                one.may_lose,
                "kept" if one.ok else "LEFT OUT",
            ]
        )
    if not rows:
        return ""

    noun = results.data.noun
    head = [
        "flavour",
        "runtime",
        f"validation\n{noun}s",
        "float32",
        "this\nflavour",
        "named right\nless often",
        "at most",
        "in the bundle",
    ]
    return table(head, rows, text=(0, 1, 7)) + note(
        f"Fused accuracy on validation {noun}s, before the bundle was published: a flavour that "
        "loses more than it may in any runtime is left out."
    )
