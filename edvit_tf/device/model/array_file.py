"""numpy's files (.npy, .npz) that come with a bundle, read without believing their headers.

numpy makes the array that a header promises before it reads the first value: a file of a kilobyte
may ask for 100 GB, and a compressed one may become that.
"""

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

# Of a golden input with all answers, or of a file that preparing an input takes. They are below a
# megabyte in the bundles of the recipes.
MAX_BYTES = 64 << 20

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What numpy and zipfile raise on files that are none, besides ValueError and OSError.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; ValueError where it is none, or holds more than
    MAX_BYTES.
    """
    _check_size(path)
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            promised = sum(member.file_size for member in members)
            if promised > MAX_BYTES:
                raise ValueError(f"{promised} bytes of arrays; at most {MAX_BYTES} are read")

            for member in members:
                if member.compress_type not in _COMPRESSIONS:
                    raise ValueError(f"{member.filename} is compressed in an unusual way")
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    # Without a number all that there is were unpacked, and then cut to what the
                    # member says.
                    content = file.read(member.file_size)
                arrays[name] = _array(name, content)
    except _DAMAGED as error:
        raise ValueError(f"no .npz file ({type(error).__name__}: {error})") from error

    return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file; ValueError where it is none, or has more than MAX_BYTES."""
    _check_size(path)
    try:
        return _array(path.name, path.read_bytes())
    except _DAMAGED as error:
        raise ValueError(f"no .npy file ({type(error).__name__}: {error})") from error


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path.name} has {size} bytes; at most {MAX_BYTES} are read")


def _array(name: str, content: bytes) -> np.ndarray:
    """The array of a .npy file's bytes, of as many values as there are."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"{name} is of version {version}; 1.0 and 2.0 are read")

    shape, is_fortran, dtype = header
    start = stream.tell()
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{name} holds {dtype}; numbers are read")

    promised = math.prod(shape) * dtype.itemsize
    if promised != len(content) - start:
        raise ValueError(
            f"{name} promises {list(shape)} of {dtype}, {promised} bytes, and holds "
            f"{len(content) - start}"
        )

    values = np.frombuffer(content, dtype, offset=start)
    return values.reshape(shape, order="F" if is_fortran else "C")
