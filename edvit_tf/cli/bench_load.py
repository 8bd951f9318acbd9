"""`edvit bench load`: a running fleet, asked at a given rate."""

import argparse
import os
from pathlib import Path

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.predict import MOST_FILE_BYTES, add_identity, server_address
from edvit_tf.cli.values import natural, positive, user_path
from edvit_tf.device.__main__ import positive as positive_number


def add_load(benches) -> None:
    """Adds `load` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "load", help="a running fleet at a given rate, whatever becomes of the requests before"
    )
    parser.add_argument("server", metavar="HUB", help="HOST:PORT of an aggregator")
    parser.add_argument(
        "--files",
        nargs="+",
        default=[],
        type=user_path,
        metavar="FILE",
        help="sent in turn as they are: pictures, recordings of one window, texts, folders of them "
        "(default: an input that is made)",
    )
    add_identity(parser, "no TLS")
    rates = parser.add_mutually_exclusive_group(required=True)
    rates.add_argument("--rate", type=positive_number, help="requests a second")
    rates.add_argument(
        "--rates", type=rate_list, help="several, one after the other, and the knee, e.g. 10,20,50"
    )

    parser.add_argument(
        "--seconds", type=positive_number, default=10.0, help="that count, a rate (default 10)"
    )
    parser.add_argument(
        "--warm-up",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="before them, at the same rate (default 2)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "--poisson",
        action="store_true",
        help="arrivals as of many clients that know nothing of each other (the default)",
    )
    shape.add_argument("--constant", action="store_true", help="arrivals at equal distances")
    parser.add_argument("--seed", type=natural, default=0, help="of arrivals and input (default 0)")
    parser.add_argument(
        "--most-in-flight",
        type=positive,
        default=256,
        metavar="N",
        help="more wait on this side; that time counts, and who waits too long has failed "
        "(default 256)",
    )
    parser.add_argument(
        "--connections",
        type=positive,
        default=1,
        help="over which requests go in turn; a hub lets one have 64 requests (default 1)",
    )
    parser.add_argument(
        "--timeout-ms",
        type=positive_number,
        default=5000.0,
        help="of each request, from when it was to be sent (default 5000)",
    )
    add_json(parser)
    parser.set_defaults(run=_bench_load)


def rate_list(text: str) -> tuple[float, ...]:
    """ "10,20.5" -> (10.0, 20.5), each once."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tuple(dict.fromkeys(positive_number(part) for part in parts)) or _no_rates(text)
    except argparse.ArgumentTypeError:
        return _no_rates(text)


def _no_rates(text: str):
    raise argparse.ArgumentTypeError(
        f"{text!r} is no list of requests a second, each above 0; write e.g. 10,20,50"
    )


def _seconds(text: str) -> float:
    """0 or more."""
    return 0.0 if text.strip() in ("0", "0.0") else positive_number(text)


def _bench_load(args) -> int:
    # before grpc is imported, which reads it once
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from edvit_tf.bench.load.figures import load_text
    from edvit_tf.bench.load.run import LoadOptions, bench_load
    from edvit_tf.device.rpc import tls

    options = LoadOptions(
        rates=(args.rate,) if args.rates is None else args.rates,
        seconds=args.seconds,
        warm_up_seconds=args.warm_up,
        poisson=not args.constant,
        seed=args.seed,
        most_in_flight=args.most_in_flight,
        connections=args.connections,
        timeout_ms=args.timeout_ms,
    )
    own = None if args.insecure else tls.identity(args.identity)
    result = bench_load(server_address(args.server, "HUB"), own, options, _contents(args.files))
    show(args, result, load_text(result))
    return 0


def _contents(paths: list[Path]) -> list[bytes]:
    """What the files hold. Raises the EdvitError of the first that cannot be read."""
    from edvit_tf.cli.given_files import given_files, read

    found = []
    for file in given_files(paths) if paths else ():
        if file.trouble is not None:
            raise file.trouble
        found.append(read(file, MOST_FILE_BYTES))
    return found
