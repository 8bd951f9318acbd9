"""Which Keras backend computes the fits and the answers of models: TensorFlow or JAX.

Keras has one backend a process, and here that is TensorFlow's, which scores, cuts and exports. So
another one computes in a process of its own (`backend_process.py`), which lives as long as the
context that asks for it: `fit`, `predict` and `resolved` go there by themselves. Weights go out and
come back as arrays by name; nothing else of a run knows where they were fitted.

Keras on torch is not among them: it takes no layer whose name has a dot, as ours have.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import numpy as np

from edvit_tf.config import BACKENDS
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig, architecture
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


class Listed:
    """The rows of each epoch, as a function that can be sent to another process."""

    def __init__(self, epoch_indices: Callable[[int], np.ndarray], epochs: int) -> None:
        self.rows = [epoch_indices(epoch) for epoch in range(max(1, epochs))]

    def __call__(self, epoch: int) -> np.ndarray:
        return self.rows[epoch]


def check_fit_elsewhere(config: ModelConfig, backend: str, callbacks: Sequence) -> None:
    """Raises ConfigError unless a fit can be made by another backend."""
    able = getattr(architecture(config), "BACKENDS", BACKENDS)
    if backend not in able:
        raise ConfigError(
            f"backend is {backend!r}; a model of {config.architecture} is fitted by "
            f"{' or '.join(able)} alone. Leave backend out."
        )
    if callbacks:
        raise ConfigError(
            f"backend is {backend!r} and {len(callbacks)} Keras callbacks were given, which reach "
            "fits of this process alone. Leave one of the two out."
        )
