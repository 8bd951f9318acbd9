"""The steps that bring one machine to what it is to run, each with its commands, and what a look at
the machine says of them.

Pure: what is wanted and what was seen go in, commands come out.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.rpc.ports import bracketed
from edvit_tf.operate.deploy import commands
from edvit_tf.operate.deploy.certificates import aggregator_of, worker_of
from edvit_tf.operate.deploy.commands import Command, Ssh
from edvit_tf.operate.deploy.machines import Machine
from edvit_tf.operate.deploy.wheel import Wheel
from edvit_tf.operate.push import needed_files

STEPS = ("reach", "package", "identity", "bundle", "check", "tune", "unit", "restart")
WORKER, AGGREGATOR = "edvit-worker.service", "edvit-aggregator.service"
CACHE = "/var/cache/edvit_tf"  # the worker's own, by its unit
METRICS_ABOVE = 1000  # a server's pages are at its port and this
START_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says, the same for all machines."""

    bundle: Bundle
    devices: Path
    certificates: Path
    wheel: Wheel
    wheels: Path | None = None
    prefix: str = "/opt"
    listen: str = "0.0.0.0:8000"  # of the aggregator
    min_submodels: int | None = None
    tune: bool = True
    open_metrics: bool = False
    replace: bool = False
    ssh_config: Path | None = None
    accept_new: bool = False


@dataclass(frozen=True)
class Target:
    """A machine, and where on it everything goes."""

    machine: Machine
    settings: Settings

    @property
    def ssh(self) -> Ssh:
        return Ssh(self.machine.ssh, self.settings.ssh_config, self.settings.accept_new)

    @property
    def extra(self) -> str:
        if self.machine.aggregator:
            return "aggregator"
        signed = (self.settings.bundle.path / "signature.json").exists()
        return "device,signed" if signed else "device"

    @property
    def environment(self) -> str:
        """A folder for each package: what runs now keeps its own until it is restarted."""
        name = f"{self.settings.wheel.digest[:12]}-{self.extra.replace(',', '-')}"
        return f"{self.settings.prefix}/edvit-python/{name}"

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def store(self) -> str:
        return f"{self.settings.prefix}/{self.settings.bundle.path.name}"

    @property
    def hub_store(self) -> str:
        return f"{self.store}-hub"

    @property
    def devices(self) -> str:
        return f"{self.settings.prefix}/edvit-deploy/devices.toml"

    @property
    def stores(self) -> dict[str, tuple[int, ...]]:
        """The sub-models of each store; () for all of them."""
        found = {self.store: self.machine.sub_models} if self.machine.sub_models else {}
        if self.machine.aggregator:
            found[self.hub_store] = ()
        return found

    @property
    def identities(self) -> dict[str, Path]:
        """Folders of root, and what is to be in each."""
        made = self.settings.certificates
        found = {}
        if self.machine.sub_models:
            found[self.identity_folder("worker")] = made / worker_of(self.machine).folder
        if self.machine.aggregator:
            found[self.identity_folder("aggregator")] = made / aggregator_of(self.machine).folder
        return found

    @property
    def units(self) -> tuple[str, ...]:
        worker = (WORKER,) if self.machine.sub_models else ()
        return (*worker, AGGREGATOR) if self.machine.aggregator else worker

    def served(self, unit: str) -> str:
        """The bundle that a server is given: a unit with another one is another fleet's."""
        return f"{self.store if unit == WORKER else self.hub_store}/current"

    def health(self, unit: str) -> str:
        """Where a server says how it is, asked on its own machine."""
        return f"http://127.0.0.1:{self._port(unit) + METRICS_ABOVE}/healthz"

    def files(self) -> dict[str, dict[str, Any]]:
        """The files of each store: sha256 by name, and groups of which it needs one each."""
        bundle = self.settings.bundle
        known = {name: entry.sha256 for name, entry in bundle.files.items()}
        found = {}
        for store, sub_models in self.stores.items():
            names = needed_files(bundle, sub_models or None)
            sha256 = {
                name: known.get(name) or _sha256(bundle.path / name)
                for name in names
                if name != "manifest.json"
            }
            found[store] = {"sha256": sha256, "groups": _groups(bundle, sub_models, sha256)}
        return found

    def key(self, *more: str) -> str:
        """What a check or a start depends on, as one word."""
        own = [self.environment, self.settings.bundle.digest, list(self.machine.sub_models)]
        identities = [_sha256(path / "cert.pem") for path in self.identities.values()]
        text = json.dumps([*own, *identities, *more])
        return hashlib.sha256(text.encode()).hexdigest()

    def tune_key(self) -> str:
        """Tuned is for a bundle's files, and not for a version of ours or a certificate."""
        own = [self.settings.bundle.digest, list(self.machine.sub_models)]
        return hashlib.sha256(json.dumps(own).encode()).hexdigest()

    def unit_words(self, unit: str) -> list[str]:
        """The command that prints a unit."""
        port = self._port(unit)
        open_to = "0.0.0.0" if self.settings.open_metrics else "127.0.0.1"
        pages = ["--metrics", f"{open_to}:{port + METRICS_ABOVE}", "--print-unit"]
        if unit == WORKER:
            host = self.machine.hosts[0]
            listen = bracketed("::" if ":" in host else "0.0.0.0", port)
            words = [self.python, "-P", "-m", "edvit_tf.device", f"{self.store}/current"]
            words += _chosen(self.machine.sub_models)
            return [
                *words,
                "--listen",
                listen,
                "--identity",
                self.identity_folder("worker"),
                *pages,
            ]

        words = [self.python, "-P", "-m", "edvit_tf.cli", "serve", f"{self.hub_store}/current"]
        words += ["--devices", self.devices, "--listen", self.settings.listen]
        if self.settings.min_submodels is not None:
            words += ["--min-submodels", str(self.settings.min_submodels)]
        return [*words, "--identity", self.identity_folder("aggregator"), *pages]

    def _port(self, unit: str) -> int:
        return self.machine.port if unit == WORKER else int(self.settings.listen.rpartition(":")[2])

    def identity_folder(self, role: str) -> str:
        """Where root keeps a server's keys."""
        return f"{self.settings.prefix}/edvit-identity/{role}"


