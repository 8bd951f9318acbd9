"""What `edvit deploy` runs on a device, by the system's own Python and the standard library alone:
sent by ssh each time, so that nothing of ours has to be there.

    python3 - look|unit|restart|await|note JSON < on_device.py

Prints one line of JSON. Ends with REFUSED where it would change what is not this fleet's.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

REFUSED = 40
MARKER = "edvit-deployed.json"  # the last that is written into an environment of Python
_UNITS = Path("/etc/systemd/system")
_POLL_SECONDS = 0.3


def look(asked):
    """All that decides what is left to do, read from the disk and from systemd."""
    _refuse_others(asked["units"], asked["authorities"], asked["replace"])
    prefix = Path(asked["prefix"])
    there = next(path for path in (prefix, *prefix.parents) if path.exists())
    return {
        "machine": platform.machine(),
        # a kernel of 64 bits may run a system of 32: the kernel's name says nothing of that
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "python": list(sys.version_info[:2]),
        "venv": importlib.util.find_spec("ensurepip") is not None,
        "rsync": shutil.which("rsync") is not None,
        "systemd": shutil.which("systemctl") is not None,
        "free_bytes": shutil.disk_usage(there).free,
        "package": _package(Path(asked["environment"])),
        "stores": {store: _bundle(Path(store), files) for store, files in asked["stores"].items()},
        "identities": {folder: _digests(Path(folder)) for folder in asked["authorities"]},
        "units": {unit: _unit(unit) for unit in asked["units"]},
        "state": _state(prefix),
    }


def unit(asked):
    """Writes the unit that a command prints, unless it is there; {"changed": bool}."""
    _refuse_others({asked["unit"]: asked["store"]}, {}, asked["replace"])
    file = _UNITS / asked["unit"]
    before = file.read_text("utf-8", "replace") if file.is_file() else ""
    done = subprocess.run(asked["command"], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    text = done.stdout.decode("utf-8")
    if text != before:
        _write(file, text)
        _systemctl("daemon-reload")
    _systemctl("enable", asked["unit"])
    return {"changed": text != before, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def restart(asked):
    """Restarts a unit, waits until its server answers, and remembers what it was started with."""
    _systemctl("restart", asked["unit"])
    end = time.monotonic() + asked["seconds"]
    page = None
    while page is None:
        active = _systemctl("is-active", asked["unit"], check=False)
        page = _page(asked["health"]) if active == "active" else None
        if page is None and (active == "failed" or time.monotonic() > end):
            print(f"{asked['unit']} is {active} and does not answer", file=sys.stderr)
            _journal(asked["unit"])
            sys.exit(1)
        if page is None:
            time.sleep(_POLL_SECONDS)

    started = {name: asked[name] for name in ("key", "health", "authority", "environment")}
    started["invocation"] = _invocation(asked["unit"])
    prefix = Path(asked["prefix"])
    _note(prefix, {"serves " + asked["unit"]: started})
    _tidy(Path(asked["environment"]), _state(prefix))
    return {"status": page.get("status")}


def wait(asked):
    """Waits until an aggregator finds these devices ready; {"waiting": those that are not,
    "addresses": where it asks each, "bundle_digest": what it serves}, None where nobody answers.
    """
    end = time.monotonic() + asked["seconds"]
    while True:
        page = _page(asked["health"]) or {}
        states = {device["device"]: device["state"] for device in page.get("devices", ())}
        waiting = [name for name in asked["devices"] if states.get(name) != "ready"]
        if not waiting or time.monotonic() > end:
            found = {name: states.get(name) for name in waiting}
            addresses = {one["device"]: one.get("address") for one in page.get("devices", ())}
            digest = page.get("bundle_digest")
            return {"waiting": found, "addresses": addresses, "bundle_digest": digest}
        time.sleep(_POLL_SECONDS)


def note(asked):
    """Remembers what was done well."""
    _note(Path(asked["prefix"]), asked["state"])
    return {}


def digest_of(files):
    """A digest of files by their names: pairs of name and content."""
    lines = [f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _refuse_others(units, authorities, replace):
    """Ends where a unit serves another store than its own, or an identity is of another authority:
    before anything is changed, for they are another fleet's.
    """
    found = []
    for name, store in units.items():
        file = _UNITS / name
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        # % is systemd's in a unit, and doubled there
        if text and store.replace("%", "%%") not in text:
            words = [line for line in text.splitlines() if line.startswith("ExecStart=")]
            found.append(f"{file} exists and serves another bundle ({' '.join(words)})")
    for folder, sha256 in authorities.items():
        file = Path(folder) / "ca.pem"
        if file.is_file() and _sha256(file) != sha256:
            found.append(f"{folder} has an identity of another authority")
    if found and not replace:
        said = "; ".join(found)
        print(f"{said}; pass --replace to let this fleet have the machine", file=sys.stderr)
        sys.exit(REFUSED)


def _package(environment):
    """The digest of the edvit_tf that is installed there, by its files; None for one that is not
    whole.
    """
    if not (environment / MARKER).is_file():
        return None
    for folder in environment.glob("lib/python3*/site-packages"):
        files = [path for path in folder.glob("edvit_tf/**/*") if path.is_file()]
        kept = [path for path in files if "__pycache__" not in path.parts]
        return digest_of((path.relative_to(folder).as_posix(), path.read_bytes()) for path in kept)
    return None


def _bundle(store, files):
    """The digest of a store's current version, None where there is none, or where a file is not
    what its sha256 says, or none of a group is there: a device keeps the flavours that it runs.
    """
    current = store / "current"
    try:
        manifest = json.loads((current / "manifest.json").read_text("utf-8"))
        for name, sha256 in files["sha256"].items():
            if (current / name).exists() and _sha256(current / name) != sha256:
                return None
        for group in files["groups"]:
            if not any((current / name).exists() for name in group):
                return None
    except (OSError, ValueError):
        return None
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(folder):
    files = sorted(folder.glob("*.pem")) if folder.is_dir() else []
    return {file.name: _sha256(file) for file in files}


def _sha256(file):
    digest = hashlib.sha256()
    with open(file, "rb") as read:
        for piece in iter(lambda: read.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _unit(name):
    file = _UNITS / name
    return {
        "sha256": _sha256(file) if file.is_file() else None,
        "active": _systemctl("is-active", name, check=False),
        "invocation": _invocation(name),
    }


def _invocation(name):
    return _systemctl("show", "--property=InvocationID", "--value", name, check=False)


def _systemctl(*words, check=True):
    try:
        done = subprocess.run(
            ["systemctl", *words],
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if not check:
            return ""
        print(f"systemctl {' '.join(words)}: {error}", file=sys.stderr)
        sys.exit(1)
    if check and done.returncode != 0:
        sys.exit(1)
    return done.stdout.decode("utf-8", "replace").strip()


def _journal(name):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["journalctl", "--no-pager", "-o", "cat", "-n", "6", "-u", name],
            stdout=sys.stderr.fileno(),
            timeout=20,
            check=False,
        )


def _page(url):
    """The JSON of a health page, of whichever status; None where nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return json.loads(answer.read().decode())
    except urllib.error.HTTPError as error:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(error.read().decode())
    except (OSError, ValueError):
        pass
    return None


