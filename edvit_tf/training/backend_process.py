"""A process whose Keras has another backend than ours: `python -m ...backend_process BACKEND`.

It is asked over its standard input and answers over its standard output, in pickles, one call at a
time: what it tells of a fit on the way, and in the end what the call came to. It ends with its
parent, whose end closes both. Inputs that lie in a file (a memory map) are mapped there too, and
not sent.
"""

import contextlib
import mmap
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

import numpy as np

from edvit_tf.device.errors import DeviceError
from edvit_tf.errors import EdvitError, OutputError
from edvit_tf.progress.events import Event, listening, tell
from edvit_tf.progress.interrupts import end_if_asked

# What may be called there: name -> "module:function".
CALLED = {
    "fit": "edvit_tf.training.train:fit",
    "fit_side_by_side": "edvit_tf.training.side_by_side:fit_side_by_side",
    "predict": "edvit_tf.training.train:predict",
    "resolved": "edvit_tf.training.precision:resolved",
    "device": "edvit_tf.training.precision:device_name",
}
# on a GPU: memory as it is needed, as several processes may share it; the same sums for a seed
_AS_NEEDED = "XLA_PYTHON_CLIENT_PREALLOCATE"
_SAME_SUMS = "--xla_gpu_deterministic_ops"


@dataclass(frozen=True)
class Mapped:
    """An array that lies in a file."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class BackendEnded(OutputError):
    """The process ended in a call; `is_killed` where another has killed it."""

    is_killed = False


class BackendProcess:
    """The process, started with its first call and ended with its context."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "BackendProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def call(self, name: str, **arguments: Any) -> Any:
        """What CALLED[name] returns there for these arguments. What it tells is told here.

        Raises what it raises of ours; BackendEnded where the process ends before its time; and
        RuntimeError, with its traceback, for any other error.
        """
        process = self._started()
        try:
            sent = {key: _as_sent(value) for key, value in arguments.items()}
            pickle.dump((name, sent), process.stdin, protocol=5)
            process.stdin.flush()

            while True:
                kind, content = pickle.load(process.stdout)
                if kind == "told":
                    end_if_asked()
                    tell(content.text, content.kind, **content.facts)
                else:
                    break
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise _ended(self.backend, self._end(), name) from error
        except BaseException:
            # what it still has to say would be taken for the answer to the next call
            self._end()
            raise

        if kind == "failed":
            raise content
        if kind == "fault":
            raise RuntimeError(f"{name} on {self.backend} failed there:\n{content}")
        return content

    def _started(self) -> subprocess.Popen:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, self.backend],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process

    def _end(self) -> int | None:
        """Ends it, at work or not; its exit code where it had ended by itself."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # one that has died is a moment in dying
        code = process.poll()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        return code


def _ended(backend: str, code: int | None, name: str) -> BackendEnded:
    what = f"the process that computes on {backend} ended with {code} in {name!r}"
    if code == -signal.SIGKILL:
        error = BackendEnded(
            f"{what}: it was killed, most often for want of memory. Give it more, or smaller "
            "batches; start the same command again: finished stages are kept."
        )
        error.is_killed = True
        return error
    return BackendEnded(
        f"{what}. What it said stands on standard error, or in the run's log; where {backend} does "
        f"not start at all, look at python -c 'import {backend}; {backend}.devices()'."
    )


def _environment() -> dict[str, str]:
    """That of the process: what a user has set stands, and ours is added."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _SAME_SUMS not in flags:
        flags = f"{flags} {_SAME_SUMS}=true".strip()
    return {_AS_NEEDED: "false", **os.environ, "XLA_FLAGS": flags}


def _as_sent(value: Any) -> Any:
    """A memory map of a whole file as its place; all else as it is."""
    is_map = isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap)
    if is_map and value.filename and value.flags.c_contiguous:
        return Mapped(str(value.filename), value.dtype.str, value.shape, value.offset)
    return value


def _as_given(value: Any) -> Any:
    if isinstance(value, Mapped):
        return np.memmap(value.path, value.dtype, "r", value.offset, value.shape)
    return value


class _Telling:
    """A listener that sends what it hears to the parent."""

    def __init__(self, to: IO[bytes]) -> None:
        self.to = to

    def hear(self, event: Event) -> None:
        _say(self.to, "told", event)


def main(backend: str) -> int:
    """Answers calls until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    asked, answers = _own_pipes()
    _prepare(backend)

    with listening(_Telling(answers)):
        while True:
            try:
                name, arguments = pickle.load(asked)
            except EOFError:
                return 0
            _answer(answers, name, {key: _as_given(value) for key, value in arguments.items()})


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The parent's two pipes, for calls and answers alone: what a library prints goes to standard
    error.
    """
    asked = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return asked, answers


def _prepare(backend: str) -> None:
    """Keras on this backend, which computes the same for the same seed, and float32 as such."""
    os.environ["KERAS_BACKEND"] = backend  # before Keras is imported, after edvit_tf was

    import jax
    import tensorflow as tf

    jax.config.update("jax_default_matmul_precision", "float32")  # TF32 is less than that

    tf.config.set_visible_devices([], "GPU")  # it feeds batches; the GPU is the backend's

    from edvit_tf.models import keras_settings

    keras_settings.expected_backend = backend


def _answer(to: IO[bytes], name: str, arguments: Mapping[str, Any]) -> None:
    import importlib

    module, _, function = CALLED[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), function)(**arguments)
    except (EdvitError, DeviceError) as error:
        _say(to, "failed", error)
    except Exception:  # noqa: BLE001 (the parent's to see)
        _say(to, "fault", traceback.format_exc())
    else:
        _say(to, "done", found)


def _say(to: IO[bytes], kind: str, content: Any) -> None:
    pickle.dump((kind, content), to, protocol=5)
    to.flush()


if __name__ == "__main__":
    # the one that was imported, and not a second one by the name of __main__, pickles its classes
    from edvit_tf.training import backend_process

    sys.exit(backend_process.main(sys.argv[1]))