def look(target: Target) -> Command:
    """Reads all that decides what is left to do; one round trip."""
    asked = {
        "prefix": target.settings.prefix,
        "environment": target.environment,
        "stores": target.files(),
        "authorities": {
            folder: _sha256(source / "ca.pem") for folder, source in target.identities.items()
        },
        "units": {unit: target.served(unit) for unit in target.units},
        "replace": target.settings.replace,
    }
    return commands.agent(target.ssh, "look", asked, 60)


def package(target: Target, seen: dict, rsync: bool) -> list[Command]:
    """[] where this package is installed, whole."""
    if seen.get("package") == target.settings.wheel.digest:
        return []
    settings = target.settings
    link = f"{settings.prefix}/edvit"
    return commands.package_commands(
        target.ssh,
        settings.wheel.file,
        settings.wheels,
        target.environment,
        link,
        target.extra,
        rsync,
    )


def identity(target: Target, seen: dict) -> list[Command]:
    """[] where each identity is there, file by file."""
    there = seen.get("identities", {})
    left = [
        (folder, source)
        for folder, source in target.identities.items()
        if there.get(folder) != {file.name: _sha256(file) for file in source.glob("*.pem")}
    ]
    return [commands.identity_command(target.ssh, source, folder) for folder, source in left]


def bundle(target: Target, seen: dict, rsync: bool) -> list[Command]:
    """[] where each store has this bundle current, with every file as it is to be."""
    wanted, there = target.settings.bundle, seen.get("stores", {})
    stores = {
        store: sub_models
        for store, sub_models in target.stores.items()
        if there.get(store) != wanted.digest
    }
    if not stores:
        return []
    lists = [needed_files(wanted, sub_models or None) for sub_models in stores.values()]
    names = list(dict.fromkeys(name for names in lists for name in names))
    files = [wanted.path / name for name in names]
    return commands.bundle_commands(target.ssh, files, wanted.digest, target.python, stores, rsync)


def check(target: Target, seen: dict, changed: bool) -> list[Command]:
    """[] for a machine without worker, and where the same was checked."""
    key = target.key()
    if not target.machine.sub_models or (not changed and _noted(seen, "check") == key):
        return []
    words = [target.python, "-P", "-m", "edvit_tf.device", f"{target.store}/current"]
    words += [*_chosen(target.machine.sub_models), "--check"]
    words += ["--identity", next(iter(target.identities))]
    return [commands.as_root(target.ssh, words, 900), _note(target, {"check": key})]


