"""One shim over the two TFLite runtimes: tflite-runtime (Python up to 3.11) and its successor
ai-edge-litert.
"""

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edvit_tf.device.errors import InputError, ModelFailed, RuntimeMissing
from edvit_tf.device.model.memory import check_memory
from edvit_tf.device.model.runtime_names import COMPILED, RUNTIMES, package_of

# the module of tflite-runtime that has the native code
_TFLITE_LIBRARY = "tflite_runtime._pywrap_tensorflow_interpreter_wrapper"


@dataclass(frozen=True)
class Model:
    """A loaded .tflite file: call `run` with named arrays."""

    path: Path
    runtime: str  # e.g. "tflite-runtime 2.14.0"
    num_threads: int
    inputs: dict[str, dict]  # name -> {"shape": tuple, "dtype": numpy dtype}
    interpreter: Any
    runner: Any

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """One inference.

        Raises InputError on a missing or unknown input, a wrong shape or dtype, or NaN and Inf;
        ModelFailed when the runtime gives up.
        """
        if set(arrays) != set(self.inputs):
            raise InputError(
                f"{self.path.name} takes the inputs {sorted(self.inputs)}; got {sorted(arrays)}."
            )

        for name, array in arrays.items():
            self._check_array(name, array)
        try:
            return self.runner(**arrays)
        except (ValueError, RuntimeError) as error:
            raise ModelFailed(f"{self.runtime} cannot run {self.path.name}: {error}") from error

    def _check_array(self, name: str, array: np.ndarray) -> None:
        wanted = self.inputs[name]
        if array.shape != wanted["shape"] or array.dtype != wanted["dtype"]:
            raise InputError(
                f"input {name} of {self.path.name} is {array.dtype}{list(array.shape)}; "
                f"it must be {wanted['dtype']}{list(wanted['shape'])}. Preprocess it as the "
                "manifest says."
            )

        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"input {name} of {self.path.name} holds NaN or Inf; send finite numbers."
            )


def installed_runtimes() -> tuple[str, ...]:
    """The names of RUNTIMES that are installed, in the order in which `load` takes them."""
    return tuple(name for name, module in RUNTIMES.items() if importlib.util.find_spec(module))


def runtime_name(runtime: str | None = None) -> str:
    """Name and version of the runtime that `load` takes: `runtime` (of NAMES), or the first of
    RUNTIMES that is installed.

    Raises RuntimeMissing with the command to install one, or when numpy 2 stands beside
    tflite-runtime 2.14, which imports with it and then fails when an interpreter is made.
    """
    installed = installed_runtimes()
    if runtime is None and not installed:
        raise RuntimeMissing(
            "neither tflite-runtime nor ai-edge-litert is installed; one of them runs the models. "
            "Run, in a clone of edvit_tf: pip install '.[device]'."
        )

    name = runtime or installed[0]
    package = package_of(name)
    if package not in installed:
        raise RuntimeMissing(
            f"{package} is not installed; installed here: {', '.join(installed) or 'none'}. "
            f"Run: pip install {package}."
        )

    version = importlib.metadata.version(package)
    if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
        raise RuntimeMissing(
            f"tflite-runtime {version} does not work with numpy {np.__version__}; it needs numpy "
            "below 2. Run: pip install 'numpy<2' (or use ai-edge-litert in the place of "
            "tflite-runtime)."
        )

    return f"{name} {version}"


def runtime_of_this_process() -> str:
    """Name and version of the runtime that `load` takes here: as `runtime_name`, but where
    TensorFlow was imported before tflite-runtime, as in a notebook that has trained, the other one.

    Raises RuntimeMissing as `runtime_name`, and where tflite-runtime alone is installed beside
    TensorFlow.
    """
    name = runtime_name()
    if not _spoilt_by_tensorflow(name):
        return name

    others = [other for other in installed_runtimes() if not _spoilt_by_tensorflow(other)]
    # without another it is asked for all the same, for the error that says why it cannot be
    return runtime_name(others[0] if others else None)


def _spoilt_by_tensorflow(name: str) -> bool:
    """Whether a runtime loads no file in this process ("vector::reserve"): tflite-runtime has
    symbols of TensorFlow's names, and finds TensorFlow's where that was imported first.
    """
    if name.split()[0] != "tflite-runtime":
        return False

    # in the order in which they were imported; whoever comes first keeps its own
    imported = []
    for one, module in list(sys.modules.items()):
        if one in ("tensorflow", _TFLITE_LIBRARY) and module is not None:  # None: kept out
            imported.append(one)
    return imported[:1] == ["tensorflow"]


def interpreter_class(runtime: str | None = None) -> type:
    """The Interpreter of a runtime (None: that of this process), imported. Raises RuntimeMissing as
    `runtime_name`, where it cannot be imported, and where TensorFlow is in its way.
    """
    name = runtime_of_this_process() if runtime is None else runtime_name(runtime)
    if _spoilt_by_tensorflow(name):
        raise RuntimeMissing(
            f"{name} loads no file in a process that has imported TensorFlow before it. Run: "
            "pip install ai-edge-litert, which does; or load the file in a process of its own."
        )

    package = package_of(name)
    try:
        if name.split()[0] == COMPILED:
            return importlib.import_module("edvit_tf.device.model.compiled").CompiledInterpreter
        return importlib.import_module(f"{RUNTIMES[package]}.interpreter").Interpreter
    except ImportError as error:
        raise RuntimeMissing(
            f"{package} is installed and cannot be imported ({error}). "
            f"Run: pip install --force-reinstall {package}."
        ) from error


@dataclass(frozen=True)
class Runtime:
    """A runtime that is imported: a process that gives its rights away may not find it later."""

    name: str  # with its version
    interpreter: type


def imported_runtime(runtime: str | None = None) -> Runtime:
    """`runtime` (of NAMES; None: that of this process). Raises as `interpreter_class`."""
    name = runtime_of_this_process() if runtime is None else runtime_name(runtime)
    return Runtime(name, interpreter_class(name.split()[0]))


def load(
    path: str | Path,
    num_threads: int = 1,
    runtime: str | Runtime | None = None,
    content: bytes | None = None,
) -> Model:
    """Loads a .tflite file and allocates its tensors, in `runtime` (of NAMES; None: that of this
    process, `runtime_of_this_process`).

    Of a file that this process may not open any more, its `content` is given as well. Raises
    RuntimeMissing, MemoryShort before a file is loaded that has no room, or ModelFailed on a file
    it cannot run. Verify the file first (`bundle.verified_path`): the runtimes can crash on a
    corrupt one.
    """
    chosen = runtime if isinstance(runtime, Runtime) else imported_runtime(runtime)
    name = chosen.name
    given: dict[str, Any] = {"model_content": content}
    # whoever has read the content has checked that there is room for it
    if content is None:
        check_memory(Path(path))
        given = {"model_path": str(path)}

    try:
        interpreter = chosen.interpreter(**given, num_threads=num_threads)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise ModelFailed(
            f"{name} cannot load {path}: {error}. Export a flavour that lists this runtime."
        ) from error

    # what `run` holds every array against
    inputs = {}
    for key, detail in runner.get_input_details().items():
        shape = tuple(int(n) for n in detail["shape"])
        inputs[key] = {"shape": shape, "dtype": np.dtype(detail["dtype"])}

    return Model(Path(path), name, num_threads, inputs, interpreter, runner)
