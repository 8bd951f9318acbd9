"""A machine with a real systemd, journal, sudo and sshd, in namespaces on this machine
(`systemd_machine.sh`): over this machine's own disk, which it does not change, or over a tree of
another release:

    mmdebstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3,python3-venv,\
openssh-server,sudo,rsync trixie /var/tmp/trixie
    EDVIT_SYSTEMD_TREE=/var/tmp/trixie python -m pytest ...
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.netlab import DEVICE, NETLAB, network
from tests.support.ssh_pis import nothing_starts, openssh_and_rsync

SCRIPT = Path(__file__).parent / "systemd_machine.sh"
CANNOT = 77  # exit code of scripts that this machine cannot run
SETUP = """\
set -e
if [ ! -e /etc/ssh/edvit_key ]; then rm -rf /etc/systemd/system/*.wants; fi
mkdir -p /etc/systemd/system/multi-user.target.wants /home/me/.ssh /run/sshd
echo "127.0.0.1 localhost $1" > /etc/hosts
id me > /dev/null 2>&1 || useradd -M -d /home/me -s /bin/sh me
echo 'me ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/edvit
echo '{key}' > /home/me/.ssh/authorized_keys
echo '{host_key}' > /etc/ssh/edvit_key
chmod 600 /etc/ssh/edvit_key
chown -R me /home/me
cat > /etc/ssh/edvit_config << 'END'
UsePAM yes
HostKey /etc/ssh/edvit_key
PasswordAuthentication no
END
cat > /etc/systemd/system/edvit-sshd.service << 'END'
[Service]
RuntimeDirectory=sshd
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/edvit_config
END
ln -sf ../edvit-sshd.service /etc/systemd/system/multi-user.target.wants
"""


@dataclass
class SystemdMachine:
    """It is up."""

    folder: Path
    process: subprocess.Popen
    address: str
    ssh_config: Path
    python: str  # version, as 3.11

    def run(self, *words: str, check: bool = True, timeout: float = 120) -> str:
        """What a command of root there prints, errors too."""
        command = ["nsenter", "--target", str(self._first()), "--all", "--", *words]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, (words, done.returncode, done.stdout)
        return done.stdout.strip()

    def shows(self, unit: str) -> dict[str, str]:
        """What systemd says of a unit."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit).splitlines())

    def log(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", unit)

    def power_cut(self) -> None:
        """Every process there ends at once; it boots again."""
        os.kill(self._first(), signal.SIGKILL)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        end = time.monotonic() + 120
        said = ""
        while time.monotonic() < end:
            if self.process.poll() == CANNOT:
                pytest.skip((self.folder / "log").read_text().strip().splitlines()[-1])
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(StopIteration, OSError, subprocess.TimeoutExpired):
                said = self.run("systemctl", "is-active", "edvit-sshd", check=False, timeout=20)
                if said == "active":
                    return
            time.sleep(0.2)
        raise AssertionError(f"{said}; {(self.folder / 'log').read_text()}")

    def _first(self) -> int:
        """Its first process, as this machine numbers it. Raises StopIteration between boots."""
        [pid] = [self.process.pid]
        while True:
            # unshare, for each of its namespaces, and then what it runs
            pid = next(map(int, _children(pid)))
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return pid


def _children(pid: int) -> Iterator[str]:
    return iter(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@contextlib.contextmanager
def systemd_machine(folder: Path, name: str = "pi") -> Iterator[SystemdMachine]:
    """The machine and a network to it; it is asked as me@, whose sudo asks for nothing. Skips with
    the reason where this machine cannot.
    """
    tree = Path(os.environ.get("EDVIT_SYSTEMD_TREE", "/"))
    openssh_and_rsync()
    if tree == Path("/"):
        _installed()
    for own in ("root", "written"):
        (folder / own).mkdir()
    for key in ("key", "host_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True
        )
    values = {
        "key": (folder / "key.pub").read_text().strip(),
        "host_key": (folder / "host_key").read_text().strip(),
    }
    (folder / "setup").write_text(SETUP.format(**values))
    address = DEVICE.format(1)
    (folder / "known_hosts").write_text(f"{address} {(folder / 'host_key.pub').read_text()}")
    config = ["Host *", "  User me", f"  IdentityFile {folder}/key", "  IdentitiesOnly yes"]
    config += [f"  UserKnownHostsFile {folder}/known_hosts"]
    (folder / "ssh_config").write_text("\n".join(config) + "\n")

    (folder / "power").touch()
    with network(1, "none", 0), open(folder / "log", "wb") as log:
        command = [NETLAB, "exec", "dev1", SCRIPT, tree, folder, name]
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        machine = SystemdMachine(folder, process, address, folder / "ssh_config", _python(tree))
        try:
            machine.wait_until_up()
            yield machine
        finally:
            (folder / "power").unlink()
            with contextlib.suppress(StopIteration, OSError):
                os.kill(machine._first(), signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def _python(tree: Path) -> str:
    target = os.readlink(tree / "usr/bin/python3")
    found = re.fullmatch(r"python(3\.\d+)", target)
    assert found, target
    return found[1]


def _installed() -> None:
    """systemd and sudo on this machine's own disk, where they can be had; nothing is started."""
    programs = {"systemd": "/lib/systemd/systemd", "dbus": "/usr/bin/dbus-daemon"}
    programs |= {"sudo": "/usr/bin/sudo", "python3-venv": "/usr/bin/python3"}
    missing = [name for name, file in programs.items() if not Path(file).exists()]
    if missing and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        with nothing_starts():
            subprocess.run(install, capture_output=True, timeout=300, check=False)
    missing = [name for name, file in programs.items() if not Path(file).exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} cannot be had")
