"""Errors that a user can act on, each with the exit code of the command that meets it.

Every message gives the value seen, the rule broken and the next thing to do. The device's code has
a tree of its own (`edvit_tf.device.errors`), because it imports nothing from here. Every `main` of
the host catches EdvitError, DeviceError and KeyboardInterrupt; anything else is a fault of ours.
"""

import enum

from edvit_tf.device.errors import DeviceExit, ExitCode


@enum.unique
class HostExit(ExitCode):
    """The codes that recipes and `edvit` have beside those of the device, which they pass on."""

    CONFIG = 3, "a configuration value cannot be used", "no"
    DATA = 4, "a data set cannot be used"
    PLAN = 5, "no plan fits the devices and budgets"
    OUTPUT = 6, "an output is there already, is damaged, or cannot be written"
    ACCURACY = 8, "the accuracy is below --min-accuracy"
    EXPORT = 11, "a .tflite file cannot be made, or disagrees with its Keras model"
    REQUEST = 19, "an aggregator is not there, or refused"
    PUSH = 23, "a bundle could not be brought to a device"
    TRAINING = 24, "a fit went astray: its loss is no number"
    HUB = 26, "the hub did not answer or refused, or what it has cannot be used"
    SOURCE = 27, "a camera, a microphone or a folder that is watched is not there"
    CLUSTER = 28, "no Ray cluster is there, or its nodes cannot do the work"


EXIT_CODES: tuple[ExitCode, ...] = tuple(sorted((*DeviceExit, *HostExit)))


class EdvitError(Exception):
    """Above all errors of the host's code that are the user's to mend; `exit_code` is what the
    command line returns.
    """

    exit_code: ExitCode = DeviceExit.FAILED


class ConfigError(EdvitError):
    """A configuration value is missing, unknown, of the wrong type or out of range."""

    exit_code = HostExit.CONFIG


class DataError(EdvitError):
    """A data set is missing, has another layout, or holds too many unreadable files."""

    exit_code = HostExit.DATA


class PlanError(EdvitError):
    """No plan fits the devices and budgets; the message names the constraint that failed."""

    exit_code = HostExit.PLAN


class OutputError(EdvitError):
    """The output exists already, cannot be written, or the disk has not enough room."""

    exit_code = HostExit.OUTPUT


class TrainingError(EdvitError):
    """A fit's loss, its weights or a model's answers became NaN or infinite."""

    exit_code = HostExit.TRAINING


class AccuracyError(EdvitError):
    """The fused model misses the accuracy that was required of it (A_re of Eq. 1)."""

    exit_code = HostExit.ACCURACY


class ExportError(EdvitError):
    """A .tflite file cannot be made or run, or does not answer as its Keras model does."""

    exit_code = HostExit.EXPORT


class FlavourError(ExportError):
    """The files of one flavour do not run, or answer otherwise than float32."""

    def __init__(self, flavour: str, words: str) -> None:
        what = f"Leave out flavour {flavour}."
        # the one that no bundle is without
        if flavour == "float32":
            what = "Take another version of that runtime, or another --target."
        super().__init__(f"{words} {what}")
        self.flavour = flavour


class RequestFailed(EdvitError):
    """An aggregator is not there, or refused a request; `status` is the name of gRPC's, or "" for
    reasons that no other request would change.
    """

    exit_code = HostExit.REQUEST

    def __init__(self, words: str, status: str = "") -> None:
        super().__init__(words)
        self.status = status


class PushFailed(EdvitError):
    """The bundle could not be brought to the device, or the command did not run there."""

    exit_code = HostExit.PUSH


class HubError(EdvitError):
    """The Hugging Face hub did not answer, refused, or has something that cannot be used."""

    exit_code = HostExit.HUB


class SourceError(EdvitError):
    """A camera, a microphone or a folder is not there, or nothing more can come from it."""

    exit_code = HostExit.SOURCE


class ClusterError(EdvitError):
    """No cluster answers at the address, or its nodes cannot do the work."""

    exit_code = HostExit.CLUSTER


class ServerEnded(EdvitError):
    """A worker or an aggregator that a command had started ended before its time; the command ends
    with the server's own code, or with 1 where that was 0: somebody else had stopped it.
    """

    def __init__(self, name: str, code: int, words: str) -> None:
        super().__init__(f"{name} ended with {code}: {words}")

        known = {int(member): member for member in EXIT_CODES}
        self.exit_code = known.get(code or DeviceExit.FAILED, DeviceExit.FAILED)
