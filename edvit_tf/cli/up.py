"""`edvit up`: a bundle's whole fleet on this machine, until Ctrl-C."""

import json
import os
import shlex
import sys

from edvit_tf.cli.output import add_json
from edvit_tf.cli.values import positive, user_path


def add_up(commands) -> None:
    """Adds `up` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "up", help="start a bundle's workers and its aggregator here; `edvit predict` finds them"
    )
    parser.add_argument("bundle", type=user_path)
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:0",
        help="of the aggregator, on loopback (default: a free port)",
    )
    parser.add_argument(
        "--min-submodels",
        type=positive,
        metavar="N",
        default=1,
        help="with fewer a request is UNAVAILABLE (default 1: answers go on, and say what is "
        "missing)",
    )
    parser.add_argument(
        "--logs",
        type=user_path,
        metavar="FOLDER",
        help="of each process's log (default: a new one in the temporary folder)",
    )
    add_json(parser)
    parser.set_defaults(run=_up)


def _up(args) -> int:
    from edvit_tf.operate.up import Fleet, UpOptions, up

    options = UpOptions(args.bundle, args.listen, args.min_submodels, args.logs)

    # answers of this command go to standard output, what the processes log beside them
    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def is_up(fleet: Fleet) -> None:
        text = json.dumps(_told(fleet)) if args.json else _text(fleet)
        print(text, flush=True)

    return up(options, tell, is_up)


def _told(fleet) -> dict:
    """What runs, for programs."""
    workers = []
    for device, worker in fleet.workers.items():
        assert worker.process is not None
        workers.append(
            {
                "name": worker.name,
                "device": device,
                "address": worker.address,
                "pid": worker.process.pid,
                "submodels": fleet.hosts[device],
            }
        )
    return {
        "pid": os.getpid(),
        "bundle": str(fleet.bundle.path),
        "server": fleet.aggregator.address,
        "metrics": fleet.aggregator.serving["metrics"],
        "aggregator_pid": fleet.aggregator.process.pid,
        "workers": workers,
        "logs": str(fleet.logs),
    }


def _text(fleet) -> str:
    told = _told(fleet)
    count = len(told["workers"])
    lines = [
        "",
        f"{fleet.bundle.path.name} is up: {count} worker{'s' * (count != 1)} and an aggregator.",
    ]
    for worker in told["workers"]:
        holds = ", ".join(f"submodel-{index:02d}" for index in worker["submodels"])
        lines.append(f"  {worker['name']:<12}{worker['address']:<18}{worker['device']}: {holds}")
    health = f"http://{told['metrics']}/healthz"
    lines.append(f"  {fleet.aggregator.name:<12}{told['server']:<18}its state: {health}")

    bundle = shlex.quote(str(fleet.bundle.path))
    lines += [
        f"Logs: {told['logs']}",
        "Ask in another terminal:",
        "  edvit predict FILE",
        f"  edvit predict --server {told['server']} --insecure --bundle {bundle} FILE",
        "Ctrl-C stops all.",
        "",
    ]
    return "\n".join(lines)
