"""`edvit watch`: asks a fleet for the newest frame, window of sound or file, until it is told to
stop.
"""

import argparse
import os
import re
import sys

from edvit_tf.cli.predict import add_identity, server_address, take_running
from edvit_tf.cli.values import positive, user_path
from edvit_tf.cli.watch_actions import actions_of, add_actions, from_environment, rules_of
from edvit_tf.cli.watch_sensors import check_sensors, room_of
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
    add_actions(parser)

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
        help="frames, windows or files a second at most, each window of a recording counted, and "
        "each time that one is asked for again (default: as many as the fleet answers)",
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
    sources.add_argument(
        "--camera",
        metavar="CAMERA",
        help="0 (/dev/video0), pi (a Pi's own), rtsp://..., or a video file",
    )
    sources.add_argument(
        "--microphone",
        nargs="?",
        const="",
        metavar="DEVICE",
        help="a number or a name (default: the machine's choice), a recording, or - for standard "
        "input: a WAV file as it is written, or raw signed 16-bit little-endian mono",
    )
    sources.add_argument(
        "--sensors",
        type=user_path,
        metavar="FILE",
        help="TOML of several microphones of one room, and the workers that answer for each; these "
        "are asked, with --identity or --insecure, and no HUB",
    )
    group.add_argument(
        "--bundle",
        type=user_path,
        metavar="FOLDER",
        help="with --sensors: what the workers serve; their answers are fused here",
    )
    group.add_argument(
        "--hop",
        type=positive_number,
        metavar="SECONDS",
        help="with --microphone or --sensors: from one window's start to the next one's (default: "
        "a window)",
    )
    group.add_argument(
        "--input-rate",
        type=positive,
        metavar="HZ",
        help="of raw sound (default: what the models take)",
    )
    group.add_argument(
        "--fast",
        action="store_true",
        help="a file or a pipe goes as fast as the fleet answers, and nothing of it is dropped",
    )
    group.add_argument(
        "--existing", action="store_true", help="with --folder: also the files that are there"
    )


def _watch(args) -> int:
    # Before grpc is imported, which reads it once.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from edvit_tf.cli.watch_output import Printed
    from edvit_tf.watch.watch import WatchOptions, watch

    _check(args)
    rules = rules_of(args)
    printed = Printed(args.json)
    fleet, source = _hub_and_source(args) if args.sensors is None else room_of(args, printed.say)
    try:
        actions = None
        if rules is not None:
            fleet.need([rule.label for rule in rules])
            actions = actions_of(args, rules, printed)
        options = WatchOptions(args.in_flight, args.rate, args.seconds, args.count)
        watch(fleet, source, options, printed, actions)
    finally:
        fleet.close()
    return DeviceExit.DONE


def _hub_and_source(args):
    """(who is asked, what is watched). Raises as `Hub` and `_source`."""
    from edvit_tf.device.rpc import tls
    from edvit_tf.watch.hub import Hub

    _find_hub(args)
    own = None if args.insecure else tls.identity(args.identity)
    hub = Hub(server_address(args.server, "HUB"), own, args.timeout_ms / 1e3)
    try:
        return hub, _source(args, hub)
    except BaseException:
        hub.close()
        raise


def _find_hub(args) -> None:
    """Sets --server, and --insecure where it is the fleet of this machine."""
    from edvit_tf.errors import ConfigError

    if args.hub is None and (args.identity or args.insecure):
        taken = ""
        if args.microphone and re.fullmatch(r".+:\d+", args.microphone):
            taken = (
                f" {args.microphone!r} was taken as the DEVICE of --microphone: write HUB first."
            )
        raise ConfigError(
            f"--identity and --insecure go with HUB, HOST:PORT; give that too.{taken}"
        )
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
    check_sensors(args)
    if args.existing and args.folder is None:
        raise ConfigError("--existing goes with --folder DIR; a stream has no older files.")
    if args.hop and args.microphone is None and args.sensors is None:
        raise ConfigError(
            "--hop goes with --microphone or --sensors; give one of these, or leave it out."
        )
    if args.input_rate and args.microphone != "-":
        raise ConfigError("--input-rate goes with --microphone -; everything else says its own.")
    if args.fast and (args.folder is not None or args.sensors is not None):
        raise ConfigError("--fast goes with a file of --camera or --microphone, or with a pipe.")


def _source(args, hub):
    """What is watched. Raises SourceError, and ConfigError where the fleet takes other things."""
    from edvit_tf.watch.camera import Camera
    from edvit_tf.watch.folder import Folder

    spec = hub.spec
    if args.folder is not None:
        return Folder(args.folder, spec, _cut(spec), args.existing)
    if args.camera is not None:
        _check_kind("--camera", "pictures", spec.is_picture, spec)
        return Camera(from_environment(args.camera, "--camera"), spec, args.fast)
    _check_kind("--microphone", "sound", spec.is_sound, spec)
    return _microphone(args, spec)


def _microphone(args, spec):
    from edvit_tf.aggregate.framing import hop_samples
    from edvit_tf.watch.microphone import Microphone

    return Microphone(
        args.microphone,
        spec,
        hop_samples(spec, args.hop),
        fast=args.fast,
        pipe=sys.stdin.buffer if args.microphone == "-" else None,
        pipe_rate=args.input_rate or spec.sample_rate_hz,
    )


def _cut(spec):
    """How a folder's file becomes what is asked."""
    from edvit_tf.watch.windows import cut_recording

    return (lambda data: cut_recording(data, spec)) if spec.is_sound else (lambda data: [data])


def _check_kind(option: str, gives: str, fits: bool, spec) -> None:
    """Raises ConfigError."""
    from edvit_tf.errors import ConfigError

    if not fits:
        raise ConfigError(
            f"{option} gives {gives}, and this fleet takes {spec.item}s. Ask another fleet, or "
            "watch a --folder of such files."
        )
