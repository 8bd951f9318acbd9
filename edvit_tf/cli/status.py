"""`edvit status`: a fleet in a terminal."""

import json
import os
import shutil
import sys
import time

from edvit_tf.cli.output import add_json
from edvit_tf.cli.predict import add_identity
from edvit_tf.cli.values import user_path
from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.errors import DeviceExit
from edvit_tf.device.terminal import say_error

_CLEAR = "\x1b[H\x1b[2J"


def add_status(commands) -> None:
    """Adds `status` to the subparsers of `edvit`."""
    status = commands.add_parser(
        "status",
        help="a fleet's devices, answers and alerts; ends with 1 where there is an alert",
    )
    status.add_argument(
        "hub",
        nargs="?",
        metavar="HUB",
        help="HOST:PORT of the aggregator's --metrics, with --identity or --insecure (default: the "
        "`edvit up` that runs on this machine)",
    )
    add_identity(status, "plain HTTP: the aggregator has no --https", required=False)
    status.add_argument(
        "--login-token", type=user_path, metavar="FILE", help="as of `edvit serve`, if it has one"
    )
    status.add_argument(
        "--watch",
        type=positive_number,
        metavar="SECONDS",
        help="again and again, until Ctrl-C; on a terminal in its place",
    )
    status.add_argument(
        "--timeout-ms", type=positive_number, default=5000.0, help="of a request (default 5000)"
    )
    add_json(status)
    status.set_defaults(run=_status, wrong_usage=status.error)


def _status(args) -> int:
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # before grpc is imported, which reads it once
    from edvit_tf.operate.hub_pages import fleet_status

    hub = _hub(args)
    if args.watch is None:
        return _show(args, fleet_status(hub))
    try:
        return _watch(args, hub)
    except KeyboardInterrupt:
        return DeviceExit.DONE  # the way to end it


def _hub(args):
    """Where to ask. Raises ConfigError, IdentityError, RequestFailed."""
    from edvit_tf.aggregate.http.access import read_token
    from edvit_tf.device.rpc import tls
    from edvit_tf.errors import ConfigError
    from edvit_tf.operate.hub_pages import Hub

    if args.hub is None:
        if args.identity or args.insecure or args.login_token:
            raise ConfigError(
                "--identity, --insecure and --login-token go with HUB; give its HOST:PORT too."
            )
        return Hub(_running_pages(), seconds=args.timeout_ms / 1e3)
    if not (args.identity or args.insecure):
        args.wrong_usage("HUB takes one of --identity FOLDER and --insecure")
    token = None if args.login_token is None else read_token(args.login_token)
    own = None if args.insecure else tls.identity(args.identity)
    return Hub(args.hub, own, token, args.timeout_ms / 1e3)


def _running_pages() -> str:
    from edvit_tf.errors import ConfigError, RequestFailed
    from edvit_tf.operate.running import running

    found = [one.metrics for one in running() if one.metrics]
    if not found:
        raise RequestFailed(
            "no `edvit up` runs here. Start one in another terminal: edvit up BUNDLE. Or give HUB, "
            "HOST:PORT of an aggregator's --metrics, with --identity FOLDER or --insecure."
        )
    if len(found) > 1:
        rows = "".join(f"\n  edvit status {one} --insecure" for one in found)
        raise ConfigError(f"{len(found)} fleets run here; give one of them:{rows}")
    return found[0]


def _show(args, said: dict) -> int:
    from edvit_tf.operate.status_text import status_text

    if args.json:
        print(json.dumps(said, indent=None if args.watch else 1), flush=True)
    else:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else _piped_width()
        colours = is_terminal and not os.environ.get("NO_COLOR")
        print(status_text(said, width, colours), flush=True)
        if said["less"] is not None and args.watch is None:
            print(f"Answers and milliseconds are not shown: {said['less']}", file=sys.stderr)
    return DeviceExit.FAILED if said["alerts"] or not said["serving"] else DeviceExit.DONE


def _piped_width() -> int:
    """A program that reads gets whole lines, unless it says otherwise."""
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else 10_000


def _watch(args, hub) -> int:
    from edvit_tf.errors import RequestFailed
    from edvit_tf.operate.hub_pages import fleet_status

    redraws = sys.stdout.isatty() and not args.json
    while True:
        try:
            said = fleet_status(hub)
        except RequestFailed as error:  # it may come back
            if redraws:
                print(_CLEAR, end="", file=sys.stderr)
            say_error(error)
        else:
            if redraws:
                print(_CLEAR, end="")
            _show(args, said)
            if not args.json and not redraws:
                print()
        time.sleep(args.watch)
