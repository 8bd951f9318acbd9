"""A stand-in for systemctl on a machine of `ssh_pis.py`: it reads units from /etc/systemd/system
and really starts what they say, with their environment and credentials; not their users, limits
and namespaces.

    python3 fake_systemctl.py FOLDER COMMAND... (FOLDER: of its states, logs and credentials)
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

UNITS = Path("/etc/systemd/system")


def main(folder: Path, words: list[str]) -> int:
    with open(folder / "calls", "a") as calls:
        calls.write(f"{' '.join(words)}\n")
    command, name = words[0], words[-1]
    state = folder / f"{name}.json"
    if command == "restart":
        return restart(folder, name, state)
    now = json.loads(state.read_text()) if state.is_file() else {"pid": 0, "invocation": ""}
    if command == "is-active":
        print("active" if lives(now["pid"]) else "failed" if now["pid"] else "inactive")
    elif command == "show":
        print(now["invocation"])
    return 0


def restart(folder: Path, name: str, state: Path) -> int:
    if state.is_file():
        end(json.loads(state.read_text())["pid"])
    credentials = folder / f"credentials-{name}"
    shutil.rmtree(credentials, ignore_errors=True)
    credentials.mkdir(mode=0o700)
    command, environment = [], dict(os.environ)
    for line in (UNITS / name).read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "ExecStart":
            command = [word.replace("%d", str(credentials)) for word in shlex.split(value)]
        elif key == "Environment":
            pairs = [word.partition("=") for word in shlex.split(value)]
            environment |= {one: text.replace("%C", "/var/cache") for one, _, text in pairs}
        elif key == "LoadCredential":
            one, _, file = value.partition(":")
            shutil.copy(file, credentials / one)
            (credentials / one).chmod(0o600)

    with open(folder / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    state.write_text(json.dumps({"pid": process.pid, "invocation": uuid.uuid4().hex}))
    return 0


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def end(pid: int) -> None:
    if lives(pid):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 20
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
