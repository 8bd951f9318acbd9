"""Run one .tflite file over the rows of an array file, in a process of its own that holds no
TensorFlow.

    python -m edvit_tf.device.model.subprocess_main MODEL.tflite INPUTS.npz OUTPUTS.npz [--threads
    1] [--repeat 1] [--runtime NAME]

INPUTS.npz (or one .npy for a model with one input, read as a memory map) holds an array (n, ...)
for each input of the model, without the batch axis of 1; an array with fewer rows than another is
gone through again from its start. OUTPUTS.npz gets one array (n, ...) an
output, `invoke_ms` (n * repeat,), and `report`, a JSON text: runtime, import_ms (of the runtime),
load_ms, resident bytes before the model was loaded and at the peak, what is delegated
(`delegation.py`), and that TensorFlow was not loaded.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import DeviceError
from edvit_tf.device.model.delegation import delegation
from edvit_tf.device.model.memory import peak_rss
from edvit_tf.device.model.runtime import RUNTIMES, interpreter_class, load


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns 0, or 1 with one line: the file cannot be loaded or run, or TensorFlow
    is in the process.
    """
    parser = argparse.ArgumentParser(
        prog="edvit_tf.device.model.subprocess_main", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeat", type=int, default=1, help="run all rows so often; the last answers are kept"
    )
    parser.add_argument("--runtime", choices=RUNTIMES)
    args = parser.parse_args(argv)

    if args.repeat < 1 or args.threads < 1:
        parser.error(f"--repeat {args.repeat}, --threads {args.threads}: both must be at least 1")
    try:
        return _run(args)
    except (DeviceError, ValueError, RuntimeError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _run(args) -> int:
    started = time.perf_counter()
    interpreter_class(args.runtime)
    import_ms, before = (time.perf_counter() - started) * 1e3, peak_rss()
    started = time.perf_counter()
    model = load(args.model, args.threads, args.runtime)
    load_ms = (time.perf_counter() - started) * 1e3
    if args.inputs.suffix == ".npy":
        arrays = {next(iter(model.inputs)): np.load(args.inputs, mmap_mode="r", allow_pickle=False)}
    else:
        arrays = dict(np.load(args.inputs, allow_pickle=False))
    count = max(len(array) for array in arrays.values())
    invoke_ms = np.zeros((args.repeat, count))
    for turn in range(args.repeat):
        outputs: dict[str, list] = {}
        for i in range(count):
            row = {
                name: np.asarray(array[i % len(array)])[np.newaxis]
                for name, array in arrays.items()
            }
            started = time.perf_counter()
            result = model.run(**row)
            invoke_ms[turn, i] = (time.perf_counter() - started) * 1e3
            for name, value in result.items():
                outputs.setdefault(name, []).append(value[0].copy())
    loaded = sorted(m for m in ("tensorflow", "keras", "tf_keras") if m in sys.modules)
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
    np.savez(
        args.outputs,
        invoke_ms=invoke_ms.ravel(),
        report=np.array(json.dumps(report)),
        **{name: np.stack(values) for name, values in outputs.items()},
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
