"""`edvit discover`: workers on the local network, as a devices.toml to be checked."""

import sys

from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.errors import DeviceExit


def add_discover(commands) -> None:
    """Adds `discover` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "discover", help="propose a devices.toml of workers that announce themselves (--announce)"
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=5.0, help="to listen (default 5)"
    )
    parser.add_argument(
        "--interface",
        action="append",
        metavar="ADDRESS",
        help="of this machine, on whose network to listen; may be given again (default: all)",
    )
    parser.set_defaults(run=_discover)


def _discover(args) -> int:
    from edvit_tf.operate.discover import discover, proposal

    found = discover(args.seconds, args.interface)
    if not found:
        print(
            f"error: no worker announced itself within {args.seconds:g} s. Start workers with "
            "--announce, in this network; a firewall must let UDP port 5353 in.",
            file=sys.stderr,
        )
        return DeviceExit.FAILED
    print(proposal(found, args.seconds), end="")
    return DeviceExit.DONE
