"""The picture of what lost devices leave: accuracy against how many of them do not answer."""

from edvit_tf.report.advice import Advice
from edvit_tf.report.curves import curves
from edvit_tf.report.figures import note, panels
from edvit_tf.report.options import Way
from edvit_tf.report.results import Results

_COLOURS = {"copies": "copies", "classes": "fused", "joint": "fused"}


def losing(advice: Advice, results: Results) -> str:
    """Each way that several devices answer, beside one model on each device; "" where no device can
    be lost.
    """
    measured = [row.way for row in advice.rows if row.way.accuracy is not None]
    copies = [way.answering for way in measured if way.key == "copies"]
    series = []
    for way in measured:
        if way.key == "base" or way.answering == 1 or not way.lost:
            continue
        if way.key == "copies" and way.answering < max(copies):
            continue
        series.append((way.name, _COLOURS[way.key], _by_lost(way)))
    if not series:
        return ""

    lost = {n for _, _, found in series for n in found}
    for way in measured:
        if way.key == "single" and way.accuracy is not None:
            share = 100 * way.accuracy.recording
            name = "one model on each device"
            series.insert(0, (name, "single", dict.fromkeys(lost, (share, share, share))))

    title = "Test accuracy, %, by the number of devices lost"
    return panels([curves(title, series, False, across="lost")]) + note(
        "Mean over the measured sets of so many devices, down to the worst set. One model on each "
        "device answers as before as long as one device is left. The axis of accuracies "
        "need not start at zero."
    )


def _by_lost(way: Way) -> dict[float, tuple[float, float, float]]:
    """{devices lost: (mean, worst, mean)} in percent."""
    assert way.accuracy is not None
    whole = 100 * way.accuracy.recording
    found: dict[float, tuple[float, float, float]] = {0: (whole, whole, whole)}
    for at in way.lost:
        found[at.lost] = (100 * at.mean, 100 * at.worst, 100 * at.mean)
    return found
