"""A .keras file that does not open, in one line: what is wrong with it, and what to do.

Keras tells a damaged file, one that was never fetched and one of a later version alike, in up to
twenty lines with the reason in the last.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import lfs_words

# What a .keras file is made of: a zip of these.
MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LONGEST = 200  # characters of a reason that is another program's


def damage(path: Path) -> str | None:
    """What is wrong with a .keras file, told from its bytes alone; None: it is whole.

    Every member is read through, so that a bit that was flipped is found by zip's own checksum.
    """
    with path.open("rb") as file:
        start = file.read(512)

    size = path.stat().st_size
    not_fetched = lfs_words(start)
    if not_fetched:
        return not_fetched
    if start[: len(_HDF5)] == _HDF5:
        return "is an HDF5 file, as Keras 2 wrote them; save the model again as .keras"
    if start.lstrip()[:1] == b"<":
        return "is a web page, not the file that it was to be; fetch it again"
    if start[:2] != b"PK":
        return f"is no .keras file: its {size} bytes do not begin as a zip does; fetch it again"

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            bad = archive.testzip()
    # A damaged header is met in many ways, by zip's own reader and by the decompressor.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        return f"is cut off or damaged ({one_line(error)}, {size} bytes); copy it again"

    if bad is not None:
        return f"is damaged: the checksum of {bad} in it does not fit; copy it again"
    missing = [name for name in MEMBERS if name not in names]
    if missing:
        return f"is not whole: {', '.join(missing)} is missing in it; copy it again"
    return None


def later_version(path: Path, here: str) -> str | None:
    """The version of Keras that wrote a whole .keras file, where it is later than the one here."""
    try:
        with zipfile.ZipFile(path) as archive:
            written = json.loads(archive.read("metadata.json"))["keras_version"]
        return written if _numbers(written) > _numbers(here) else None
    except (ValueError, KeyError, TypeError, OSError):
        return None


def one_line(error: BaseException) -> str:
    """The reason in an error of another program's: of several lines the last that says something,
    without the objects that it prints.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__

    # Keras puts the whole configuration of a layer before the reason, or after a colon.
    told = [line for line in lines if not line.startswith(("config=", "{", "<"))]
    reason = re.sub(r"\s+", " ", (told or lines)[-1])
    reason = reason.removeprefix("Exception encountered: ")
    return reason if len(reason) <= _LONGEST else reason[:_LONGEST] + " ..."


def _numbers(version: str) -> tuple[int, ...]:
    """(3, 10, 0) of "3.10.0"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def read_base(path: Path, kind: str, config_of: Callable) -> tuple[Any, dict[str, np.ndarray]]:
    """Config and weights of a base that an earlier run left as a .keras file; ConfigError for a
    file that does not open, is no `kind` of ours, or holds what no model can use.
    """
    from edvit_tf.models.weights import get_weights, load_keras

    try:
        model = load_keras(path)
    except ValueError as error:  # it names the file, and says what to do with it
        raise ConfigError(f"--base {error}. Or give the base.keras of another run.") from error

    try:
        config = config_of(model)
    except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ConfigError(
            f"--base {path} is not a {kind} of edvit_tf ({one_line(error)}). Give the base.keras "
            "of an earlier run."
        ) from error

    weights = get_weights(model)
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ConfigError(
                f"--base {path}: {name} of shape {value.shape} holds NaN or infinite values; no "
                "model can use them. Give the base.keras of another run."
            )
    return config, weights
