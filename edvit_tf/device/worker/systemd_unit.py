"""A systemd unit for a worker, with as few rights as it needs; `--print-unit` prints it.

It runs as a user of its own that systemd makes up, sees the disk read-only, gets its keys as
credentials, and is restarted after every failure but those that a restart cannot mend.
"""

import os
import sys
from pathlib import Path

from edvit_tf.device.errors import permanent
from edvit_tf.device.model.bundle import open_bundle, verified_path
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.memory import needed_memory
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.tune import candidates
from edvit_tf.device.rpc.ports import listening_address
from edvit_tf.device.worker.server import WorkerOptions

_BASE_BYTES = 96 << 20  # the process without models

_UNIT = """\
[Unit]
Description=edvit_tf worker ({names} of {bundle})
Wants=network-online.target
After=network-online.target
# a device that was without power or network for days still comes back by itself
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
Environment=EDVIT_CACHE=%C/edvit_tf MALLOC_ARENA_MAX=2{path}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus={permanent}
TimeoutStopSec={stop_seconds}
{credentials}\
# {memory_why}
MemoryMax={memory_mib}M
MemorySwapMax=0

DynamicUser=yes
CacheDirectory=edvit_tf
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def unit(options: WorkerOptions) -> str:
    """The unit's text for a worker with these options. Raises the errors of what would not
    start.
    """
    listening_address(options)
    bundle, runtime = open_bundle(options.bundle), runtime_name()
    indices = list(
        dict.fromkeys(
            range(len(bundle.sub_models)) if options.sub_models is None else options.sub_models
        )
    )
    files = [
        max(
            verified_path(bundle, one.file).stat().st_size
            for one in candidates(bundle, index, runtime, options.flavour)
        )
        for index in indices
    ]
    need = _BASE_BYTES + sum(needed_memory(size) for size in files)
    spec = bundle_input(bundle).spec
    decode = spec.decoding_bytes
    folder, python = _place(options.bundle), Path(sys.executable)
    given = None if options.identity is None else options.identity.resolve()
    at_home = any(
        str(path).startswith(("/home/", "/root/"))
        for path in (folder, folder.resolve(), python, _package_parent())
    )
    return _UNIT.format(
        bundle=str(folder).replace("%", "%%"),
        names=", ".join(bundle.entry(index)["name"] for index in indices),
        command=" ".join(_quoted(part) for part in _command(options, python, folder, indices)),
        path=(
            ""
            if "site-packages" in _package_parent().parts
            else f" {_quoted(f'PYTHONPATH={_package_parent()}')}"
        ),
        permanent=" ".join(map(str, permanent())),
        stop_seconds=round(options.deadline_ms / 1e3) + 5,
        credentials=""
        if given is None
        else "".join(
            f"LoadCredential={name}:{_quoted(str(given / name))}\n"
            for name in ("ca.pem", "cert.pem", "key.pem")
        ),
        memory_why=f"the models need about {need >> 20} MiB"
        + (f", an {spec.largest_file} {decode >> 20} more" if decode else ""),
        memory_mib=(need + need // 4 + decode) >> 20,
        home="read-only" if at_home else "yes",
    )


def unreadable(options: WorkerOptions) -> list[Path]:
    """Folders on the way to the bundle, the package and the interpreter that the unit's own user
    may not enter.
    """
    wanted = (
        _place(options.bundle).parent,
        options.bundle.resolve(),
        _package_parent(),
        Path(sys.executable).parent,
    )
    ways = {parent for path in wanted for parent in (path, *path.parents)}
    return sorted(path for path in ways if not os.stat(path).st_mode & 0o001)


def _command(options: WorkerOptions, python: Path, folder: Path, indices: list[int]) -> list[str]:
    parts = [str(python), "-m", "edvit_tf.device", str(folder)]
    parts += [word for index in indices for word in ("--submodel", str(index))]
    parts += ["--listen", options.listen]
    parts += ["--insecure"] if options.identity is None else ["--identity", "%d"]
    parts += ["--insecure-anywhere"] if options.insecure_anywhere else []
    for name, value in (
        ("--metrics", options.metrics),
        ("--flavour", options.flavour),
        ("--stuck-seconds", options.stuck_seconds),
        ("--deadline-ms", options.deadline_ms),
    ):
        parts += (
            [] if value is None else [name, f"{value:g}" if isinstance(value, float) else value]
        )
    return parts


def _quoted(text: str) -> str:
    """A word of a unit: in quotes where it has spaces; % is systemd's, but for our own %d."""
    text = text if text == "%d" else text.replace("%", "%%")
    return f'"{text}"' if any(character.isspace() for character in text) else text


def _place(bundle: Path) -> Path:
    """The bundle's absolute path; if it is a link (STORE/current), then the link's own, so that it
    is followed at each start.
    """
    return bundle.parent.resolve() / bundle.name if bundle.is_symlink() else bundle.resolve()


def _package_parent() -> Path:
    return Path(__file__).resolve().parents[3]
