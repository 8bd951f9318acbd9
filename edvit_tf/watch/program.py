"""A message on the standard input of a program, which is started for it without a shell."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from typing import BinaryIO

from edvit_tf.errors import ConfigError
from edvit_tf.watch.outbox import SendRefused

_SECONDS = 60.0
_LAST_SECONDS = 2.0  # from the request to end to the end
_LOOK_SECONDS = 0.05
_MOST_WORDS = 300  # characters of what it says
_MOST_BYTES = 16 << 20  # that it may say


class Program:
    """Starts a command for each message. Raises ConfigError for one that is none, or cannot be
    found.
    """

    def __init__(self, command: str) -> None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(
                f"--exec cannot be read: {error}. Mend its quotation marks."
            ) from error
        # the first word alone is shown: the others may have a password
        self.name = words[0] if words else ""
        if not self.name or shutil.which(self.name) is None:
            raise ConfigError(
                f"--exec starts {self.name!r}, and no such program is found that may be run. Give "
                "its whole path; a line for a shell is written 'sh -c \"...\"'."
            )
        self._words = words
        self._is_over = threading.Event()

    def __call__(self, message: bytes) -> None:
        """Raises SendRefused: it is not run again, what it did half may not be done twice."""
        # files, and no pipes: those a child in the background would hold open
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(message)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    self._words,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,  # Ctrl-C is for the stream
                )
            except OSError as error:
                why = error.strerror or type(error).__name__
                raise SendRefused(f"{self.name} cannot be started: {why}.") from error

            with process:
                why = self._why_ended(process, said)
                if why:
                    _end(process)
                    raise SendRefused(f"{self.name} {why}.")
            if process.returncode != 0:
                words = _last_words(said)
                raise SendRefused(f"{self.name} ended with {process.returncode}: {words}")

    def end(self) -> None:
        """Ends the one that runs, and all that it has started."""
        self._is_over.set()

    def _why_ended(self, process: subprocess.Popen[bytes], said: BinaryIO) -> str:
        """Waits for its end; why it must be ended, or ""."""
        until = time.monotonic() + _SECONDS
        while process.poll() is None:
            if self._is_over.is_set():
                return "was ended with the stream"
            if time.monotonic() >= until:
                return f"did not end within {_SECONDS:g} s, and was ended"
            if os.fstat(said.fileno()).st_size > _MOST_BYTES:
                return f"said more than {_MOST_BYTES >> 20} MiB, and was ended"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
        return ""


def _last_words(said: BinaryIO) -> str:
    said.seek(max(0, os.fstat(said.fileno()).st_size - 4 * _MOST_WORDS))
    words = said.read(4 * _MOST_WORDS).decode("utf-8", "replace").strip()
    return words[-_MOST_WORDS:] or "no words"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it and its children, which would go on without it."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_SECONDS)
    _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if not hasattr(os, "killpg"):
        process.kill()
        return
    with contextlib.suppress(OSError):  # nobody is left
        os.killpg(process.pid, number)
