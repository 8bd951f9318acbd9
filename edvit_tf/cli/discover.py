"""`edvit discover`: workers on the local network, as a devices.toml to be checked."""

import argparse
import sys

from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.errors import DeviceExit

_MOST_SECONDS = 3600.0


def add_discover(commands) -> None:
    """Adds `discover` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "discover", help="propose a devices.toml of workers that announce themselves (--announce)"
    )
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="to listen (default 5)")
    parser.add_argument(
        "--interface",
        action="append",
        metavar="ADDRESS",
        help="of this machine, on whose network to listen; may be given again (default: all)",
    )
    parser.set_defaults(run=_discover)


def _seconds(text: str) -> float:
    """Above 0, an hour at most."""
    value = positive_number(text)
    if value > _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} must be {_MOST_SECONDS:g} at most, an hour")
    return value


def _discover(args) -> int:
    from edvit_tf.operate.discover import FLOODED, discover, proposal

    heard = discover(args.seconds, args.interface)
    if heard.is_flooded:
        print(f"warning: {FLOODED}", file=sys.stderr)
    if not heard.found:
        print(
            f"error: no worker announced itself within {args.seconds:g} s. Start workers with "
            "--announce, in this network; a firewall must let UDP port 5353 in.",
            file=sys.stderr,
        )
        return DeviceExit.FAILED
    print(proposal(heard, args.seconds), end="")
    return DeviceExit.DONE
