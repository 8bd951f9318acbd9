"""`edvit deploy`: a bundle on all devices of a devices.toml, by one command."""

import json
import shlex
import sys
import tempfile
from pathlib import Path

from edvit_tf.cli.output import add_json
from edvit_tf.cli.values import positive, user_path
from edvit_tf.device.terminal import printable_lines

_CONTAINERS = {
    "compose": "a compose file",
    "k3s": "Kubernetes manifests (k3s on Pis)",
    "kserve": "a KServe InferenceService of the aggregator",
}


def add_deploy(commands) -> None:
    """Adds `deploy` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "deploy",
        help="bring a bundle to all devices by ssh: certificates, package, files, checks, units",
    )
    parser.add_argument("bundle", type=user_path)
    parser.add_argument(
        "devices", type=user_path, metavar="devices.toml", help="host, and ssh where it differs"
    )
    parser.add_argument(
        "--aggregator",
        metavar="HOST",
        help="device or other machine of the aggregator (default: the device with aggregator = "
        "true; none: its command is printed for this machine)",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="print every command and end; nobody is asked"
    )
    for name, what in _CONTAINERS.items():
        instead.add_argument(
            f"--print-{name}",
            action="store_const",
            dest="containers",
            const=name,
            help=f"print {what} of this fleet and end",
        )
    _add_how(parser)
    add_json(parser)
    parser.set_defaults(run=_deploy)


def _add_how(parser) -> None:
    parser.add_argument(
        "--certs",
        type=user_path,
        metavar="FOLDER",
        help="of the authority and the identities (default: fleet, beside devices.toml)",
    )
    parser.add_argument(
        "--wheel", type=user_path, metavar="FILE", help="of edvit_tf (default: built here)"
    )
    parser.add_argument(
        "--wheels",
        type=user_path,
        metavar="FOLDER",
        help="of all that pip needs there, for devices without internet (default: the index)",
    )
    parser.add_argument(
        "--prefix", default="/opt", metavar="FOLDER", help="of the devices (default /opt)"
    )
    parser.add_argument(
        "--listen",
        default="0.0.0.0:8000",
        metavar="HOST:PORT",
        help="of the aggregator (default 0.0.0.0:8000)",
    )
    parser.add_argument(
        "--min-submodels", type=positive, metavar="N", help="as of `edvit serve` (default: all)"
    )
    parser.add_argument("--no-tune", action="store_true", help="leave out --tune on the devices")
    parser.add_argument(
        "--open-metrics",
        action="store_true",
        help="metrics and /healthz to the whole network (default: to the device itself)",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="take over units that serve another bundle, and identities of another authority",
    )
    parser.add_argument("--ssh-config", type=user_path, metavar="FILE", help="as of ssh -F")
    parser.add_argument(
        "--accept-new-hosts",
        action="store_true",
        help="take the host key of a machine that is new here; a changed one is refused",
    )


def _deploy(args) -> int:
    from edvit_tf.device.rpc.ports import split_address
    from edvit_tf.errors import ConfigError

    port = split_address(args.listen)[1]
    if not 1 <= port <= 64535:
        raise ConfigError(f"--listen is {args.listen}; its port must be 1 to 64535. Take 8000.")
    if not Path(args.prefix).is_absolute() or args.prefix == "/":
        raise ConfigError(f"--prefix is {args.prefix!r}; it must be a whole path, such as /opt.")

    certs = args.certs or args.devices.absolute().parent / "fleet"
    if not args.dry_run:
        return _deployed(args, certs)
    # no key is made or copied by a dry run: those it needs are thrown away
    with tempfile.TemporaryDirectory() as folder:
        return _deployed(args, Path(folder) / certs.name)


def _deployed(args, certs: Path) -> int:
    from edvit_tf.device.model.bundle import open_bundle, verified_path
    from edvit_tf.operate.deploy.certificates import make_certificates, wanted_by
    from edvit_tf.operate.deploy.dry_run import dry_run
    from edvit_tf.operate.deploy.machines import machines
    from edvit_tf.operate.deploy.steps import Settings, Target
    from edvit_tf.operate.deploy.wheel import build_wheel, read_wheel

    bundle = open_bundle(args.bundle)
    for name in bundle.files:
        verified_path(bundle, name)
    fleet = machines(bundle, args.devices, args.aggregator)
    _check_hosted(args, bundle, fleet)
    if args.containers is not None:
        print(_containers(args, fleet, certs), end="")
        return 0

    made = make_certificates(certs, wanted_by(fleet))
    if not args.dry_run:
        for line in made:
            _say(line)
    wheel = build_wheel(_say) if args.wheel is None else read_wheel(args.wheel)
    settings = Settings(
        bundle=bundle,
        devices=args.devices,
        certificates=certs,
        wheel=wheel,
        wheels=args.wheels,
        prefix=args.prefix.rstrip("/"),
        listen=args.listen,
        min_submodels=args.min_submodels,
        tune=not args.no_tune,
        open_metrics=args.open_metrics,
        replace=args.replace,
        ssh_config=args.ssh_config,
        accept_new=args.accept_new_hosts,
    )
    targets = [Target(machine, settings) for machine in fleet]
    if args.dry_run:
        for line in dry_run(targets):
            print(line)
        return 0
    return _run(args, certs, targets)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _containers(args, fleet, certs: Path) -> str:
    """The fleet as containers, by the option's name."""
    from edvit_tf.operate import containers

    if args.containers == "compose":
        bundle, identities = args.bundle.absolute(), certs.absolute()
        return containers.compose(fleet, str(bundle), str(identities), args.min_submodels)
    if args.containers == "k3s":
        return containers.k3s(fleet, args.min_submodels)
    return containers.kserve(fleet, args.min_submodels)


