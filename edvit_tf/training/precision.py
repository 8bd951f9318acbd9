"""The precision of a training step's products: what "auto" stands for on this machine, and Keras's
policy for it.
"""

import contextlib
import functools
from pathlib import Path

import keras
import tensorflow as tf

from edvit_tf.models.keras_settings import on_tensorflow, pinned
from edvit_tf.training.backend import other_process

CPU_INFO = Path("/proc/cpuinfo")
CPU_FLAGS = {"amx_bf16", "avx512_bf16"}
AMPERE = (8, 0)  # the first compute capability of NVIDIA's whose matrix units take bfloat16


@functools.lru_cache
def has_fast_bfloat16() -> bool:
    """Whether the first GPU, or else the processor, multiplies matrices faster in bfloat16.

    Of processors those do whose flags name matrix units (amx_bf16) or vector products (avx512_bf16)
    for it: with the fused layers a step took 0.60 to 0.79 and 0.76 to 0.96 of the time in float32
    (docs/lab_book/training.md). Where there is no /proc/cpuinfo the answer is False.
    """
    if not on_tensorflow():
        return _has_ampere()

    # Training runs on the first GPU where there is one, and the processor no longer counts.
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        # A driver that does not say counts as old.
        return details.get("compute_capability", (0, 0)) >= AMPERE

    try:
        return not CPU_FLAGS.isdisjoint(CPU_INFO.read_text().split())
    except OSError:
        return False


def _has_ampere() -> bool:
    """The same of JAX's first device. Processors were not measured to be faster by it."""
    import jax

    first = jax.devices()[0]
    capability = str(first.compute_capability) if first.platform == "gpu" else ""
    major, _, minor = capability.partition(".")
    return major.isdecimal() and (int(major), int(minor or 0)) >= AMPERE


def device_name() -> str:
    """What JAX computes on, in its process: "cpu", or a GPU by its maker's name."""
    import jax

    return jax.devices()[0].device_kind


def resolved(precision: str) -> str:
    """ "float32" or "bfloat16": the precision as given, or for "auto" the one that this machine is
    faster with, by the backend that computes.
    """
    if precision != "auto":
        return precision
    process = other_process()
    if process is not None:
        return process.call("resolved", precision=precision)
    return "bfloat16" if has_fast_bfloat16() else "float32"


@contextlib.contextmanager
def precision_policy(precision: str):
    """Keras's policy of new layers: "float32", or "bfloat16" products and activations over float32
    weights; all its other settings are ours (`pinned`).
    """
    with pinned():
        keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
        yield
