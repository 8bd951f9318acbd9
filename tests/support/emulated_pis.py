"""Emulated 64-bit Raspberry Pis that are reached by ssh: each with a network namespace and a disk
of its own over one root file system (`netlab.sh`, `pi_rootfs.sh`).

Real there, and of arm64: sshd, the shell, rsync, Python, venv, pip, the wheels, and the processes
that a unit starts. A stand-in: `systemctl` (`fake_systemctl.py`), as no systemd runs there.
`systemd_machine.py` is a machine with a real one.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import fake_systemctl
from tests.support.netlab import DEVICE, NETLAB
from tests.support.pi_machine import SCRIPT, environment

# pip's compiling of what is never run takes an emulated Pi as long as all else
SSHD = """\
Port 22
ListenAddress {address}
HostKey /share/host_key
AuthorizedKeysFile /share/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
SetEnv PATH=/share/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_NO_COMPILE=1 LANG=C.UTF-8
"""
SYSTEMCTL = '#!/bin/sh\nexec python3 -I /share/fake_systemctl.py /share/run "$@"\n'
JOURNAL = '#!/bin/sh\nfor name; do :; done\nexec tail -n 6 "/share/run/$name.log"\n'


@dataclass
class EmulatedPi:
    """One of them; `processes` are of its sshd."""

    number: int  # from 1, as the network has them
    folder: Path
    root: Path
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"pi-{self.number - 1}"

    @property
    def address(self) -> str:
        return DEVICE.format(self.number)

    def start(self) -> None:
        command = [NETLAB, "exec", f"dev{self.number}", SCRIPT, "run", self.root]
        command += [self.folder / "share", "/usr/sbin/sshd", "-D", "-e", "-f", "/share/sshd_config"]
        with open(self.folder / "sshd.log", "ab") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                env={**environment(), "PI_DISK": str(self.folder / "disk")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection((self.address, 22), 1).close()
                return
            said = (self.folder / "sshd.log").read_text()
            if process.poll() == 77:
                pytest.skip(said.strip().splitlines()[-1])
            assert process.poll() is None, said
            time.sleep(0.1)
        raise AssertionError("sshd does not answer")

    def started(self) -> list[str]:
        """What `systemctl` was asked to do to a unit, in order."""
        calls = self.folder / "share" / "run" / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in lines if line.split()[0] not in ("is-active", "show")]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


def make_emulated_pis(folder: Path, root: Path, count: int) -> tuple[list[EmulatedPi], Path]:
    """Pis that are not started, and the file for `ssh -F`; the network is up."""
    _keygen(folder / "key")
    pis, known = [], []
    for number in range(1, count + 1):
        pi = EmulatedPi(number, folder / f"pi-{number - 1}", root)
        share = pi.folder / "share"
        (share / "run").mkdir(parents=True)
        (share / "bin").mkdir()
        _keygen(share / "host_key")
        shutil.copy(folder / "key.pub", share / "authorized_keys")
        shutil.copy(fake_systemctl.__file__, share)
        (share / "sshd_config").write_text(SSHD.format(address=pi.address))
        for name, text in {"systemctl": SYSTEMCTL, "journalctl": JOURNAL}.items():
            (share / "bin" / name).write_text(text)
            (share / "bin" / name).chmod(0o755)
        known.append(f"{pi.address} {(share / 'host_key.pub').read_text()}")
        pis.append(pi)

    (folder / "known_hosts").write_text("".join(known))
    config = ["Host *", f"  IdentityFile {folder}/key", "  IdentitiesOnly yes"]
    config += [f"  UserKnownHostsFile {folder}/known_hosts"]
    (folder / "ssh_config").write_text("\n".join(config) + "\n")
    return pis, folder / "ssh_config"


@contextlib.contextmanager
def ended(pis: list[EmulatedPi]) -> Iterator[None]:
    """Ends what is left of them; their other processes go with the network."""
    try:
        yield
    finally:
        for pi in pis:
            pi.end()


def _keygen(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
