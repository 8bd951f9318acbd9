"""`edvit serve`, `edvit relay`, `edvit push`: the aggregator of a fleet, one that stands between it
and some of the devices, and bundles for these.

`predict.py` has the client.
"""

from pathlib import Path

from edvit_tf.cli.predict import add_identity, add_predict
from edvit_tf.cli.values import user_path
from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.rpc.process_limits import ends_without_memory, prepare_server


def add_fleet(commands) -> None:
    """Adds `serve`, `relay`, `predict` and `push` to the subparsers of `edvit`."""
    _add_serve(commands)
    _add_relay(commands)
    add_predict(commands)
    _add_push(commands)


def _add_serve(commands) -> None:
    serve = commands.add_parser(
        "serve", help="the aggregator: asks the devices, fuses, answers clients"
    )
    _add_server(serve, "no TLS, to clients and devices; on loopback addresses only")

    serve.add_argument(
        "--min-submodels",
        type=int,
        metavar="N",
        help="with fewer a request is UNAVAILABLE, with N or "
        "more it is answered, and flagged where some are missing (default: all)",
    )
    serve.add_argument(
        "--deadline-ms",
        type=positive_number,
        default=1000.0,
        help="of requests that bring none, and the most that one gets (default 1000)",
    )
    serve.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="HTTP: the live page, the Open Inference Protocol under /v2, Prometheus metrics, "
        "/healthz",
    )
    serve.add_argument(
        "--login-token",
        type=user_path,
        metavar="FILE",
        help="on the HTTP port: who knows this file's first line may look and ask (needed beyond "
        "loopback, or --https)",
    )
    serve.add_argument(
        "--https",
        action="store_true",
        help="on the HTTP port: TLS with --identity; who shows a client's certificate may look and "
        "ask",
    )

    serve.add_argument(
        "--traces",
        metavar="URL",
        help="of an OpenTelemetry collector (OTLP over HTTP), e.g. http://collector.local:4318 "
        "(default: as OTEL_EXPORTER_OTLP_ENDPOINT says, else no traces)",
    )

    # what gRPC says belongs in the log of a service
    serve.set_defaults(run=_serve, shows_native_log=True)


def _add_relay(commands) -> None:
    relay = commands.add_parser(
        "relay", help="a device of an aggregator that has devices of its own, e.g. those of a rack"
    )
    _add_server(relay, "no TLS, to those who ask and to devices; on loopback addresses only")
    relay.add_argument(
        "--deadline-ms",
        type=positive_number,
        default=10_000.0,
        help="of requests that bring none, and the most that one gets (default 10000)",
    )
    relay.add_argument(
        "--metrics", metavar="HOST:PORT", help="HTTP: Prometheus metrics and /healthz"
    )
    relay.set_defaults(run=_relay, shows_native_log=True)


def _add_server(parser, insecure: str) -> None:
    """The options of both; `insecure` is the help of --insecure."""
    parser.add_argument("bundle", type=user_path)
    parser.add_argument(
        "--devices",
        required=True,
        help="HOST:PORT,HOST:PORT,... or a devices.toml with host and port",
    )
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    add_identity(parser, insecure)
    parser.add_argument(
        "--insecure-anywhere", action="store_true", help="with --insecure: on any address"
    )
    parser.add_argument(
        "--print-unit", action="store_true", help="print a systemd unit for it and end"
    )


def _add_push(commands) -> None:
    push = commands.add_parser(
        "push", help="copy a bundle to a device (rsync over ssh) and install it there"
    )
    push.add_argument("bundle", type=user_path)
    push.add_argument("device", metavar="[USER@]HOST:STORE", help="e.g. pi-0.local:/opt/gtzan")
    push.add_argument(
        "--submodel", type=int, action="append", help="only this sub-model (may be given again)"
    )
    push.add_argument(
        "--sudo", action="store_true", help="install with sudo, for a store that belongs to root"
    )
    push.add_argument(
        "--python",
        default="/opt/edvit/bin/python",
        help="of the device (default /opt/edvit/bin/python)",
    )

    # what rsync and ssh say is for who typed it
    push.set_defaults(run=_push, shows_native_log=True)


def _serve(args) -> int:
    with ends_without_memory():
        return _served(args)


def _served(args) -> int:
    if not args.print_unit:
        prepare_server()  # before anything is loaded
    from edvit_tf.aggregate.server import AggregatorOptions, serve

    _check_insecure(args)
    options = AggregatorOptions(
        bundle=args.bundle,
        devices=args.devices,
        listen=args.listen,
        identity=args.identity,
        insecure_anywhere=args.insecure_anywhere,
        min_submodels=args.min_submodels,
        deadline_ms=args.deadline_ms,
        metrics=args.metrics,
        login_token=args.login_token,
        https=args.https,
        traces=args.traces,
    )
    return _printed_unit(options) if args.print_unit else serve(options)


def _relay(args) -> int:
    with ends_without_memory():
        return _relayed(args)


def _relayed(args) -> int:
    if not args.print_unit:
        prepare_server()  # before anything is loaded
    from edvit_tf.aggregate.server import RelayOptions, serve_relay

    _check_insecure(args)
    options = RelayOptions(
        bundle=args.bundle,
        devices=args.devices,
        listen=args.listen,
        identity=args.identity,
        insecure_anywhere=args.insecure_anywhere,
        deadline_ms=args.deadline_ms,
        metrics=args.metrics,
    )
    return _printed_unit(options) if args.print_unit else serve_relay(options)


def _check_insecure(args) -> None:
    from edvit_tf.errors import ConfigError

    if args.insecure_anywhere and not args.insecure:
        raise ConfigError(
            "--insecure-anywhere is the second word after --insecure; give both, or --identity."
        )


def _printed_unit(options) -> int:
    from edvit_tf.aggregate.server import AggregatorOptions
    from edvit_tf.aggregate.systemd_unit import relay_unit, unit
    from edvit_tf.device.rpc.systemd_unit import warn_of_unreadable

    print(unit(options) if isinstance(options, AggregatorOptions) else relay_unit(options), end="")
    files = [Path(options.devices)] if options.devices.endswith(".toml") else []
    warn_of_unreadable(options, *files)
    return 0


def _push(args) -> int:
    from edvit_tf.operate.push import push

    return push(args.bundle, args.device, args.submodel, python=args.python, sudo=args.sudo)
