"""Run one .tflite file over the rows of an array file, in a process of its own that holds no
TensorFlow.

    python -m edvit_tf.device.model.subprocess_main MODEL.tflite INPUTS.npz OUTPUTS.npz
        [--threads 1] [--repeat 1] [--runtime NAME] [--unprivileged] [--view JSON]

INPUTS.npz (or one .npy for a model with one input, read as a memory map) holds an array (n, ...)
for each input of the model, without the batch axis of 1; an array with fewer rows than another is
gone through again from its start. With --view the model sees them so. OUTPUTS.npz gets one array
(n, ...) an output, `invoke_ms` (n * repeat,), and `report`, a JSON text: runtime, import_ms (of the
runtime), load_ms, resident bytes before the model was loaded and at the peak, what is delegated
(`delegation.py`), and that TensorFlow was not loaded.

With --unprivileged a process of root's becomes nobody before it loads the model. All files are
opened or read before, for nobody may perhaps neither enter their folders nor read them.
"""

import argparse
import contextlib
import json
import sys
import time
import zipfile  # noqa: F401 (numpy imports it when it writes, which may be too late)
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edvit_tf.device.errors import DeviceError
from edvit_tf.device.model.delegation import delegation
from edvit_tf.device.model.memory import check_memory, peak_rss
from edvit_tf.device.model.runtime import Model, imported_runtime, load
from edvit_tf.device.model.runtime_names import NAMES
from edvit_tf.device.model.unprivileged import become_nobody, has_rights_to_give
from edvit_tf.device.model.view import AS_IT_IS, View, view_from_dict

_NOT_ON_A_DEVICE = ("keras", "tensorflow", "tf_keras")


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns 0, or 1 with one line: the file cannot be loaded or run, or TensorFlow
    is in the process.
    """
    # `__doc__` is None under PYTHONOPTIMIZE=2, which this process has from the one that starts it
    parser = argparse.ArgumentParser(
        prog="edvit_tf.device.model.subprocess_main", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeat", type=int, default=1, help="run all rows so often; the last answers are kept"
    )
    parser.add_argument("--runtime", choices=NAMES)
    parser.add_argument("--unprivileged", action="store_true", help="as nobody, if this is root")
    parser.add_argument("--view", type=_view, default=AS_IT_IS, help="as a manifest has it")
    args = parser.parse_args(argv)

    if args.repeat < 1 or args.threads < 1:
        parser.error(f"--repeat {args.repeat}, --threads {args.threads}: both must be at least 1")

    try:
        with open(args.model, "rb") as model, open(args.outputs, "wb") as outputs:
            code = _run(args, model, outputs)
    except (DeviceError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 1

    # an empty file is no answer; nobody may perhaps not delete it
    if code:
        with contextlib.suppress(OSError):
            args.outputs.unlink()
    return code


def _run(args: argparse.Namespace, file: BinaryIO, target: BinaryIO) -> int:
    # before the file is loaded, so that load_ms is of the file alone
    started = time.perf_counter()
    runtime = imported_runtime(args.runtime)
    import_ms = (time.perf_counter() - started) * 1e3

    given = _given(args.inputs)
    content = _content_as_nobody(args.model, file) if args.unprivileged else None

    before = peak_rss()
    started = time.perf_counter()
    model = load(args.model, args.threads, runtime, content)
    load_ms = (time.perf_counter() - started) * 1e3

    outputs, invoke_ms = _run_rows(model, _by_name(model, given), args.repeat, args.view)

    loaded = [name for name in _NOT_ON_A_DEVICE if name in sys.modules]
    if loaded:
        print(
            f"{', '.join(loaded)} was loaded into the measuring process; a device has none. "
            "Measured nothing.",
            file=sys.stderr,
        )
        return 1

    report = {
        "runtime": model.runtime,
        "threads": args.threads,
        "import_ms": round(import_ms, 2),
        "load_ms": round(load_ms, 2),
        "start_rss_bytes": before,
        "peak_rss_bytes": peak_rss(),
        "tensorflow_loaded": False,
        "delegation": delegation(model.interpreter),
    }
    np.savez(target, invoke_ms=invoke_ms, report=np.array(json.dumps(report)), **outputs)

    return 0


def _view(text: str) -> View:
    return view_from_dict(json.loads(text))


def _content_as_nobody(path: Path, file: BinaryIO) -> bytes | None:
    """What a model's file holds, read before this process of root's became nobody; None for
    another user's process, which loads it by its path.
    """
    if not has_rights_to_give():
        return None

    check_memory(path)
    content = file.read()
    become_nobody()
    return content


def _given(inputs: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The arrays (n, ...) of a file: by name, or the one of a .npy file, as a memory map."""
    if inputs.suffix == ".npy":
        return np.load(inputs, mmap_mode="r", allow_pickle=False)
    return dict(np.load(inputs, allow_pickle=False))


def _by_name(model: Model, given: np.ndarray | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays (n, ...) by the name of the model's input; one alone is that of its first."""
    return given if isinstance(given, dict) else {next(iter(model.inputs)): given}


def _run_rows(
    model: Model, arrays: dict[str, np.ndarray], repeat: int, view: View
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The last turn's answers (n, ...) by name, and the milliseconds of all runs (n * repeat,)."""
    count = max(len(array) for array in arrays.values())
    milliseconds = []
    for _ in range(repeat):
        answers: dict[str, list] = {}
        for i in range(count):
            row = {}
            for name, array in arrays.items():
                row[name] = view.applied(np.asarray(array[i % len(array)])[np.newaxis])  # (1, ...)

            started = time.perf_counter()
            result = model.run(**row)
            milliseconds.append((time.perf_counter() - started) * 1e3)

            for name, value in result.items():
                answers.setdefault(name, []).append(value[0].copy())

    outputs = {name: np.stack(values) for name, values in answers.items()}
    return outputs, np.array(milliseconds)


if __name__ == "__main__":
    raise SystemExit(main())
