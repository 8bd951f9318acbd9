"""A systemd unit for a server of ours, with as few rights as it needs; `--print-unit` prints it.

It runs as a user of its own that systemd makes up, sees the disk read-only, gets its keys as
credentials, and is restarted after every failure but those that a restart cannot mend. A worker and
an aggregator say what differs.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edvit_tf.device.errors import ExitCode
from edvit_tf.device.rpc.lifecycle import ServerOptions

_UNIT = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
# a device that was without power or network for days still comes back by itself
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
{reload}Environment={environment}
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
{cache}ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
{nodes}ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX{netlink}
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


@dataclass(frozen=True, kw_only=True)
class UnitParts:
    """What differs between the units of servers."""

    description: str
    command: Sequence[str]  # the words of ExecStart
    permanent: Iterable[ExitCode]  # after which a restart would meet the same
    memory_bytes: int
    memory_why: str
    reloads: bool = False  # on SIGHUP, more than keys: those are handed over at a start
    keeps_cache: bool = False  # a folder of its own that it may write
    reads: Sequence[Path] = ()  # what it opens itself, beside its bundle
    secrets: Mapping[str, Path] = field(default_factory=dict)  # read by root, found as %d/NAME
    last_seconds: int = 0  # that its end may take beside what it was asked
    lists_addresses: bool = False  # of this machine, by netlink
    nodes: Mapping[Path, str] = field(default_factory=dict)  # of /dev that it opens, with why


def systemd_unit(options: ServerOptions, parts: UnitParts) -> str:
    """The unit's text for a server with these options."""
    package = package_parent()
    # a clone is not on Python's path; and ProtectHome=yes would hide what lies in a home
    installed = "site-packages" in package.parts
    folder = absolute(options.bundle)
    seen = [folder, folder.resolve(), Path(sys.executable), package]
    seen += [path for given in parts.reads for path in (given.absolute(), given.resolve())]
    at_home = any(str(path).startswith(("/home/", "/root/")) for path in seen)

    environment = ["EDVIT_CACHE=%C/edvit_tf"] if parts.keeps_cache else []
    environment.append("MALLOC_ARENA_MAX=2")
    if not installed:
        environment.append(_quoted(f"PYTHONPATH={package}"))

    return _UNIT.format(
        description=parts.description.replace("%", "%%"),
        command=" ".join(_quoted(part) for part in parts.command),
        reload="ExecReload=/bin/kill -HUP $MAINPID\n" if parts.reloads else "",
        environment=" ".join(environment),
        permanent=" ".join(str(int(code)) for code in parts.permanent),
        stop_seconds=round(options.deadline_ms / 1e3) + 5 + parts.last_seconds,
        credentials=_credentials(options.identity, parts.secrets),
        memory_why=parts.memory_why,
        memory_mib=parts.memory_bytes >> 20,
        cache="CacheDirectory=edvit_tf\n" if parts.keeps_cache else "",
        home="read-only" if at_home else "yes",
        netlink=" AF_NETLINK" if parts.lists_addresses else "",
        nodes="".join(_node(path, why) for path, why in parts.nodes.items()),
    )


def server_words(options: ServerOptions) -> list[str]:
    """The words of a command line that every server has, behind its bundle."""
    words = ["--listen", options.listen]
    # %d: where systemd puts the credentials
    words += ["--insecure"] if options.identity is None else ["--identity", "%d"]
    if options.insecure_anywhere:
        words.append("--insecure-anywhere")
    if options.metrics is not None:
        words += ["--metrics", options.metrics]
    return words


def unreadable(options: ServerOptions, *others: Path) -> list[Path]:
    """Folders on the way to the bundle, the package, the interpreter and `others` that the unit's
    own user may not enter.
    """
    ends = (
        absolute(options.bundle).parent,
        options.bundle.resolve(),
        package_parent(),
        Path(sys.executable).parent,
        *(path.absolute().parent for path in others),
    )
    folders = set()
    # a folder may be entered only if all of those above it may
    for end in ends:
        folders.update([end, *end.parents])
    return sorted(folder for folder in folders if not os.stat(folder).st_mode & 0o001)


def warn_of_unreadable(options: ServerOptions, *others: Path) -> None:
    """Says on standard error which folders the unit's own user may not enter."""
    for folder in unreadable(options, *others):
        print(
            f"warning: {folder} may be entered by its owner alone, and the unit runs as a "
            "user of its own. Put the bundle and the environment under /opt, or chmod o+x it.",
            file=sys.stderr,
        )


def absolute(bundle: Path) -> Path:
    """The bundle's absolute path; if it is a link (STORE/current), then the link's own, so that it
    is followed at each start.
    """
    return bundle.parent.resolve() / bundle.name if bundle.is_symlink() else bundle.resolve()


def package_parent() -> Path:
    """The folder that Python has to look into for this package."""
    return Path(__file__).resolve().parents[3]


def _node(path: Path, why: str) -> str:
    """A node of /dev beside the few that PrivateDevices leaves, by the group that owns it."""
    return f"# {why}\nBindPaths={path}\nDeviceAllow={path} rw\nSupplementaryGroups={path.group()}\n"


def _credentials(identity: Path | None, secrets: Mapping[str, Path]) -> str:
    files = dict(secrets)
    if identity is not None:
        files |= {name: identity / name for name in ("ca.pem", "cert.pem", "key.pem")}
    lines = []
    for name, file in files.items():
        # the path is all that stands behind the colon: quotes would be part of it
        path = str(file.resolve()).replace("%", "%%")
        lines.append(f"LoadCredential={name}:{path}\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    """A word of a unit: in quotes where it has spaces; % is systemd's, but for our own %d."""
    text = text if text.startswith("%d") else text.replace("%", "%%")
    return f'"{text}"' if any(character.isspace() for character in text) else text
