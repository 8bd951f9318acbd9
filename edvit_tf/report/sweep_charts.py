"""The charts of a sweep: accuracy, latency and memory against the number of devices, and accuracy
against the training budget.
"""

from collections.abc import Callable, Iterable

from edvit_tf.report.compared import SHORT
from edvit_tf.report.curves import curves, mean_and_deviation
from edvit_tf.report.figures import wilson


def sweep_charts(rows: list[dict]) -> list[str]:
    """SVG figures of the rows of `edvit_tf.report.sweep.sweep_row`."""
    charts = []
    for way in dict.fromkeys(row["strategy"] for row in rows):
        charts += _charts(rows, way)
    return charts + _budget_charts(rows)


_TIMES_AND_BYTES = (
    ("Time: slowest device and fusion, ms", "median", 1),
    ("Files on the fullest device, MB", "device_bytes", 1e6),
    ("Files of all devices, MB", "total_bytes", 1e6),
)


def _charts(rows: list[dict], way: str) -> list[str]:
    """Accuracy, latency and memory against N, of the runs whose classes were grouped by `way`;
    accuracy for each training budget, which changes nothing else.
    """
    own = [row for row in rows if row["strategy"] == way]
    ways = {row["strategy"] for row in rows}
    more = f", groups: {way}" if len(ways) > 1 else ""

    budgets = list(dict.fromkeys(map(budget_of, own)))
    charts = []
    for budget in budgets:
        of_it = [row for row in own if budget_of(row) == budget]
        told = f", budget {budget}" if len(budgets) > 1 else ""
        accuracies = _series(of_it, SHORT, "accuracy", 0.01)
        charts.append(curves(f"Test accuracy, %{more}{told}", accuracies, from_zero=False))

    # the average is as large and as slow as the fused fleet, and nobody deploys the floor
    keys = [key for key in SHORT if key not in ("average", "floor")]
    for what, field, scale in _TIMES_AND_BYTES:
        charts.append(curves(f"{what}{more}", _series(own, keys, field, scale)))
    return charts


def budget_of(row: dict) -> str | None:
    """Of training, as it was typed; None where none was given, and of a version without any."""
    return row.get("budget")


def _budget_charts(rows: list[dict]) -> list[str]:
    """Accuracy against the training budget, for each number of devices and way of grouping, or
    where the kind of fleet was left to the run whatever it took; of budgets in epochs, and of those
    in minutes.
    """
    charts = []
    for unit, across in (("e", "epochs"), ("m", "minutes")):
        given = [row for row in rows if (budget_of(row) or "").endswith(unit)]
        for devices, way in dict.fromkeys(map(_fleet, given)):
            own = [row for row in given if _fleet(row) == (devices, way)]
            if len(set(map(budget_of, own))) < 2:
                continue

            series = _series(own, SHORT, "accuracy", 0.01, _budget_size)
            title = f"Test accuracy, %, N = {devices}, {way}, against the training budget"
            charts.append(curves(title, series, from_zero=False, across=across))
    return charts


def _fleet(row: dict) -> tuple[int, str]:
    """Its devices, and how their models came about: a plan names a kind that the run took where
    a grouping would stand, and a budget may change that kind.
    """
    left_to_run = row.get("asked") == "auto"
    return row["devices"], "the fleet left to the run" if left_to_run else row["strategy"]


def _budget_size(row: dict) -> float:
    """ "16e" -> 16."""
    return float(row["budget"][:-1])


def _devices(row: dict) -> float:
    return row["devices"]


def _series(
    rows: list[dict],
    keys: Iterable[str],
    field: str,
    scale: float,
    place: Callable[[dict], float] = _devices,
) -> list[tuple]:
    """What `curves` takes: of each model the mean over the seeds at every `place`, in units of
    `scale`, with its whiskers.
    """
    series = []
    for key in keys:
        found = {}
        for count in set(map(place, rows)):
            own = [row for row in rows if place(row) == count]
            values = model_values(own, key, field)
            if not values:
                continue

            mean, spread = mean_and_deviation(values)
            low, high = mean - spread, mean + spread
            # One seed has no deviation, but its test data are a sample all the same.
            if field == "accuracy" and len(values) == 1:
                low, high = wilson(mean, own[0]["recordings"])

            found[count] = (mean / scale, low / scale, high / scale)

        if found:
            series.append((SHORT[key], key, found))
    return series


def model_values(rows: list[dict], key: str, field: str) -> list[float]:
    """A figure of one model in every row that has it."""
    values = []
    for row in rows:
        value = row["models"].get(key, {}).get(field)
        if value is not None:
            values.append(value)
    return values
