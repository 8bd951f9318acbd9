"""A systemd unit for a worker, with as few rights as it needs; `--print-unit` prints it.

It runs as a user of its own that systemd makes up, sees the disk read-only, gets its keys as
credentials, and is restarted after every failure but those that a restart cannot mend.
"""

import os
import sys
from pathlib import Path

from edvit_tf.device.errors import permanent
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.memory import needed_memory
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.tune import candidates
from edvit_tf.device.rpc.limits import held_bytes
from edvit_tf.device.rpc.ports import listening_address
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.worker.server import WorkerOptions, served_indices

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
# before it handles this signal (its first second), systemd would take the end for a wanted one
RestartForceExitStatus=SIGHUP
TimeoutStopSec={stop_seconds}
{credentials}\
# {memory_why}
MemoryMax={memory_mib}M
MemorySwapMax=0
# a connection takes one; the 1,024 of a system's default are soon taken by who means harm
LimitNOFILE=8192

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
    # refused here, and not at the first start on the device
    listening_address(options)
    bundle = open_bundle(options.bundle)
    indices = served_indices(options, len(bundle.sub_models))
    python = Path(sys.executable)
    folder = _absolute(options.bundle)
    package = _package_parent()

    model_bytes = _model_bytes(bundle, indices, options.flavour)
    model_input = bundle_input(bundle)
    spec = model_input.spec
    message_bytes = held_bytes(message_limit(model_input))
    memory_why = f"the models need about {model_bytes >> 20} MiB"
    if spec.decoding_bytes:
        memory_why += f", an {spec.largest_file} {spec.decoding_bytes >> 20} more"
    memory_why += f", requests up to {message_bytes >> 20}"

    memory_bytes = model_bytes + model_bytes // 4  # a quarter more
    memory_bytes += spec.decoding_bytes + message_bytes

    # a clone is not on Python's path; and ProtectHome=yes would hide what lies in a home
    installed = "site-packages" in package.parts
    seen = (folder, folder.resolve(), python, package)
    at_home = any(str(path).startswith(("/home/", "/root/")) for path in seen)

    return _UNIT.format(
        bundle=str(folder).replace("%", "%%"),
        names=", ".join(bundle.entry(index).name for index in indices),
        command=" ".join(_quoted(part) for part in _command(options, python, folder, indices)),
        path="" if installed else f" {_quoted(f'PYTHONPATH={package}')}",
        permanent=" ".join(str(int(code)) for code in permanent()),
        stop_seconds=round(options.deadline_ms / 1e3) + 5,
        credentials=_credentials(options.identity),
        memory_why=memory_why,
        memory_mib=memory_bytes >> 20,
        home="read-only" if at_home else "yes",
    )


def unreadable(options: WorkerOptions) -> list[Path]:
    """Folders on the way to the bundle, the package and the interpreter that the unit's own user
    may not enter.
    """
    ends = (
        _absolute(options.bundle).parent,
        options.bundle.resolve(),
        _package_parent(),
        Path(sys.executable).parent,
    )
    folders = set()
    # a folder may be entered only if all of those above it may
    for end in ends:
        folders.update([end, *end.parents])
    return sorted(folder for folder in folders if not os.stat(folder).st_mode & 0o001)


def _model_bytes(bundle: Bundle, indices: list[int], flavour: str | None) -> int:
    """Memory of the process with these sub-models, whichever of their files is the fastest here."""
    runtime = runtime_name()
    need = _BASE_BYTES
    for index in indices:
        # tuning may choose any of them later
        files = [one.file for one in candidates(bundle, index, runtime, flavour)]
        largest = max(verified_path(bundle, file).stat().st_size for file in files)
        need += needed_memory(largest)

    return need


def _credentials(identity: Path | None) -> str:
    if identity is None:
        return ""
    lines = []
    for name in ("ca.pem", "cert.pem", "key.pem"):
        lines.append(f"LoadCredential={name}:{_quoted(str(identity.resolve() / name))}\n")
    return "".join(lines)


def _command(options: WorkerOptions, python: Path, folder: Path, indices: list[int]) -> list[str]:
    parts = [str(python), "-m", "edvit_tf.device", str(folder)]
    for index in indices:
        parts += ["--submodel", str(index)]

    parts += ["--listen", options.listen]
    # %d: where systemd puts the credentials
    parts += ["--insecure"] if options.identity is None else ["--identity", "%d"]
    if options.insecure_anywhere:
        parts.append("--insecure-anywhere")
    if options.metrics is not None:
        parts += ["--metrics", options.metrics]
    if options.flavour is not None:
        parts += ["--flavour", options.flavour]
    if options.stuck_seconds is not None:
        parts += ["--stuck-seconds", f"{options.stuck_seconds:g}"]

    parts += ["--deadline-ms", f"{options.deadline_ms:g}"]

    return parts


def _quoted(text: str) -> str:
    """A word of a unit: in quotes where it has spaces; % is systemd's, but for our own %d."""
    text = text if text == "%d" else text.replace("%", "%%")
    return f'"{text}"' if any(character.isspace() for character in text) else text


def _absolute(bundle: Path) -> Path:
    """The bundle's absolute path; if it is a link (STORE/current), then the link's own, so that it
    is followed at each start.
    """
    return bundle.parent.resolve() / bundle.name if bundle.is_symlink() else bundle.resolve()


def _package_parent() -> Path:
    return Path(__file__).resolve().parents[3]