def _state_file(prefix):
    return prefix / "edvit-deploy" / "state.json"


def _state(prefix):
    try:
        state = json.loads(_state_file(prefix).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _note(prefix, changes):
    file = _state_file(prefix)
    file.parent.mkdir(parents=True, exist_ok=True)
    state = _state(prefix)
    state.update(changes)
    _write(file, json.dumps(state, indent=1) + "\n")


def _write(file, text):
    """The whole file, or the old one."""
    new = file.with_name(file.name + ".new")
    with open(new, "w", encoding="utf-8") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    os.chmod(new, 0o644)
    os.replace(new, file)


def _tidy(environment, state):
    """Deletes environments of Python but for this one, the one before it, and those that a server
    was started from: the machine's other one may not have been restarted.
    """
    started = [said for name, said in state.items() if name.startswith("serves ")]
    kept = [said.get("environment") for said in started]
    if None in kept:
        return
    others = [path for path in environment.parent.iterdir() if str(path) not in kept]
    others = [path for path in others if path != environment]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[1:]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    # servers run as users of their own, whatever root's umask is
    os.umask(0o022)
    action = {"look": look, "unit": unit, "restart": restart, "await": wait, "note": note}
    print(json.dumps(action[sys.argv[1]](json.loads(sys.argv[2]))))
