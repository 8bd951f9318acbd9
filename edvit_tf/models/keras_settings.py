"""Keras's settings of a whole process, as our models need them, whatever a user has set.

A user may have other ones for models of his own: a policy of mixed_float16, floatx or data format
in ~/.keras/keras.json, another backend. Under them our layers compute otherwise, or not at all: a
loss scale is zeroed with the rest of an optimizer, and every weight becomes NaN. The backend is
chosen before Keras is imported, where `edvit_tf` is.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from edvit_tf.errors import ConfigError

# What Keras runs on in this process. TensorFlow's functions score, cut and export; a process that
# only fits and answers (`training.backend_process`) sets another.
expected_backend = "tensorflow"

# A setting, how it is read and set, and ours. The policy comes last: to set floatx sets it too.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], None], Any], ...] = (
    (keras.config.floatx, keras.config.set_floatx, "float32"),
    (keras.config.epsilon, keras.config.set_epsilon, 1e-7),
    (
        keras.config.image_data_format,
        keras.config.set_image_data_format,
        "channels_last",
    ),
    (keras.config.dtype_policy, keras.config.set_dtype_policy, "float32"),
)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Keras as our models need it: float32, channels last, TensorFlow. In the end as it was.

    Also a decorator. Raises ConfigError where Keras was imported with another backend.
    """
    check_backend()

    before = [read() for read, _, _ in _SETTINGS]
    for _, write, ours in _SETTINGS:
        write(ours)
    try:
        yield
    finally:
        for (_, write, _), value in zip(_SETTINGS, before, strict=True):
            write(value)


def on_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow in this process."""
    return keras.config.backend() == "tensorflow"


def check_backend() -> None:
    """Raises ConfigError unless Keras runs on what it is to in this process."""
    backend = keras.config.backend()
    if backend != expected_backend:
        raise ConfigError(
            f"Keras runs on {backend} in this process; edvit_tf builds and exports models with "
            "TensorFlow. Import edvit_tf before keras, or set KERAS_BACKEND=tensorflow."
        )
