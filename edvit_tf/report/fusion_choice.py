"""The section of the page on which fusions a run tried on validation data, and which it took."""

from edvit_tf.report.entries import TriedFusion
from edvit_tf.report.figures import note, number, table
from edvit_tf.report.results import Results
from edvit_tf.report.units import size


def fusion_choice(results: Results) -> str:
    """The kinds of fusion, and the ways of seeing, of each where there were several; "" else."""
    fusion = results.fusion
    html = _tried("kind", fusion.kinds_on_validation or {}, fusion.kind)
    html += _tried("sub-models see inputs", fusion.seen_on_validation or {}, fusion.seen)
    if not html:
        return ""
    why = fusion.reason or (
        "the smallest within 0.1 points of the best, of those that are smaller than a device's file"
    )
    said = [
        f"Fused accuracy on validation {results.data.noun}s, as Keras models, before calibration.",
        f"The kind is taken because: {why}. Of ways of seeing the best is.",
        *(f"Not tried: {kind}, as {one}." for kind, one in (fusion.left_out or {}).items()),
    ]
    return html + note(" ".join(said))


def _tried(what: str, tried: dict[str, TriedFusion], taken: str) -> str:
    if len(tried) < 2:
        return ""
    rows = []
    for name, one in tried.items():
        weighs = "-" if one.size_bytes is None else size(one.size_bytes, 3)
        took = "taken" if name == taken else ""
        rows.append([name, f"{100 * one.accuracy:.2f} %", number(one.nll), weighs, took])
    strong = tuple(i for i, name in enumerate(tried) if name == taken)
    head = [what, "validation", "NLL,\nnats", "weights", ""]
    return table(head, rows, text=(0, 4), strong=strong)
