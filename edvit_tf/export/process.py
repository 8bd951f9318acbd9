"""Run a .tflite file over stored inputs in a process that has a TFLite runtime and no TensorFlow."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edvit_tf.errors import ExportError


def run_in_process(
    model: Path, inputs: Path | dict[str, np.ndarray], threads: int = 1, timeout_seconds: float | None = None
) -> tuple[dict[str, np.ndarray], dict]:
    """Outputs (n, ...) by name and a report of `python -m edvit_tf.device.batch` on `inputs`.

    `inputs` is a .npy file (one input, read as a memory map there) or named arrays (n, ...). The report has runtime,
    threads, load_ms, invoke_ms (median, p95), samples, peak_rss_bytes, tensorflow_loaded (False, checked in there).
    Raises ExportError with the process's own words when it fails, or is not done after `timeout_seconds` (None: a
    minute and 5 s a sample, ten times what ViT-Base takes).
    """
    with tempfile.TemporaryDirectory(prefix="edvit-") as folder:
        source = inputs
        if isinstance(inputs, dict):
            source = Path(folder) / "inputs.npz"
            np.savez(source, **inputs)
        if timeout_seconds is None:
            timeout_seconds = 60 + 5 * _count(inputs)
        target = Path(folder) / "outputs.npz"
        command = [sys.executable, "-m", "edvit_tf.device.batch", str(model), str(source), str(target),
                   "--threads", str(threads)]
        package = str(Path(__file__).resolve().parents[2])  # found from any folder, installed or not
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False,
                                  env={**os.environ, "PYTHONPATH": path})
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"{model.name} was not done after {timeout_seconds:g} s in its process; "
                               "measure on fewer samples.") from error
        if done.returncode != 0:
            raise ExportError(
                f"the process that runs {model.name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
            )
        with np.load(target, allow_pickle=False) as file:
            outputs = {name: file[name] for name in file.files}
    invoke_ms, report = outputs.pop("invoke_ms"), json.loads(str(outputs.pop("report")))
    report["samples"] = len(invoke_ms)
    report["invoke_ms"] = {"median": round(float(np.median(invoke_ms)), 3),
                           "p95": round(float(np.quantile(invoke_ms, 0.95)), 3)}
    return outputs, report


def _count(inputs: Path | dict[str, np.ndarray]) -> int:
    """Samples in the inputs."""
    first = next(iter(inputs.values())) if isinstance(inputs, dict) else np.load(inputs, mmap_mode="r")
    return len(first)
