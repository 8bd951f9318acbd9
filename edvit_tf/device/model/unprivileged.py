"""A process of root's gives its rights away before it loads a model from somebody else.

A .tflite file is a program for a runtime that is not made for hostile files. So whoever tries one
as root (`sudo ... update install`) lets the child process become the user nobody first.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from edvit_tf.device.errors import ModelFailed

_NOBODY = 65534  # where there is no user of that name
_PR_SET_NO_NEW_PRIVS = 38
_UID_MAP = Path("/proc/self/uid_map")


def has_rights_to_give() -> bool:
    """Whether this is a process of root's that can become nobody."""
    if sys.platform == "win32":  # there is no such user
        return False

    user, _ = _nobody()
    # root of a container that knows one user is that user, and has nothing to give away
    return os.geteuid() == 0 and _is_mapped(user)


def become_nobody() -> None:
    """Lets a process of root's go on as nobody, for good; does nothing for another user's.

    What is open stays open; files that nobody may not read cannot be opened any more. Raises
    ModelFailed where the system does not let it.
    """
    if sys.platform == "win32" or not has_rights_to_give():
        return

    user, group = _nobody()
    try:
        os.setgroups([])
        # of root's these set the saved ones too; macOS has no setresuid
        os.setregid(group, group)
        os.setreuid(user, user)
    except OSError as error:
        raise ModelFailed(
            f"root cannot become user {user} here ({error}), as which models are tried. Give the "
            "command as another user, who may write into the store."
        ) from error

    # nor by a program that has rights of its own; a system without it is no worse than before
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _nobody() -> tuple[int, int]:
    """The user's and the group's number."""
    import pwd  # which only Unix has

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY, _NOBODY
    return entry.pw_uid, entry.pw_gid


def _is_mapped(user: int) -> bool:
    """Whether this user namespace has the user."""
    try:
        lines = _UID_MAP.read_text().splitlines()
    except OSError:
        return True

    for line in lines:
        first, _, count = map(int, line.split())
        if first <= user < first + count:
            return True

    return False
