"""The pictures of what accuracy costs: each model of a run against milliseconds and bytes."""

from edvit_tf.report.compared import SHORT, Compared
from edvit_tf.report.figures import note, panels, wilson
from edvit_tf.report.results import Results
from edvit_tf.report.scatter import Point, scatter
from edvit_tf.report.units import milliseconds, size

# The fleet's average is as large and as slow as the fused fleet: a dot upon its dot.
_LEFT_OUT = ("floor", "average")


def trade(results: Results, rows: list[Compared]) -> str:
    """Accuracy against the time of an answer, against the bytes of one device, and against those of
    all; "" where there is nothing to compare.
    """
    shown = [row for row in rows if row.key not in _LEFT_OUT]
    floor = results.floor
    level = None
    if floor is not None:
        level = ("floor: linear classifier", 100 * floor.accuracy.recording)

    timed = [_point(row, row.times.median) for row in shown if row.times]
    charts = [
        scatter("Accuracy, %, and time of an answer", timed, milliseconds, "one answer", level),
        scatter(
            "Accuracy, %, and bytes of one device",
            [_point(row, row.device_bytes) for row in shown],
            size,
            "files on one device",
            level,
        ),
    ]
    if any(row.total_bytes != row.device_bytes for row in shown):
        charts.append(
            scatter(
                "Accuracy, %, and bytes of all devices",
                [_point(row, row.total_bytes) for row in shown],
                size,
                "files on all devices together",
                level,
            )
        )
    charts = [chart for chart in charts if chart]
    if not charts:
        return ""
    return panels(charts, "large") + note(
        f"Up and left is better. Test {results.data.noun}s, .tflite files, one thread, without "
        "network; bars: 95 % interval. Bytes and times on an axis by powers of ten. The axis of "
        "accuracies need not start at zero."
    )


def _point(row: Compared, cost: float) -> Point:
    share, count = row.accuracy.recording, row.accuracy.recordings
    low, high = wilson(share, count)
    name = "fleet" if row.key == "fused" else SHORT[row.key]
    return Point(name, cost, 100 * share, 100 * low, 100 * high, row.key, row.key == "fused")
