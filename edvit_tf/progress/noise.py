"""What native libraries write on file descriptor 2: kept out of the terminal, and not lost.

TensorFlow and the converter write there past Python, about processors and graphics cards that
nobody asked for. Python's own standard error stays where it is: warnings, errors and tracebacks.
"""

import contextlib
import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_depth = 0  # of contexts that are open, one in the other


@contextlib.contextmanager
def native_log(path: Path | None) -> Iterator[None]:
    """Sends what is written on file descriptor 2 to the end of `path`, or with None to a file that
    is shown only if the context ends in a fault that nobody expected.

    A crash of native code still shows Python's traceback on standard error. Of two contexts the
    inner one has it.
    """
    global _depth
    file = _opened(path) if _depth or _is_two(sys.stderr) else None
    if file is None:
        yield
        return

    real = os.dup(2)
    # an inner context finds Python's standard error apart already
    apart = contextlib.nullcontext() if _depth else _pythons_own(real)
    _depth += 1
    try:
        with apart, _two_is(file, real):
            try:
                yield
            except Exception as error:
                if path is None and not _says_it_all(error):
                    file.seek(0)
                    sys.stderr.write(file.read().decode("utf-8", "replace"))
                raise
    finally:
        _depth -= 1
        os.close(real)
        file.close()


def _says_it_all(error: Exception) -> bool:
    """Whether an error of ours (exit_code) or of a path says what is wrong; others may need all
    there is.
    """
    return hasattr(error, "exit_code") or isinstance(error, OSError)


@contextlib.contextmanager
def _two_is(file, real: int) -> Iterator[None]:
    """Within it file descriptor 2 is `file`'s, after it `real`."""
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(real, 2)


@contextlib.contextmanager
def _pythons_own(real: int) -> Iterator[None]:
    """Within it Python's standard error is a stream on a copy of `real`."""
    before = sys.stderr
    before.flush()
    # line by line, as standard error is
    own = os.fdopen(os.dup(real), "w", buffering=1, encoding=before.encoding, errors=before.errors)
    sys.stderr = own
    faulted = faulthandler.is_enabled()
    faulthandler.enable(own)
    try:
        yield
    finally:
        sys.stderr = before
        faulthandler.disable()
        if faulted:
            faulthandler.enable(before)
        own.close()


def _opened(path: Path | None):
    """The file that takes it; None where it cannot be opened (the run needs it least of all)."""
    try:
        return tempfile.TemporaryFile() if path is None else open(path, "ab+", buffering=0)
    except OSError:
        return None


def _is_two(stream) -> bool:
    """Whether a stream writes on file descriptor 2 (one of a test or of a notebook does not)."""
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False
