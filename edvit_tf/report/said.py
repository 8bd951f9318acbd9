"""A comparison of two models in words, as every page and table says it."""

from edvit_tf.report.entries import Comparison
from edvit_tf.report.figures import points


def change_said(found: Comparison) -> str:
    """ "−5.0 points (95 % interval −8.3 to −1.6; right alone 4 against 14, exact McNemar p =
    0.031)".
    """
    count = found.recordings
    interval = f"95 % interval {points(found.low, count)} to {points(found.high, count)}"
    test = ""
    if found.p_value is not None:
        test = (
            f"; right alone {found.first_only} against {found.second_only}, exact McNemar "
            f"{p_said(found.p_value)}"
        )
    return f"{points(found.difference, count)} points ({interval}{test})"


def p_said(p_value: float | None) -> str:
    """ "p = 0.031", "p < 0.001"."""
    if p_value is None:
        return "-"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
