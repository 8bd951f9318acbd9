"""Errors that a user can act on, each with the exit code of the command that meets it.

Every message gives the value seen, the rule broken and the next thing to do. The device side has
its own errors (`edvit_tf.device.model.bundle.BundleError`), because it imports nothing from here.
"""


class EdvitError(Exception):
    """Base of all errors that are the user's to mend; `exit_code` is what the command line
    returns.
    """

    exit_code = 1


class ConfigError(EdvitError):
    """A configuration value is missing, unknown, of the wrong type or out of range."""

    exit_code = 3


class DataError(EdvitError):
    """A data set is missing, has another layout, or holds too many unreadable files."""

    exit_code = 4


class PlanError(EdvitError):
    """No plan fits the devices and budgets; the message names the constraint that failed."""

    exit_code = 5


class OutputError(EdvitError):
    """The output exists already, cannot be written, or the disk has not enough room."""

    exit_code = 6


class ExportError(EdvitError):
    """A .tflite file cannot be made or run, or does not answer as its Keras model does."""

    exit_code = 11


class AccuracyError(EdvitError):
    """The fused model misses the accuracy that was required of it (A_re of Eq. 1)."""

    exit_code = 8
