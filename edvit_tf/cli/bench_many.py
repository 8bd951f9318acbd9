"""`edvit bench availability` and `edvit bench many`: fleets that are too large to be had here."""

from dataclasses import asdict

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import counts, natural, positive
from edvit_tf.device.__main__ import positive as positive_number


def add_availability(benches) -> None:
    """Adds `availability` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "availability",
        help="how often planned fleets can answer with so many devices down: simulated, and exact",
    )
    parser.add_argument(
        "--devices", type=counts, default=(10, 100, 1000), help="default 10,100,1000"
    )
    parser.add_argument(
        "--replicas", type=counts, default=(1, 2, 3), help="copies of each sub-model (1,2,3)"
    )
    parser.add_argument(
        "--failed",
        type=counts,
        default=(1, 2, 5, 10, 50, 100),
        help="devices that are down, or racks (default 1,2,5,10,50,100; those that there are)",
    )
    parser.add_argument(
        "--least",
        type=float,
        default=0.9,
        help="share of the sub-models that an answer needs (default 0.9)",
    )
    parser.add_argument(
        "--rack", type=positive, metavar="K", help="racks of K devices fail whole (default: none)"
    )
    parser.add_argument(
        "--apart",
        action="store_true",
        help="racks: devices are listed one of each rack in turn, not rack by rack",
    )
    parser.add_argument(
        "--p",
        type=float,
        metavar="SHARE",
        help="also a table where each device is down for this share of the time, by chance",
    )
    parser.add_argument("--trials", type=positive, default=2000, help="default 2000")
    parser.add_argument("--seed", type=natural, default=0)
    add_json(parser)
    parser.set_defaults(run=_bench_availability)


def _bench_availability(args) -> int:
    from edvit_tf.bench.availability import (
        availability_text,
        bench_availability,
        by_chance,
        chance_text,
    )

    drawn = (args.least, args.trials, args.seed)
    rows = bench_availability(
        args.devices, args.replicas, args.failed, *drawn, args.rack, args.apart
    )
    result = {"failed": [asdict(row) for row in rows]}
    text = availability_text(rows, args.trials)
    if args.p is not None:
        chances = by_chance(args.devices, args.replicas, args.p, *drawn)
        result["chance"] = [asdict(row) for row in chances]
        text += f"\n\n{chance_text(chances)}"
    show(args, result, text)
    return 0


def add_many(benches) -> None:
    """Adds `many` to the subparsers of `edvit bench`."""
    from edvit_tf.bench.many import (
        ANSWER_MS,
        CPU_MS_A_WORKER,
        OUT_BYTES,
        PROBE_MS,
        RELAY_ANSWER_MS,
    )

    parser = benches.add_parser(
        "many",
        help="CPU and bytes of an answer of thousands of devices: on paper, by measured constants",
    )
    parser.add_argument("--devices", type=positive, default=10_000, help="default 10000")
    parser.add_argument(
        "--fan-out",
        type=positive,
        metavar="K",
        help="a tree of aggregators, each of which asks K (default: one asks all)",
    )
    parser.add_argument(
        "--cpu-ms",
        type=positive_number,
        default=CPU_MS_A_WORKER,
        help=f"of the aggregator, for each that it asks (default {CPU_MS_A_WORKER:g}, measured)",
    )
    parser.add_argument(
        "--answer-ms",
        type=positive_number,
        default=ANSWER_MS,
        help=f"of these, for the answer (default {ANSWER_MS:g}, measured)",
    )
    parser.add_argument(
        "--relay-answer-ms",
        type=positive_number,
        default=RELAY_ANSWER_MS,
        help=f"of a relay, for an answer that it passes on (default {RELAY_ANSWER_MS:g}, measured)",
    )
    parser.add_argument(
        "--probe-ms",
        type=positive_number,
        default=PROBE_MS,
        help=f"a second, for each that it looks at (default {PROBE_MS:g}, measured)",
    )
    parser.add_argument(
        "--bytes", type=positive, default=OUT_BYTES, help=f"of an input (default {OUT_BYTES})"
    )
    parser.add_argument(
        "--mbit", type=positive, default=1000, help="of an aggregator's link (default 1000)"
    )
    add_json(parser)
    parser.set_defaults(run=_bench_many)


def _bench_many(args) -> int:
    from edvit_tf.bench.many import estimate, estimate_text

    constants = {
        "cpu_ms": args.cpu_ms,
        "answer_ms": args.answer_ms,
        "relay_answer_ms": args.relay_answer_ms,
        "probe_ms": args.probe_ms,
        "out_bytes": args.bytes,
        "link_mbit": args.mbit,
    }
    found = estimate(args.devices, args.fan_out, **constants)
    show(args, asdict(found), estimate_text(found, **constants))
    return 0
