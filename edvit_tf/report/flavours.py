"""The section of the page that shows smaller files of the sub-models, in every runtime."""

from edvit_tf.report.figures import MINUS, mib, note, number, percent, table
from edvit_tf.report.results import Results
from edvit_tf.report.verdict import p_said


def flavours(results: Results) -> str:
    """Every flavour of the files in every runtime: bytes, fused accuracy, error, milliseconds."""
    first = results.flavours[0].tflite.recording
    rows = []
    for one in results.flavours:
        share = one.tflite.recording
        rows.append(
            [
                one.flavour,
                one.runtime,
                mib(one.file_bytes),
                percent(share, one.tflite.recordings),
                f"{100 * (share - first):+.2f}",
                "-" if one.paired is None else p_said(one.paired.p_value),
                f"{one.p95_relative_error:.1e}",
                number(one.median_ms),
            ]
        )

    head = [
        "flavour",
        "runtime",
        "file MiB,\nall sub-models",
        "fused\naccuracy",
        "change,\npoints",
        "exact\nMcNemar",
        "error of\nlogits",
        "median\nms",
    ]
    return table(head, rows, text=(0, 1)) + note(
        f"Fused accuracy on the test split, fusion in float32; error: max |a {MINUS} b| / max |b| "
        "of a sample's logits against the first row's files, 95th percentile over samples, worst "
        "sub-model; ms of the slowest sub-model, one thread."
    )
