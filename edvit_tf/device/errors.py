"""What a device's commands end with: one table of exit codes, and one tree of errors that have
them.

Every `main` of the device catches DeviceError (and KeyboardInterrupt), prints the message, and
returns the error's code. Anything else is a fault of ours, and ends with its traceback and code 1.
A message gives the value seen, the rule broken and the next thing to do.

The host's codes and errors stand in `edvit_tf.errors`, which extends this table; help texts,
docs/reference/exit_codes.md and the systemd unit all say what the table says.
"""

import enum
from collections.abc import Iterable
from typing import Self


class ExitCode(enum.IntEnum):
    """A code with its meaning, and whether a server that ended with it should be started again."""

    meaning: str
    restart: str  # "yes", "no", "perhaps"; "" where no server ends so

    def __new__(cls, code: int, meaning: str, restart: str = "") -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        member.restart = restart
        return member


@enum.unique
class DeviceExit(ExitCode):
    """The codes of `python -m edvit_tf.device` and `python -m edvit_tf.device.update`."""

    DONE = 0, "done, or a server was told to stop"
    FAILED = 1, "a check failed, a whole server hung, or a fault of ours (a traceback)", "yes"
    USAGE = 2, "wrong usage", "no"
    BUNDLE = 7, "the bundle is missing, incomplete or changed", "no"
    RUNTIME = 9, "no usable TFLite runtime, or no grpcio", "no"
    INPUT = 10, "a file cannot be used as input"
    MEMORY = 12, "too little memory", "perhaps"
    MODEL = 13, "a model failed in its process", "perhaps"
    TUNING = 14, "tuning cannot be stored"
    IDENTITY = 15, "an identity cannot be used", "no"
    ANSWERS = 16, "wrong golden answers", "no"
    ADDRESS = 17, "an address cannot be listened on", "yes"
    STUCK = 18, "an inference did not come back", "yes"
    STORE = 20, "a store of versions cannot be used, or is in use"
    DISK = 21, "no room for an update, or the disk cannot be written"
    DESCRIPTORS = 22, "too few file descriptors", "no"
    SIGNATURE = 25, "a bundle is not signed by a key that the store trusts"
    INTERRUPTED = 130, "interrupted"


def permanent(table: Iterable[ExitCode] = DeviceExit) -> list[ExitCode]:
    """The codes after which a server meets the same again, however often it is started."""
    return [code for code in table if code.restart == "no"]


def exit_codes_text(table: Iterable[ExitCode] = DeviceExit) -> str:
    """The table as a help text shows it."""
    # by number, the host's among the device's
    rows = [f"  {code:>3}  {code.meaning}" for code in sorted(table)]
    return "\n".join(["Exit codes:", *rows])


class DeviceError(Exception):
    """Above all errors of the device's code that a user can act on; `exit_code` is what a command
    that meets it ends with.
    """

    exit_code: ExitCode = DeviceExit.FAILED


class BundleError(DeviceError):
    """A bundle is missing, incomplete, of an unknown schema, or one of its files is not what the
    manifest says.
    """

    exit_code = DeviceExit.BUNDLE


class RuntimeMissing(DeviceError):
    """No TFLite runtime is installed, or it cannot work with the numpy beside it, or with the
    TensorFlow that was imported before it; or no grpcio.
    """

    exit_code = DeviceExit.RUNTIME


class InputError(DeviceError, ValueError):
    """A file or an array cannot be used as a model's input."""

    exit_code = DeviceExit.INPUT


class InputTooLarge(InputError):
    """A file is more than one request may bring: what was `found`, and what is `allowed`."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"got {found}; expected {allowed}")
        self.found = found
        self.allowed = allowed


class DecoderMissing(DeviceError, RuntimeError):
    """The package that decodes such files is not installed here; the file may well be right."""

    exit_code = DeviceExit.INPUT


class MemoryShort(DeviceError):
    """A model, or a server, needs more memory than there is."""

    exit_code = DeviceExit.MEMORY


class ModelFailed(DeviceError):
    """A model cannot be loaded or run; or the process that ran it crashed, was refused memory, or
    was not done in time.
    """

    exit_code = DeviceExit.MODEL


class TuneError(DeviceError):
    """The record cannot be written, or another process is tuning."""

    exit_code = DeviceExit.TUNING


class IdentityError(DeviceError):
    """The files of an identity are missing, no certificates, or a key that others can read."""

    exit_code = DeviceExit.IDENTITY


class WrongAnswers(DeviceError):
    """A model runs on this device, and does not answer the golden input as the exporting machine
    did.
    """

    exit_code = DeviceExit.ANSWERS


class AddressError(DeviceError):
    """An address cannot be listened on."""

    exit_code = DeviceExit.ADDRESS


class StoreError(DeviceError):
    """The folder is no store of versions, another process changes it, or it has no such version."""

    exit_code = DeviceExit.STORE


class SignatureError(DeviceError):
    """A bundle has no signature of a key that the store trusts, or none can be checked here."""

    exit_code = DeviceExit.SIGNATURE


class DiskError(DeviceError):
    """Too little room for an update, or the disk cannot be written."""

    exit_code = DeviceExit.DISK


class DescriptorsShort(DeviceError):
    """The process may open too few files."""

    exit_code = DeviceExit.DESCRIPTORS
