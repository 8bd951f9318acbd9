"""Which Keras backend computes the fits and the answers of models: TensorFlow or JAX.

Keras has one backend a process, and here that is TensorFlow's, which scores, cuts and exports. So
another one computes in a process of its own (`backend_process.py`), which lives as long as the
context that asks for it: `fit`, `predict` and `resolved` go there by themselves. Weights go out and
come back as arrays by name; nothing else of a run knows where they were fitted.

Keras on torch is not among them: it takes no layer whose name has a dot, as ours have.
"""

import contextlib
import importlib.util
from collections.abc import Iterator
from contextvars import ContextVar

from edvit_tf.config import BACKENDS
from edvit_tf.errors import ConfigError
from edvit_tf.progress.events import warn
from edvit_tf.training.backend_process import BackendProcess

OURS = "tensorflow"

_process: ContextVar[BackendProcess | None] = ContextVar("backend_process", default=None)


@contextlib.contextmanager
def computing_on(backend: str) -> Iterator[None]:
    """Within it fits and answers are computed by Keras on `backend`, one of BACKENDS. Its process
    starts with the first of them. Of two contexts the inner one counts.

    Raises ConfigError where it is none of these, or not installed.
    """
    check_backend_of_fits(backend)
    with contextlib.ExitStack() as stack:
        process = None if backend == OURS else stack.enter_context(BackendProcess(backend))
        token = _process.set(process)
        try:
            yield
        finally:
            _process.reset(token)


def leave_gpus(backend: str) -> None:
    """Leaves the GPUs to the process of another backend, for the rest of this one: TensorFlow takes
    all memory of those that it sees with its first operation.
    """
    if backend == OURS:
        return
    import tensorflow as tf

    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:  # it has computed already, and keeps what it has
        if tf.config.get_visible_devices("GPU"):
            warn(
                "TensorFlow has the GPU of this process already, and may have left no memory for "
                "another backend. Start the fit in a new process."
            )


def other_process() -> BackendProcess | None:
    """Who computes in the place of this process; None: nobody does."""
    return _process.get()


def check_backend_of_fits(backend: str) -> None:
    """Raises ConfigError unless `backend` is one of BACKENDS and is installed."""
    if backend not in BACKENDS:
        raise ConfigError(f"backend is {backend!r}; it must be one of {', '.join(BACKENDS)}.")
    if importlib.util.find_spec(backend) is None:
        raise ConfigError(
            f"backend is {backend!r}, which is not installed: pip install "
            f"'edvit-tf[{backend}]', or its build for your GPU as its own pages say."
        )
