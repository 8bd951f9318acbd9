"""Milliseconds of several .tflite files that are to be compared, in alternating passes: one after
the other, again and again, in one process without TensorFlow.

A machine is faster at one moment than at another. Files that were measured minutes apart differ by
that too; those of one pass hardly do, and the spread over the passes says how sure a figure is.

    python -m edvit_tf.evaluation.turns JOB.json     # what `take_turns` starts; prints JSON
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import DeviceError
from edvit_tf.device.model.runtime import Model, load
from edvit_tf.errors import ExportError

PASSES = 5
RUNS = 10  # of a file in a pass, after one in all to warm up
# A file's part of a pass ends after this and three runs: a ViT-Large takes a second a run.
TURN_SECONDS = 2.0
_LEAST_RUNS = 3
# Of the whole process: ten times what twenty files of the slowest kind take.
_LIMIT_SECONDS = 3600.0


def take_turns(
    files: Mapping[str, Path], inputs: Mapping[str, dict[str, np.ndarray]], passes: int = PASSES
) -> dict:
    """{"passes", "runs", "runtime", "models": {name: [median ms of each pass]}} of .tflite files by
    name, one thread each.

    `inputs` has for each name arrays (n, ...) by the name of the model's input. Every other pass
    goes through the files backwards. Raises ExportError with the process's own words if it fails.
    """
    with tempfile.TemporaryDirectory(prefix="edvit-turns-") as name:
        folder = Path(name)
        jobs = []
        for number, (model, file) in enumerate(files.items()):
            given = folder / f"{number}.npz"
            np.savez(given, **inputs[model])
            jobs.append({"name": model, "file": str(file), "inputs": str(given)})

        job = folder / "job.json"
        job.write_text(json.dumps({"passes": passes, "files": jobs}), encoding="utf-8")
        return _in_process(job)


def _in_process(job: Path) -> dict:
    """What `main` prints in a process of its own."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edvit_tf.evaluation.turns", str(job)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"the files were not timed after {_LIMIT_SECONDS:g} s: the machine is overloaded. "
            "Start the run again; its stages are kept."
        ) from error

    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["(it said nothing)"]
        raise ExportError(
            f"the process that times the files ended with {done.returncode}: {lines[-1][-500:]} "
            "Start the run again; its stages are kept."
        )
    # the last line: a runtime may print before it
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str]) -> int:
    """Times the files of JOB.json; 1 with one line if one of them cannot be loaded or run."""
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    try:
        print(json.dumps(_passes(job)))
    except (DeviceError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1

    # a device has none, and its threads would be in the way
    if "tensorflow" in sys.modules:
        print("error: TensorFlow was loaded into the measuring process", file=sys.stderr)
        return 1
    return 0


def _passes(job: dict) -> dict:
    loaded = {}
    for entry in job["files"]:
        model = load(entry["file"], 1)
        rows = _rows(dict(np.load(entry["inputs"], allow_pickle=False)))
        model.run(**rows[0])
        loaded[entry["name"]] = (model, rows)

    times: dict[str, list[float]] = {name: [] for name in loaded}
    order = list(loaded)
    for _ in range(job["passes"]):
        for name in order:
            times[name].append(_turn(*loaded[name]))
        order.reverse()

    runtime = next(iter(loaded.values()))[0].runtime
    return {"passes": job["passes"], "runs": RUNS, "runtime": runtime, "models": times}


def _rows(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """RUNS inputs (1, ...) by name; a shorter array is gone through again."""
    rows = []
    for i in range(RUNS):
        rows.append({name: array[i % len(array)][np.newaxis] for name, array in arrays.items()})
    return rows


def _turn(model: Model, rows: list[dict[str, np.ndarray]]) -> float:
    """Median milliseconds of one file's part of a pass."""
    started = time.perf_counter()
    milliseconds = []
    for row in rows:
        before = time.perf_counter()
        model.run(**row)
        milliseconds.append((time.perf_counter() - before) * 1e3)

        spent = time.perf_counter() - started
        if spent > TURN_SECONDS and len(milliseconds) >= _LEAST_RUNS:
            break
    return round(float(np.median(milliseconds)), 4)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
