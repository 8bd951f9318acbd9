"""The commands of `edvit deploy`, as pure functions: what ssh, rsync and scp are given, each word
quoted for the shell at the other end.

`--dry-run` prints them, `session.py` runs them.
"""

import io
import json
import shlex
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edvit_tf.operate.deploy import on_device

AGENT = Path(on_device.__file__)
_PUSHED = "edvit-push-{}"  # in the home of who logs in
_SENT = "edvit-deploy"  # there too
_LOCK = "/run/edvit-deploy.lock"  # held by what changes a machine


@dataclass(frozen=True)
class Ssh:
    """How a machine is reached."""

    target: str
    config: Path | None = None
    accept_new: bool = False

    @property
    def options(self) -> list[str]:
        """Nothing is ever asked, and nothing waits for ever."""
        words = [] if self.config is None else ["-F", str(self.config)]
        words += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        words += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        if self.accept_new:
            words += ["-o", "StrictHostKeyChecking=accept-new"]
        return words

    @property
    def copied_to(self) -> str:
        """As rsync and scp are given it: an address of IPv6 in brackets."""
        user, at, host = self.target.rpartition("@")
        return f"{user}{at}[{host}]" if ":" in host and host[0] != "[" else self.target

    @property
    def sudo(self) -> list[str]:
        return [] if self.target.startswith("root@") else ["sudo", "-n"]


@dataclass(frozen=True)
class Command:
    """A program of this machine with its words; `stdin` is what it reads, `shown` how that is
    printed.
    """

    words: list[str]
    seconds: float  # the most that it may take
    stdin: bytes | None = field(default=None, repr=False)
    shown: str = ""

    def text(self) -> str:
        """As a shell would be given it."""
        return shlex.join(self.words) + (f" < {self.shown}" if self.shown else "")


def remote(ssh: Ssh, text: str, seconds: float, **stdin: Any) -> Command:
    """A text for the shell of the machine."""
    return Command(["ssh", *ssh.options, "--", ssh.target, text], seconds, **stdin)


def as_root(ssh: Ssh, words: Sequence[str], seconds: float, **stdin: Any) -> Command:
    """A command of the machine, as root; one at a time there. It ends in its time by itself: where
    ssh is broken off, nobody else ends it.
    """
    alone = ["timeout", f"{seconds:g}", "flock", "-n", "-E", str(on_device.REFUSED), _LOCK]
    return remote(ssh, shlex.join([*ssh.sudo, *alone, *words]), seconds, **stdin)


def agent(ssh: Ssh, action: str, asked: dict, seconds: float) -> Command:
    """An action of `on_device.py`."""
    # -I: nothing in the home of who logs in is imported by root
    words = ["python3", "-I", "-", action, json.dumps(asked, sort_keys=True)]
    return as_root(ssh, words, seconds, stdin=AGENT.read_bytes(), shown=AGENT.name)


def copies(
    ssh: Ssh, files: Sequence[Path], folder: str, seconds: float, rsync: bool
) -> list[Command]:
    """Copies files into a folder of the home there: by rsync, which goes on where it broke off, or
    by scp.
    """
    sources = [str(file.absolute()) for file in files]
    if rsync:
        shell = shlex.join(["ssh", *ssh.options])
        words = ["rsync", "--archive", "--partial", "-e", shell, *sources]
        return [Command([*words, f"{ssh.copied_to}:{folder}/"], seconds)]
    made = remote(ssh, shlex.join(["mkdir", "-p", folder]), 60)
    words = ["scp", "-q", "-p", "-r", *ssh.options, *sources]
    return [made, Command([*words, f"{ssh.copied_to}:{folder}/"], seconds)]


def package_commands(
    ssh: Ssh, wheel: Path, wheels: Path | None, environment: str, link: str, extra: str, rsync: bool
) -> list[Command]:
    """Sends the wheel, makes the environment, installs; the marker comes last."""
    sent = [wheel] if wheels is None else [wheel, wheels]
    pip = [f"{environment}/bin/pip", "install", "-q", "--disable-pip-version-check"]
    if wheels is not None:
        pip += ["--no-index", "--find-links", f"{_SENT}/{wheels.name}"]
    pip.append(f"./{_SENT}/{wheel.name}[{extra}]")

    place, marker = shlex.quote(environment), shlex.quote(f"{environment}/{on_device.MARKER}")
    name = shlex.quote(link)
    script = "; ".join(
        [
            "set -e",
            # servers run as users of their own
            "umask 022",
            # of one that broke off
            f"rm -rf {place}",
            shlex.join(["python3", "-I", "-m", "venv", environment]),
            shlex.join(pip),
            shlex.join([f"{environment}/bin/python", "-P", "-m", "edvit_tf.device", "--version"]),
            # an environment that somebody made by hand stays
            f"if [ -L {name} ] || [ ! -e {name} ]; then ln -sfn {place} {name}; fi",
            f"echo {shlex.quote(json.dumps({'extra': extra}))} > {marker}",
            "sync",
        ]
    )
    # pip would otherwise keep what it fetched in the home of root
    env = ["env", "PIP_NO_CACHE_DIR=1", "PIP_ROOT_USER_ACTION=ignore"]
    made = as_root(ssh, [*env, "sh", "-c", script], 1800)
    return [*copies(ssh, sent, _SENT, 1800, rsync), made]


def identity_command(ssh: Ssh, source: Path, folder: str) -> Command:
    """Brings an identity to a folder of root; the key is never in a file that others may read."""
    place, new, old = (shlex.quote(folder + end) for end in ("", ".new", ".previous"))
    script = "; ".join(
        [
            "set -e",
            "umask 077",
            f"rm -rf {new}",
            f"mkdir -p {new}",
            f"tar -x --no-same-owner -C {new}",
            f"if [ -e {place} ]; then rm -rf {old}; mv {place} {old}; fi",
            f"mv {new} {place}",
        ]
    )
    shown = f"(tar of {source.name})"
    return as_root(ssh, ["sh", "-c", script], 60, stdin=_tar(source), shown=shown)


def bundle_commands(
    ssh: Ssh,
    files: Sequence[Path],
    digest: str,
    python: str,
    stores: dict[str, Sequence[int]],
    rsync: bool,
) -> list[Command]:
    """Sends the files of a bundle and installs them in each store, with its sub-models or (for
    none) all.
    """
    folder = _PUSHED.format(digest[:12])
    commands = copies(ssh, files, folder, 1800, rsync)
    for store, sub_models in stores.items():
        words = [python, "-P", "-m", "edvit_tf.device.update", store, "install", folder]
        words += [word for index in sub_models for word in ("--submodel", str(index))]
        commands.append(as_root(ssh, words, 900))
    commands.append(remote(ssh, shlex.join(["rm", "-r", folder]), 60))
    return commands


def file_command(ssh: Ssh, content: bytes, shown: str, target: str) -> Command:
    """Writes a file that everybody may read."""
    new = shlex.quote(f"{target}.new")
    parent = shlex.quote(str(Path(target).parent))
    script = f"set -e; umask 022; mkdir -p {parent}; cat > {new}; chmod 644 {new}; "
    script += f"mv {new} {shlex.quote(target)}"
    return as_root(ssh, ["sh", "-c", script], 60, stdin=content, shown=shown)


def _tar(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("ca.pem", "cert.pem", "key.pem"):
            content = (folder / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
