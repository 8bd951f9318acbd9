"""`edvit bench heads`: milliseconds of every way of making attention narrower."""

import argparse
import re

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import positive
from edvit_tf.errors import ConfigError


def add_heads(benches) -> None:
    """Adds `heads` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "heads", help="milliseconds of every way of making attention narrower, beside merge's"
    )
    parser.add_argument("--model", default="vit_base", help="preset (default vit_base)")
    parser.add_argument(
        "--image-size", type=positive, default=224, help="pixels a side (default 224)"
    )
    parser.add_argument(
        "--patch-size", type=positive, help="pixels a side of a patch (default: the preset's)"
    )
    parser.add_argument("--kept", type=positive, default=2, help="heads kept (default 2)")
    parser.add_argument(
        "--shapes",
        type=_shapes,
        default=(),
        help="further ones, heads x dims, e.g. 6x20,3x40",
    )
    parser.add_argument("--threads", type=positive, default=1, help="default 1")
    parser.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    parser.add_argument("--runs", type=positive, default=40, help="of a turn (default 40)")
    add_json(parser)
    parser.set_defaults(run=_bench_heads)


def _shapes(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", part.strip())
        if match is None:
            raise argparse.ArgumentTypeError(f"{part!r} is not heads x dims, as 4x32")
        found.append((int(match[1]), int(match[2])))
    return tuple(found)


def _bench_heads(args) -> int:
    from edvit_tf.bench.heads import bench_heads, heads_text
    from edvit_tf.models import preset
    from edvit_tf.models.vit.config import ViTConfig

    size = (args.image_size, args.image_size, 3)
    changes = {} if args.patch_size is None else {"patch_size": args.patch_size}
    base = preset(args.model, size, 10, **changes)
    if not isinstance(base, ViTConfig):
        raise ConfigError(f"{args.model} is no Vision Transformer; its attention cannot be cut.")

    rows = bench_heads(
        base, args.kept, args.shapes, threads=args.threads, runs=args.runs, turns=args.turns
    )
    show(args, rows, heads_text(rows))
    return 0
