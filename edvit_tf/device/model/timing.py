"""Milliseconds of many .tflite files on this machine, in turns: what a calibration is made from.

    python -m edvit_tf.device.model.timing FOLDER [--threads 1,2] [--turns 5] [--runs 30] > TIMES

FOLDER is of `edvit bench calibrate --files FOLDER`: .tflite files and files.json, which says the
shape and type of the one input of each. Every file runs in a process of its own, and the files take
turns, so that a slow moment of the machine hits no file alone. TIMES is JSON: processor, and for
each file, runtime and number of threads the least of its turns' medians.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import DeviceError, InputError
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import processor
from edvit_tf.device.strict_json import finite_json
from edvit_tf.device.terminal import say_error

LIST = "files.json"
WARM_UP = 5  # runs of every process that are not counted
_MOST_FILES = 10_000
_MOST_VALUES = 1 << 22  # of an input, which is drawn as int64


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, times the files, prints what was found; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m edvit_tf.device.model.timing",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("folder", type=Path, help="of `edvit bench calibrate --files FOLDER`")
    parser.add_argument("--threads", type=_counts, default=(1,), help="e.g. 1,2 (default 1)")
    parser.add_argument("--turns", type=int, default=5, help="default 5")
    parser.add_argument("--runs", type=int, default=30, help="of a turn (default 30)")
    args = parser.parse_args(argv)
    if args.turns < 1 or args.runs < 1:
        parser.error(f"--turns {args.turns}, --runs {args.runs}: both must be at least 1")

    try:
        found = time_files(args.folder, args.threads, args.turns, args.runs)
    except DeviceError as error:
        say_error(error)
        return error.exit_code
    print(json.dumps(finite_json(found), indent=1))
    return 0


def time_files(folder: Path, threads: tuple[int, ...], turns: int, runs: int) -> dict:
    """{"processor", "rows": [{"file", "runtime", "threads", "ms"}]} of the files that `folder`
    lists; `ms` is the least of the medians of `turns` turns of `runs` runs.

    Raises InputError for a folder without such files, ModelFailed for a file that does not run.
    """
    listed = _listed(folder)
    installed = installed_runtimes()
    subjects = []
    for file in listed:
        for runtime in file["runtimes"]:
            if runtime in installed:
                subjects += [(file, runtime, count) for count in threads]
    if not subjects:
        raise InputError(
            f"none of the files of {folder} is for {', '.join(installed) or 'any runtime'} of this "
            "machine. Write them again where their runtimes are listed."
        )

    medians: list[list[float]] = [[] for _ in subjects]
    for turn in range(turns):
        print(f"turn {turn + 1} of {turns}: {len(subjects)} processes", file=sys.stderr)
        for (file, runtime, count), own in zip(subjects, medians, strict=True):
            own.append(_median_ms(folder, file, runtime, count, runs))

    rows = []
    for (file, runtime, count), own in zip(subjects, medians, strict=True):
        rows.append({"file": file["file"], "runtime": runtime, "threads": count, "ms": min(own)})
    return {"processor": processor(), "rows": rows}


def _median_ms(folder: Path, file: dict, runtime: str, threads: int, runs: int) -> float:
    """Of one process, the runs to warm up left out."""
    drawn = np.random.default_rng(0).integers(0, 256, (1, *file["shape"]))
    _, report = run_model(
        folder / file["file"],
        {file["input"]: drawn.astype(file["dtype"])},
        threads=threads,
        repeat=WARM_UP + runs,
        runtime=runtime,
    )
    return statistics.median(report["times_ms"][WARM_UP:])


def _listed(folder: Path) -> list[dict]:
    """The files of files.json: file, input, shape, dtype, runtimes. Raises InputError."""
    path = folder / LIST
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["files"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_FILES:
            raise ValueError(f"files must be a list of 1 to {_MOST_FILES}")
        for file in listed:
            _check(file)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} lists no files to time ({error!r:.200}). Write the folder with `edvit bench "
            "calibrate --files FOLDER`, and copy all of it."
        ) from error
    return listed


def _check(file: dict) -> None:
    """Raises ValueError, KeyError or TypeError unless this describes a file to time."""
    name = file["file"]
    if Path(name).name != name or not name.endswith(".tflite"):
        raise ValueError(f"{name!r} is no name of a .tflite file of this folder")
    values = 1
    for side in file["shape"]:
        if type(side) is not int or side < 1:
            raise ValueError(f"the shape {file['shape']!r} of {name} is none")
        values *= side
    if values > _MOST_VALUES:
        raise ValueError(f"the input of {name} has {values} values")
    if file["dtype"] not in ("uint8", "float32"):
        raise ValueError(f"the type {file['dtype']!r} of {name} is none of uint8 and float32")
    if not isinstance(file["input"], str) or not isinstance(file["runtimes"], list):
        raise ValueError(f"input and runtimes of {name} must be a name and a list")


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text}: every number of threads must be at least 1")
    return counts


if __name__ == "__main__":
    sys.exit(main())
