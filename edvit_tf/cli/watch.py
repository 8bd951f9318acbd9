"""`edvit watch`: asks a fleet for the newest frame, window of sound or file, until it is told to
stop.
"""

import argparse
import os

from edvit_tf.cli.predict import add_identity, server_address, take_running
from edvit_tf.cli.values import positive, user_path
from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.errors import DeviceExit

MOST_IN_FLIGHT = 64


def add_watch(commands) -> None:
    """Adds `watch` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "watch", help="ask an aggregator without end: a camera, a microphone, a folder"
    )
    parser.add_argument(
        "hub",
        nargs="?",
        metavar="HUB",
        help="HOST:PORT of an aggregator, with --identity or --insecure (default: the `edvit up` "
        "that runs on this machine)",
    )
    add_identity(parser, "no TLS", required=False)
    _add_sources(parser)

    parser.add_argument(
        "--in-flight",
        type=positive,
        metavar="N",
        default=2,
        help="requests at a time (default 2); what the fleet cannot take is dropped, the newest "
        "is asked next",
    )
    parser.add_argument(
        "--rate",
        type=positive_number,
        metavar="N",
        help="requests a second at most (default: as many as the fleet answers)",
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=positive_number,
        metavar="SECONDS",
        help="end after so long (default: at Ctrl-C, or with the source)",
    )
    parser.add_argument("--count", type=positive, metavar="N", help="end after so many answers")
    parser.add_argument(
        "--timeout-ms", type=positive_number, default=5000.0, help="of each request (default 5000)"
    )
    parser.add_argument("--json", action="store_true", help="events of JSON, a line each")
    parser.set_defaults(run=_watch, wrong_usage=parser.error)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sources, one of them")
    sources = group.add_mutually_exclusive_group(required=True)
    sources.add_argument(
        "--folder",
        type=user_path,
        metavar="DIR",
        help="files as they come into it, once they are whole; none is dropped",
    )
    group.add_argument(
        "--existing", action="store_true", help="with --folder: also the files that are there"
    )


def _watch(args) -> int:
    # Before grpc is imported, which reads it once.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from edvit_tf.cli.watch_output import Printed
    from edvit_tf.device.rpc import tls
    from edvit_tf.watch.hub import Hub
    from edvit_tf.watch.watch import WatchOptions, watch

    _check(args)
    _find_hub(args)
    own = None if args.insecure else tls.identity(args.identity)
    hub = Hub(server_address(args.server, "HUB"), own, args.timeout_ms / 1e3)
    try:
        source = _source(args, hub)
        options = WatchOptions(args.in_flight, args.rate, args.seconds, args.count)
        watch(hub, source, options, Printed(args.json))
    finally:
        hub.close()
    return DeviceExit.DONE


def _find_hub(args) -> None:
    """Sets --server, and --insecure where it is the fleet of this machine."""
    from edvit_tf.errors import ConfigError

    if args.hub is None and (args.identity or args.insecure):
        raise ConfigError("--identity and --insecure go with HUB, HOST:PORT; give that too.")
    if args.hub is not None and not (args.identity or args.insecure):
        args.wrong_usage("HUB takes one of --identity FOLDER and --insecure")

    args.server, args.bundle = args.hub, None
    if args.hub is None:
        take_running(args)


def _check(args) -> None:
    """Raises ConfigError for options that do not go together."""
    from edvit_tf.errors import ConfigError

    if args.in_flight > MOST_IN_FLIGHT:
        raise ConfigError(
            f"--in-flight is {args.in_flight}; {MOST_IN_FLIGHT} are allowed. A fleet with more "
            "requests than devices answers none of them sooner."
        )
    if args.existing and args.folder is None:
        raise ConfigError("--existing goes with --folder DIR; a stream has no older files.")


def _source(args, hub):
    """What is watched. Raises SourceError, and ConfigError where the fleet takes other things."""
    from edvit_tf.watch.folder import Folder

    return Folder(args.folder, hub.spec, lambda data: [data], args.existing)