def tune(target: Target, seen: dict) -> list[Command]:
    """[] for a machine without worker, and where these files were measured."""
    key = target.tune_key()
    if not (target.machine.sub_models and target.settings.tune) or _noted(seen, "tune") == key:
        return []
    words = ["env", f"EDVIT_CACHE={CACHE}", target.python, "-P", "-m", "edvit_tf.device"]
    words += [f"{target.store}/current", *_chosen(target.machine.sub_models), "--tune"]
    return [commands.as_root(target.ssh, words, 1800), _note(target, {"tune": key})]


def units(target: Target) -> list[Command]:
    """Writes the units; what they are depends on the device, so each is printed there."""
    found = []
    if target.machine.aggregator:
        content = target.settings.devices.read_bytes()
        shown = target.settings.devices.name
        found.append(commands.file_command(target.ssh, content, shown, target.devices))
    for unit in target.units:
        asked = {
            "unit": unit,
            "command": target.unit_words(unit),
            "store": target.served(unit),
            "replace": target.settings.replace,
        }
        found.append(commands.agent(target.ssh, "unit", asked, 180))
    return found


def start_key(target: Target, unit: str, sha256: str) -> str:
    """What a server was started with, as one word."""
    more = [_sha256(target.settings.devices)] if unit == AGGREGATOR else []
    return target.key(unit, sha256, *more)


def runs(seen: dict, unit: str, key: str) -> bool:
    """Whether a server runs that was started with this."""
    now = seen.get("units", {}).get(unit, {})
    started = _noted(seen, f"serves {unit}")
    same = isinstance(started, dict) and started.get("key") == key
    # a file that somebody changed may lack any of it
    invocation = started.get("invocation") if isinstance(started, dict) else None
    return same and now.get("active") == "active" and invocation == now.get("invocation")


def restart(target: Target, unit: str, key: str) -> Command:
    """Restarts a server, and waits until it answers."""
    asked: dict[str, Any] = {
        "prefix": target.settings.prefix,
        "environment": target.environment,
        "unit": unit,
        "health": target.health(unit),
        "authority": authority_of(target, unit),
        "key": key,
        "seconds": START_SECONDS,
    }
    return commands.agent(target.ssh, "restart", asked, START_SECONDS + 150)


def health_before(target: Target, seen: dict) -> str:
    """Where the aggregator that runs now says how it is: it may listen elsewhere than the next."""
    started = _noted(seen, f"serves {AGGREGATOR}")
    health = started.get("health") if isinstance(started, dict) else None
    return health or target.health(AGGREGATOR)


def authority_of(target: Target, unit: str) -> str:
    """Of a server, as one word."""
    folder = target.identity_folder("worker" if unit == WORKER else "aggregator")
    return _sha256(target.identities[folder] / "ca.pem")


def trusts(target: Target, seen: dict) -> bool:
    """Whether the aggregator that runs has this authority: keys are read at its start, so what was
    noted then counts before what the disk had.
    """
    now = seen.get("units", {}).get(AGGREGATOR, {})
    started = _noted(seen, f"serves {AGGREGATOR}")
    noted = started if isinstance(started, dict) else {}
    known = noted.get("authority") if noted.get("invocation") == now.get("invocation") else None
    if known is None:
        identities = seen.get("identities", {})
        known = identities.get(target.identity_folder("aggregator"), {}).get("ca.pem")
    return known == authority_of(target, AGGREGATOR)


def wait(target: Target, devices: list[str], seconds: float, health: str | None = None) -> Command:
    """Asks the aggregator, on its machine, until these devices are ready."""
    health = health or target.health(AGGREGATOR)
    asked = {"health": health, "devices": devices, "seconds": seconds}
    return commands.agent(target.ssh, "await", asked, seconds + 60)


def _groups(bundle: Bundle, sub_models: tuple[int, ...], names: Iterable[str]) -> list[list[str]]:
    """As `edvit_tf.device.update` installs: of the flavours of a sub-model those that the device
    runs, of all else every file.
    """
    groups = []
    for index in sub_models or range(len(bundle.sub_models)):
        groups.append([one.file for one in bundle.entry(index).flavours.values()])
    always = ["golden.npz", *bundle.input_files, "signature.json"]
    if not sub_models:
        always += [bundle.fusion.file, "labels.txt", "results.json"]
    return groups + [[name] for name in always if name in names]


def _note(target: Target, state: dict) -> Command:
    asked = {"prefix": target.settings.prefix, "state": state}
    return commands.agent(target.ssh, "note", asked, 60)


def _noted(seen: dict, name: str) -> Any:
    return seen.get("state", {}).get(name)


def _chosen(sub_models: tuple[int, ...]) -> list[str]:
    return [word for index in sub_models for word in ("--submodel", str(index))]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
