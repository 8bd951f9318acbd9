"""Machines that are reached by a real ssh: an sshd on loopback for each, in a mount namespace with
/opt, /etc/systemd/system, /var/cache and /run of its own; a login begins in a folder of its own.

Real: ssh, sshd, rsync, the shell, Python, venv, pip, the wheel, files and processes. Stand-ins,
first on the PATH there: `sudo` (writes down what it is given, and runs it; we are root),
`systemctl` (`fake_systemctl.py`), `journalctl`. The packages that edvit_tf needs are those of the
tests, on PYTHONPATH, and pip installs the wheel alone: no index is asked.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import fake_systemctl
from tests.support.ports import free_port

OWN = {"opt": "/opt", "units": "/etc/systemd/system", "cache": "/var/cache"}
POLICY = Path("/usr/sbin/policy-rc.d")  # 101: a package's scripts may start nothing
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
ForceCommand cd {folder}/home && exec sh -c "$SSH_ORIGINAL_COMMAND"
SetEnv PATH={folder}/bin:/usr/bin:/bin PYTHONPATH={packages} PIP_NO_DEPS=1 PIP_NO_INDEX=1
"""
SUDO = """#!/bin/sh
echo "$*" >> {folder}/run/sudo
[ "$1" = -n ] || exit 9
shift
exec "$@"
"""
SYSTEMCTL = """#!/bin/sh
exec {python} {script} {folder}/run "$@"
"""
JOURNAL = """#!/bin/sh
for name; do :; done
exec tail -n 6 {folder}/run/$name.log
"""


@dataclass
class Pi:
    """One machine; `process` is its sshd."""

    name: str
    folder: Path
    ssh_port: int
    port: int  # of its worker; its pages are a thousand above
    process: subprocess.Popen | None = None

    def start(self, disk: str = "") -> None:
        """Its sshd; `disk` is the size of /opt, e.g. 4m (none: that of this machine)."""
        mounts = [f"mount --bind {self.folder}/{own} {place}" for own, place in OWN.items()]
        if disk:
            mounts.append(f"mount -t tmpfs -o size={disk} tmpfs /opt")
        # sshd's own folder, and the lock of `edvit deploy`
        mounts += ["mount -t tmpfs tmpfs /run", "mkdir -m 755 /run/sshd"]
        script = " && ".join([*mounts, f"exec {sshd()} -D -e -f {self.folder}/sshd_config"])
        with open(self.folder / "sshd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.ssh_port), 1).close()
                return
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            time.sleep(0.05)
        raise AssertionError("sshd does not answer")

    def stop(self) -> None:
        """Its sshd alone."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def pids(self) -> dict[str, int]:
        """The process of each unit that was started."""
        files = (self.folder / "run").glob("*.json")
        return {file.stem: json.loads(file.read_text())["pid"] for file in files}

    def end(self) -> None:
        self.stop()
        for pid in self.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def sshd() -> str:
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or ""


def make_pis(folder: Path, count: int) -> tuple[list[Pi], Path]:
    """Machines that are not started, and the file for `ssh -F` that knows them as pi-0, pi-1 ..."""
    _skip_without_what_is_needed()
    packages = _packages(folder / "packages")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True
    )
    pis, known, config = [], [], []
    for number in range(count):
        pi = Pi(f"pi-{number}", folder / f"pi-{number}", free_port(1000), free_port())
        _furnish(pi, packages, folder)
        pis.append(pi)
        key = (pi.folder / "host_key.pub").read_text()
        known.append(f"[127.0.0.1]:{pi.ssh_port} {key}")
        config += [f"Host {pi.name}", f"  Port {pi.ssh_port}"]
    config += ["Host *", "  HostName 127.0.0.1", "  User root", "  IdentitiesOnly yes"]
    config += [f"  IdentityFile {folder}/key", f"  UserKnownHostsFile {folder}/known_hosts"]
    (folder / "known_hosts").write_text("".join(known))
    (folder / "ssh_config").write_text("\n".join(config) + "\n")
    return pis, folder / "ssh_config"


def _furnish(pi: Pi, packages: Path, folder: Path) -> None:
    for name in (*OWN, "home", "run", "bin"):
        (pi.folder / name).mkdir(parents=True)
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", pi.folder / "host_key"]
    subprocess.run(keygen, check=True)
    shutil.copy(folder / "key.pub", pi.folder / "authorized_keys")
    values = {"folder": pi.folder, "packages": packages, "port": pi.ssh_port}
    values |= {"python": sys.executable, "script": fake_systemctl.__file__}
    (pi.folder / "sshd_config").write_text(CONFIG.format(**values))
    programs = {"sudo": SUDO, "systemctl": SYSTEMCTL, "journalctl": JOURNAL}
    for name, text in programs.items():
        (pi.folder / "bin" / name).write_text(text.format(**values))
        (pi.folder / "bin" / name).chmod(0o755)
    (pi.folder / "bin" / "python3").symlink_to(Path(sys.executable).resolve())


def _packages(folder: Path) -> Path:
    """All that is installed beside the tests, but edvit_tf and what installs."""
    folder.mkdir(parents=True)
    left_out = ("edvit", "__editable__", "pip", "setuptools", "_distutils_hack", "wheel")
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not path.name.startswith(left_out) and path.suffix not in (".pth", ".egg-link"):
            (folder / path.name).symlink_to(path)
    return folder


def openssh_and_rsync() -> None:
    """Skips where they are not there and cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("machines of their own need root")
    if not (sshd() and shutil.which("rsync")) and shutil.which("apt-get"):
        with nothing_starts():
            wanted = ["openssh-server", "rsync"]
            install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]
            subprocess.run(install, capture_output=True, timeout=300, check=False)
    if not sshd() or not shutil.which("rsync"):
        pytest.skip("openssh-server or rsync cannot be had")


def _skip_without_what_is_needed() -> None:
    openssh_and_rsync()
    hidden = tuple(f"{place}/" for place in OWN.values())
    if str(Path(sys.executable).resolve()).startswith(hidden):
        pytest.skip(f"{sys.executable} lies where the machines have folders of their own")
    probe = ["unshare", "--mount", "--propagation", "private", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("mount namespaces are not permitted")


@contextlib.contextmanager
def nothing_starts() -> Iterator[None]:
    """An installed package would start its server, here on port 22 of this machine."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