def _check_hosted(args, bundle, fleet) -> None:
    from edvit_tf.errors import ConfigError
    from edvit_tf.operate.deploy.machines import missing_sub_models

    missing = missing_sub_models(bundle, fleet)
    count = len(bundle.sub_models)
    least = count if args.min_submodels is None else args.min_submodels
    if least > count:
        raise ConfigError(f"--min-submodels is {least}; the bundle has {count} sub-models.")
    if count - len(missing) < least:
        names = ", ".join(bundle.entry(index).name for index in missing)
        raise ConfigError(
            f"{args.devices} has no device for {names}; a request needs {least} sub-models. Add "
            "the devices of the plan, or say --min-submodels."
        )


def _run(args, certs: Path, targets: list) -> int:
    from edvit_tf.errors import HostExit
    from edvit_tf.operate.deploy.fleet import deploy
    from edvit_tf.operate.deploy.table import Table

    table = Table([target.machine.name for target in targets])
    sentences: list[str] = []
    failed = deploy(targets, table, sentences.append)
    # what machines said is in them, line for line
    for sentence in sentences:
        print(printable_lines(sentence), file=sys.stderr)
    if args.json:
        told = {"machines": table.cells, "seconds": table.seconds, "failed": failed}
        print(json.dumps({**told, "said": sentences}, indent=1))
    else:
        print(table.text())
        print(_next(args, certs, targets))
    for name, why in failed.items():
        print(printable_lines(f"{name}: {why}"), file=sys.stderr)
    if failed:
        print(
            f"error: {len(failed)} of {len(targets)} machines failed; the same command does what "
            "is left.",
            file=sys.stderr,
        )
    return HostExit.PUSH if failed else 0


def _next(args, certs: Path, targets: list) -> str:
    """What is typed next: the question, or the aggregator of this machine before it."""
    from edvit_tf.device.rpc.ports import bracketed

    port = args.listen.rpartition(":")[2]
    hub = next((target.machine for target in targets if target.machine.aggregator), None)
    bundle = str(args.bundle)
    lines = []
    if hub is None:
        serve = ["edvit", "serve", bundle, "--devices", str(args.devices), "--listen", args.listen]
        serve += ["--identity", str(certs / "aggregator-hub")]
        if args.min_submodels is not None:
            serve += ["--min-submodels", str(args.min_submodels)]
        lines.append(f"The aggregator, on this machine: {shlex.join(serve)}")
        lines.append("As a service of it: the same with --print-unit (docs/howto/deploy.md)")
    server = bracketed("localhost" if hub is None else hub.hosts[0], int(port))
    ask = ["edvit", "predict", "--server", server, "--identity", str(certs / "client-me")]
    lines.append(f"Ask: {shlex.join([*ask, '--bundle', bundle])} FILE")
    return "\n".join(lines)
