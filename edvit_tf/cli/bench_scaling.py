"""`edvit bench scaling`: a recipe on Ray clusters of this machine."""

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import counts, user_path


def add_scaling(benches) -> None:
    """Adds `scaling` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "scaling",
        help="a recipe on 1, 2, 3 Ray nodes of one CPU each, on this machine: seconds, and whether "
        "the files are the same (needs the extra [ray])",
        epilog="what follows -- goes to the recipe, e.g. -- --fleet classes --devices 3",
    )
    parser.add_argument("recipe", type=user_path, help="e.g. recipes/digits.py")
    parser.add_argument("--nodes", type=counts, default=(1, 2, 3), help="numbers (default 1,2,3)")
    parser.add_argument(
        "--kill",
        action="store_true",
        help="once more with the last number, of which one is killed in the middle of a fit",
    )
    add_json(parser)
    parser.set_defaults(run=_bench_scaling)


def _bench_scaling(args) -> int:
    from edvit_tf.bench.scaling import bench_scaling, rows_told, scaling_text

    rows = bench_scaling(args.recipe, args.nodes, args.options, args.kill)
    show(args, rows_told(rows), scaling_text(rows))
    return 0
