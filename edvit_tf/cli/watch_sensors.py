"""`edvit watch --sensors`: several microphones of one room, each with its workers."""

import sys

from edvit_tf.cli.watch_actions import from_environment


def room_of(args, say):
    """(the workers, what they hear), of --sensors and --bundle; says which sub-models are deaf.

    Raises ConfigError, BundleError, SourceError.
    """
    from edvit_tf.aggregate.framing import hop_samples
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.device.model.bundle_input import bundle_input
    from edvit_tf.device.rpc import tls
    from edvit_tf.errors import ConfigError
    from edvit_tf.watch.room import check_sources, load_room
    from edvit_tf.watch.sensors import Sensors
    from edvit_tf.watch.workers import Workers

    bundle = open_bundle(args.bundle)
    spec = bundle_input(bundle).spec
    if not spec.is_sound:
        raise ConfigError(
            f"--sensors are microphones, and {args.bundle} takes {spec.item}s. Give a bundle of "
            "recordings."
        )
    names = [entry.name for entry in bundle.sub_models]
    room = load_room(args.sensors, names)
    sources = [
        from_environment(sensor.source, f"{args.sensors.name}: source of {sensor.name}")
        for sensor in room.sensors
    ]
    check_sources(room.sensors, sources, args.sensors.name)
    stdin = sys.stdin.buffer if "-" in sources else None
    heard = Sensors(room, sources, spec, hop_samples(spec, args.hop), stdin)

    own = None if args.insecure else tls.identity(args.identity)
    workers = Workers(bundle, room.workers, own, args.timeout_ms / 1e3)
    deaf = [name for name in names if name not in room.workers]
    if deaf:
        say(f"{args.sensors.name} has no sensor for {', '.join(deaf)}: every answer is degraded.")
    return workers, heard


def check_sensors(args) -> None:
    """Raises ConfigError for options that do not go together; ends where the workers' TLS is not
    said.
    """
    from edvit_tf.errors import ConfigError

    if args.sensors is None:
        if args.bundle is not None:
            raise ConfigError("--bundle goes with --sensors FILE; a HUB says what it takes.")
        return
    if args.hub is not None:
        raise ConfigError(
            f"HUB is {args.hub!r}, and --sensors asks the workers themselves: an aggregator sends "
            "one input to all of them. Leave HUB out."
        )
    if args.bundle is None:
        raise ConfigError(
            "--sensors needs --bundle FOLDER: the answers of its workers are fused here."
        )
    if not (args.identity or args.insecure):
        args.wrong_usage("--sensors takes one of --identity FOLDER and --insecure")
