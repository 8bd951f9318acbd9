"""The rows of a sweep as CSV: a line for each run, with figures as they were measured."""

import csv
import io

from edvit_tf.report.compared import SHORT

FILE = "sweep.csv"

_RUN = ("bundle", "data", "synthetic", "devices", "strategy", "budget", "seed", "recordings")
_MODEL = ("accuracy", "device_bytes", "total_bytes", "device_macs", "median")
_AGAINST = ("difference", "low", "high", "p_value", "state")
_UNITS = {"median": "median_ms"}


def sweep_csv(rows: list[dict]) -> str:
    """Of the rows of `edvit_tf.report.sweep.sweep_row`: of the run, of every model that any run
    has, of the fleet against each of them, and of one lost sub-model. Shares 0..1, bytes, ms, MACs;
    empty where a run has none.
    """
    keys = [key for key in SHORT if any(key in row["models"] for row in rows)]
    others = [key for key in keys if any(key in row["comparisons"] for row in rows)]
    head = [*_RUN]
    head += [f"{key}_{_UNITS.get(name, name)}" for key in keys for name in _MODEL]
    head += [f"fused_less_{key}_{name}" for key in others for name in _AGAINST]
    head += ["one_lost_mean", "one_lost_worst", "seconds"]

    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(head)
    for row in rows:
        lost = row["one_lost"] or {}
        cells = [row.get(name) for name in _RUN]
        cells += [row["models"].get(key, {}).get(name) for key in keys for name in _MODEL]
        cells += [row["comparisons"].get(key, {}).get(name) for key in others for name in _AGAINST]
        lines.writerow([*cells, lost.get("mean"), lost.get("worst"), row["seconds"]])
    return written.getvalue()
