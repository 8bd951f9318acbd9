"""A message on the standard input of a program, which is started for it without a shell."""

import shlex
import shutil
import subprocess

from edvit_tf.errors import ConfigError
from edvit_tf.watch.outbox import Send, SendRefused

_SECONDS = 60.0
_MOST_WORDS = 300  # characters of what it says


def program(command: str) -> Send:
    """Raises ConfigError for a command that is none, or cannot be found."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--exec cannot be read: {error}. Mend its quotation marks.") from error
    if not words or shutil.which(words[0]) is None:
        # the first word alone: the others may have a password
        first = words[0] if words else ""
        raise ConfigError(
            f"--exec starts {first!r}, and no such program is found that may be run. Give "
            "its whole path; a line for a shell is written 'sh -c \"...\"'."
        )

    def send(message: bytes) -> None:
        try:
            done = subprocess.run(
                words,
                input=message,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_SECONDS,
                check=False,
                start_new_session=True,  # Ctrl-C is for the stream
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SendRefused(f"{error}.") from error
        # it is not run again: what it did half may not be done twice
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()[-_MOST_WORDS:]
            raise SendRefused(f"{words[0]} ended with {done.returncode}: {said or 'no words'}")

    return send
