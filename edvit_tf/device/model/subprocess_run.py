"""Run a .tflite file over stored inputs in a process of its own: a file that crashes the runtime
crashes only that.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import NoneType

import numpy as np

from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.array_file import read_npz
from edvit_tf.device.model.view import AS_IT_IS, View

# A week. The system's poll takes 24 days at most, which half a million runs come to at 5 s each.
LONGEST_SECONDS = 7 * 24 * 3600.0


def run_model(
    model: Path,
    inputs: Path | dict[str, np.ndarray],
    *,
    threads: int = 1,
    repeat: int = 1,
    runtime: str | None = None,
    timeout_seconds: float | None = None,
    scratch: Path | None = None,
    unprivileged: bool = False,
    view: View = AS_IT_IS,
) -> tuple[dict[str, np.ndarray], dict]:
    """Outputs (n, ...) by name and a report of `python -m edvit_tf.device.model.subprocess_main` on
    `inputs`.

    `inputs` is a .npy file (one input, read as a memory map there) or named arrays (n, ...), of
    which a shorter one is gone through again; all rows are run `repeat` times, the last answers are
    kept. The model sees each of its one input by `view`, which no time counts. `runtime` is one of
    `edvit_tf.device.model.runtime_names.NAMES` (None: the default). Temporary files go to the
    folder `scratch` (None: the system's). `unprivileged`: where this is root's process, that one
    becomes nobody before it loads the model.

    The report has runtime, threads, import_ms, load_ms, first_ms, times_ms (n * repeat, the first
    included), samples, start_rss_bytes (before the model was loaded), peak_rss_bytes, delegation
    (see `delegation.py`). Raises ModelFailed with the process's own words or signal, or when it is
    not done after `timeout_seconds` (None: a minute and 5 s a run, ten times what ViT-Base takes),
    LONGEST_SECONDS at most.
    """
    if timeout_seconds is None:
        timeout_seconds = 60 + 5 * repeat * _count(inputs)
    timeout_seconds = min(timeout_seconds, LONGEST_SECONDS)

    with _temporary_folder(scratch) as name:
        folder = Path(name)
        if isinstance(inputs, dict):
            source = folder / "inputs.npz"
            np.savez(source, **inputs)
        else:
            source = inputs

        target = folder / "outputs.npz"

        words = [model, source, target, "--threads", threads, "--repeat", repeat]
        if runtime is not None:
            words += ["--runtime", runtime]
        if unprivileged:
            words.append("--unprivileged")
        if view != AS_IT_IS:
            words += ["--view", json.dumps(view.to_dict())]

        _run(model.name, [str(word) for word in words], timeout_seconds)

        outputs = _read(target, model.name, unprivileged)

    # these two travelled among the outputs; what is left is the model's
    try:
        report = _report(outputs.pop("report"), outputs.pop("invoke_ms"), repeat)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFailed(
            f"the process that runs {model.name} left no report ({error!r})"
        ) from error

    return outputs, report


# Above all milliseconds and bytes; NaN is not below it.
_MOST = 1e15
# What is reckoned with, and shown on a terminal, of a report: by key its types.
_REPORTED: dict[str, tuple[type, ...]] = {
    "runtime": (str,),
    "import_ms": (int, float),
    "load_ms": (int, float),
    "start_rss_bytes": (int, NoneType),
    "peak_rss_bytes": (int, NoneType),
    "delegation": (dict, NoneType),
}


def _report(text: np.ndarray, times_ms: np.ndarray, repeat: int) -> dict:
    """The report that the process wrote, with its times (n * repeat,); KeyError, TypeError or
    ValueError where it is none.
    """
    report = json.loads(str(text))
    for key, kinds in _REPORTED.items():
        value = report[key]
        is_sound = isinstance(value, kinds)
        if is_sound and isinstance(value, int | float):
            is_sound = abs(value) < _MOST
        if not is_sound:
            raise ValueError(f"{key} is {value!r}"[:100])
    if not report["runtime"].isprintable():
        raise ValueError("the name of the runtime is not printable")

    is_right = times_ms.ndim == 1 and times_ms.dtype.kind == "f"
    if not is_right or len(times_ms) < repeat or not np.isfinite(times_ms).all():
        raise ValueError(f"invoke_ms is {times_ms.dtype} {list(times_ms.shape)}")

    times = times_ms.tolist()
    report["times_ms"] = times
    report["first_ms"] = times[0]
    report["samples"] = len(times) // repeat

    return report


def _read(target: Path, name: str, unprivileged: bool) -> dict[str, np.ndarray]:
    """What the process wrote. Of one that ran a stranger's model little is believed."""
    if unprivileged:
        try:
            return read_npz(target)
        except (OSError, ValueError) as error:
            raise ModelFailed(f"the process that runs {name} left no answers ({error})") from error

    with np.load(target, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _run(name: str, words: list[str], timeout_seconds: float) -> None:
    """`subprocess_main WORDS...` in a process of its own, to its end; ModelFailed if it did not do
    it.
    """
    # the package is found from any folder, installed or not
    package = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "edvit_tf.device.model.subprocess_main", *words],
        # A stranger's model has no terminal into which it could type as whoever asked.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        _, said = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise ModelFailed(
            f"{name} was not done after {timeout_seconds:g} s in its process: the machine is "
            "overloaded, or there are too many samples."
        ) from error
    finally:
        _end(process)

    if process.returncode != 0:
        # the last line says it, of a traceback too; after it a runtime may tell what it takes down
        said_lines = [line for line in said.strip().splitlines() if not line.startswith("INFO:")]
        lines = said_lines or ["(it said nothing)"]
        raise ModelFailed(
            f"the process that runs {name} {_how(process.returncode)}: {lines[-1][-500:]}"
        )


def _end(process: subprocess.Popen) -> None:
    """Ends a process, however far it is, and what it may have started, which is of its session."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stderr:
        process.stderr.close()


@contextlib.contextmanager
def _temporary_folder(parent: Path | None) -> Iterator[str]:
    """A folder that goes again, also when the process is told to end at the very moment that it is
    made.
    """
    folder = Path(parent or tempfile.gettempdir()) / f"edvit-{secrets.token_hex(8)}"
    try:  # before there is anything to remove: a signal may come between any two steps
        folder.mkdir(mode=0o700)
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# By name: Windows has not all of them.
_HINTS = {
    "SIGKILL": "out of memory?",
    "SIGSEGV": "a spoilt file, or a fault of the runtime",
    "SIGBUS": "a spoilt file, or a fault of the runtime",
    "SIGILL": "a runtime built for another processor",
}


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"was ended by signal {-code}"

    hint = f" ({_HINTS[number.name]})" if number.name in _HINTS else ""
    return f"was ended by {number.name}{hint}"


def _count(inputs: Path | dict[str, np.ndarray]) -> int:
    """Samples in the inputs: rows of the longest array."""
    if isinstance(inputs, dict):
        return max(len(array) for array in inputs.values())
    return len(np.load(inputs, mmap_mode="r"))
