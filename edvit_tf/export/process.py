"""A .tflite file over stored inputs in a process that has no TensorFlow, with the figures that a
report shows.
"""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.errors import ExportError, OutputError


def run_in_process(
    model: Path,
    inputs: Path | dict[str, np.ndarray],
    threads: int = 1,
    timeout_seconds: float | None = None,
    runtime: str | None = None,
    view: View = AS_IT_IS,
) -> tuple[dict[str, np.ndarray], dict]:
    """Outputs (n, ...) by name and a report, as of
    `edvit_tf.device.model.subprocess_run.run_model`.

    The report has runtime, threads, load_ms, invoke_ms (median, p95), samples, peak_rss_bytes,
    tensorflow_loaded (False, checked in there). Raises ExportError with the process's own words
    when it fails.
    """
    try:
        outputs, report = run_model(
            model,
            inputs,
            threads=threads,
            timeout_seconds=timeout_seconds,
            runtime=runtime,
            view=view,
        )
    except ModelFailed as error:
        # The files that go in and come out are no fault of the model.
        if os.strerror(errno.ENOSPC) in str(error):
            raise OutputError(
                f"{error} The folder for temporary files, {tempfile.gettempdir()}, is full: make "
                "room in it, or set TMPDIR to a folder with room."
            ) from error
        raise ExportError(str(error)) from error

    # single times are for measurements; a report shows these two
    times = report.pop("times_ms")
    report["invoke_ms"] = {
        "median": round(float(np.median(times)), 3),
        "p95": round(float(np.quantile(times, 0.95)), 3),
    }

    return outputs, report
