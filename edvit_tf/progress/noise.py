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

FILE = "EDVIT_NATIVE_LOG"  # the file, for processes that this one starts


@contextlib.contextmanager
def native_log(path: Path | None) -> Iterator[None]:
    """Sends what is written on file descriptor 2 to the end of `path`, or with None to a file that
    is shown only if the context ends in a fault that nobody expected.

    A crash of native code still shows Python's traceback on standard error.
    """
    file = _opened(path) if _is_two(sys.stderr) else None
    if file is None:
        yield
        return

    real = os.dup(2)
    before = sys.stderr
    before.flush()
    # line by line, as standard error is
    sys.stderr = os.fdopen(
        os.dup(real), "w", buffering=1, encoding=before.encoding, errors=before.errors
    )
    faulted = faulthandler.is_enabled()
    faulthandler.enable(sys.stderr)
    os.dup2(file.fileno(), 2)
    given = os.environ.get(FILE)
    if path is not None:
        os.environ[FILE] = str(path)

    try:
        yield
    except Exception as error:
        # Errors of ours say what is wrong themselves (exit_code); others may need all there is.
        if path is None and not hasattr(error, "exit_code") and not isinstance(error, OSError):
            file.seek(0)
            sys.stderr.write(file.read().decode("utf-8", "replace"))
        raise
    finally:
        os.dup2(real, 2)
        os.close(real)
        own, sys.stderr = sys.stderr, before
        faulthandler.disable()
        if faulted:
            faulthandler.enable(before)
        own.close()
        file.close()
        os.environ.pop(FILE, None)
        if given is not None:
            os.environ[FILE] = given


def inherited_log() -> Path | None:
    """The file of the process that started this one, if it has one."""
    given = os.environ.get(FILE)
    return Path(given) if given else None


def error_stream():
    """Standard error as a started process may have it: the terminal's, not the log of native
    libraries; None for what stands on file descriptor 2.
    """
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return sys.stderr


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
