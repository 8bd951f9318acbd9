"""Runs the commands of a machine, and says of one that failed why, and what to do next."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from edvit_tf.errors import PushFailed
from edvit_tf.operate.deploy.commands import Command
from edvit_tf.operate.deploy.on_device import REFUSED

_CANNOT_CONNECT = 255  # ssh's own code
_TOO_LONG = 124  # of `timeout`, which ends a command there
_WORDS = 600  # of what a command said, that are told
# sudo's own trouble with the machine's name, which keeps it from nothing
_NOISE = re.compile(r"sudo: unable to resolve host\b.*")


class StepFailed(PushFailed):
    """A step of a machine failed; the message says why, and the next thing to do."""


# What ssh, sudo, rsync and pip say, and what to do then. {host} is what ssh is given, {words} what
# was said.
_KNOWN = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "another host key than before. If the machine was set up again, forget the old one: "
        "ssh-keygen -R {name}; then log in once: ssh {host}. If not, somebody else answers there",
    ),
    (
        "Host key verification failed",
        "its host key is not known here. Log in once and compare it: ssh {host}; or take what "
        "answers now, with --accept-new-hosts",
    ),
    (
        # not "(13)", which is of a file
        r"Permission denied \([a-z]",
        "ssh lets nobody in without a password. Bring your key there: ssh-copy-id {host}",
    ),
    (
        "Could not resolve hostname",
        "no such name in this network. Is the machine on, is the name right? Write ssh = "
        '"USER@ADDRESS" in devices.toml',
    ),
    ("Connection refused", "no ssh server there. On the machine: sudo systemctl enable --now ssh"),
    (
        "Connection timed out|No route to host|Network is unreachable|timed out during banner",
        "not reached. Is it on, and in this network? Then run the same command again",
    ),
    (
        "sudo: .*(password is required|a terminal is required)",
        'sudo asks for a password there. Let it not (on the machine: echo "$USER ALL=(ALL) '
        'NOPASSWD: ALL" | sudo tee /etc/sudoers.d/edvit), or write ssh = "root@..." in '
        "devices.toml",
    ),
    (
        "sudo: (not found|command not found)|sudo: No such file",
        'there is no sudo. Write ssh = "root@..." in devices.toml',
    ),
    (
        "No space left on device|Errno 28|Disk quota exceeded|MiB free; this version needs",
        "the disk is full. Make room there (ssh {host} df -h); what ran before still runs. Then "
        "run the same command again",
    ),
    (
        "Read-only file system|Errno 30",
        "its disk is read-only, as a card is that wears out, or after an error. Look: ssh {host} "
        "sudo dmesg; then start it again, or change the card",
    ),
    (
        r"(rsync|scp|mkdir|dest open).*Permission denied",
        "the home of who logs in cannot be written. Let it (ssh {host} ls -ld . "
        "edvit-deploy), or log in as another user: ssh = in devices.toml",
    ),
    (
        "ensurepip is not available|No module named venv",
        "Python there cannot make environments. Run: ssh {host} sudo apt-get install -y "
        "python3-venv",
    ),
    (
        "python3: (not found|command not found)|python3: No such file",
        "there is no python3. Run: ssh {host} sudo apt-get install -y python3-venv",
    ),
    (
        "No matching distribution found|Could not find a version|Temporary failure in name",
        "pip does not find a package. Is the machine online? Else bring all of them along: "
        "--wheels FOLDER (docs/howto/deploy.md says how to fill it)",
    ),
)


def run(host: str, commands: Sequence[Command]) -> str:
    """Runs commands one after the other; what the last one printed. Raises StepFailed at the first
    that failed.
    """
    said = ""
    for command in commands:
        said = _run(host, command)
    return said


def answer(host: str, command: Command) -> dict:
    """What an action of `on_device.py` answers. Raises StepFailed."""
    said = _run(host, command)
    try:
        found = json.loads(said.strip().splitlines()[-1])
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found
    except (ValueError, IndexError, RecursionError):
        raise StepFailed(
            f"{host} answered {said[:200]!r}. A login there prints words of its own; let it print "
            f"none without a terminal (ssh {host} true shows them)."
        ) from None


def _run(host: str, command: Command) -> str:
    given = {"stdin": subprocess.DEVNULL} if command.stdin is None else {"input": command.stdin}
    try:
        done = subprocess.run(
            command.words, capture_output=True, timeout=command.seconds, check=False, **given
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(
            f"not done after {command.seconds:g} s. Look what keeps it: ssh {host}; then run the "
            "same command again."
        ) from None
    except OSError as error:
        raise PushFailed(
            f"{command.words[0]} cannot be run here ({error}). Run: sudo apt-get install "
            "openssh-client rsync"
        ) from error

    out = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace") + "\n" + out
        raise StepFailed(why(host, command.words[0], done.returncode, said))
    return out


def why(host: str, program: str, code: int, said: str) -> str:
    """A sentence on a command that failed, and the next thing to do."""
    lines = [line for line in said.splitlines() if line.strip() and not _NOISE.match(line)]
    said = "\n".join(lines)
    words = said[-_WORDS:]
    for pattern, sentence in _KNOWN:
        if re.search(pattern, said):
            name = host.rpartition("@")[2]
            first = next((line for line in lines if re.search(pattern, line)), "")
            told = sentence.format(host=host, name=name)
            return f"{told}. ({first.strip()[:200]})"
    if code == REFUSED:
        # flock itself says nothing
        return words or (
            "another `edvit deploy` is at work there, or what is left of one that was broken off; "
            "that ends by itself. Run the same command again then."
        )
    if code == _TOO_LONG:
        return f"not done in its time. Look what keeps it: ssh {host}. {words}"
    if code == _CANNOT_CONNECT and program in ("ssh", "scp"):
        return f"the connection failed: {words}. Try: ssh {host}"
    return f"{program} ended with {code}: {words}"


def has_rsync() -> bool:
    """Whether this machine has it."""
    return sys.platform != "win32" and shutil.which("rsync") is not None
