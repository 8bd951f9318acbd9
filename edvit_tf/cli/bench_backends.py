"""`edvit bench backends`: fits by TensorFlow and by JAX."""

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import counts, positive


def add_backends(benches) -> None:
    """Adds `bench backends` to the benchmarks."""
    parser = benches.add_parser(
        "backends", help="fits by TensorFlow and by JAX, of one member and of several at once"
    )
    parser.add_argument(
        "--widths", type=counts, default=(64, 128, 192), help="d of the models (default 64,128,192)"
    )
    parser.add_argument("--layers", type=positive, default=12, help="default 12")
    parser.add_argument(
        "--image-size", type=positive, default=98, help="pixels a side, 3 channels (default 98)"
    )
    parser.add_argument("--patch-size", type=positive, default=14, help="default 14")
    parser.add_argument("--batch", type=positive, default=32, help="default 32")
    parser.add_argument(
        "--members", type=positive, default=10, help="fitted side by side (default 10)"
    )
    parser.add_argument("--steps", type=positive, default=5, help="of a fit (default 5)")
    parser.add_argument("--turns", type=positive, default=3, help="alternating turns (default 3)")
    add_json(parser)
    parser.set_defaults(run=_bench_backends)


def _bench_backends(args) -> int:
    from edvit_tf.bench.backends import backends_text, bench_backends

    result = bench_backends(
        args.widths,
        layers=args.layers,
        image_size=args.image_size,
        patch_size=args.patch_size,
        batch=args.batch,
        members=args.members,
        steps=args.steps,
        turns=args.turns,
    )
    show(args, result, backends_text(result))
    return 0
